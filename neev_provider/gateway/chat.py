"""POST /v1/chat/completions: checked, routed, relayed; the bytes of upstream's answer are not rebuilt.

What the contract changes is changed: `model` is the name that the client asked for, and a stream's usage is shown
only to a client that asked. Called by `app.py`.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import msgspec

from neev_provider.contract import parse_chat
from neev_provider.errors import NeevError
from neev_provider.gateway.relay import relay
from neev_provider.gateway.routed_call import call_by_plan, find_group
from neev_provider.sse import encode_error, encode_event
from neev_provider.usage import StreamMeter, cost_nanos, parse_usage

if TYPE_CHECKING:
    from neev_provider.admission import Principal
    from neev_provider.contract import ChatRequest
    from neev_provider.gateway.exchange import Exchange
    from neev_provider.gateway.services import Services
    from neev_provider.routed import RoutedDeployment
    from neev_provider.routing import Group
    from neev_provider.upstream import ChatStream, Response
    from neev_provider.usage import Usage

__all__ = ["chat"]

_STREAM_HEADERS: Final = {
    b"content-type": b"text/event-stream; charset=utf-8",
    b"cache-control": b"no-cache",
    b"x-accel-buffering": b"no",  # nginx in front would collect the chunks
    b"x-neev-path": b"fast",
}


async def chat(exchange: Exchange, services: Services, principal: Principal) -> None:
    """Answer a chat request.

    Raises:
        NeevError: before anything was sent.
        ClientGoneError: the client went away.
    """
    request = parse_chat(await exchange.body(services.limits))
    exchange.notes["model"] = request.model
    group = find_group(services, request.model, principal, "chat")
    async with exchange.while_client_stays():
        with ExitStack() as held:
            answer = _stream if request.stream else _whole
            await answer(exchange, services, principal, request, group, held)


def _body(request: ChatRequest, deployment: RoutedDeployment, *, include_usage: bool) -> bytes:
    limit = deployment.max_tokens if request.max_tokens is None else None
    model = deployment.model
    return request.encode(
        model=model.id, include_usage=include_usage, max_tokens=limit, refused=model.refused_fields
    )


async def _whole(
    exchange: Exchange,
    services: Services,
    principal: Principal,
    request: ChatRequest,
    group: Group,
    held: ExitStack,
) -> None:
    async def attempt(deployment: RoutedDeployment) -> Response:
        body = _body(request, deployment, include_usage=False)
        return await services.upstream.chat(deployment.upstream, body, timeouts=deployment.timeouts)

    deployment, response = await call_by_plan(services, group, principal, held, attempt)
    fields = response.fields
    body, name = response.body, msgspec.json.encode(request.model)
    if fields.get("model") != name:
        body = msgspec.json.encode({**fields, "model": msgspec.Raw(name)})
    usage = _usage_of(request, response)
    headers = {b"x-neev-path": b"fast", b"x-neev-model": deployment.model.id.encode()}
    cost = _note(exchange, deployment, usage)
    if cost is not None:
        headers[b"x-neev-cost-usd"] = b"%d.%09d" % divmod(cost, 10**9)
    await exchange.reply(200, body, headers)


def _usage_of(request: ChatRequest, response: Response) -> Usage:
    """Return what the answer used; where upstream does not say, what it would have counted as a stream."""
    raw = response.fields.get("usage")
    usage = None if raw is None else parse_usage(msgspec.json.decode(raw))
    if usage is not None:
        return usage
    meter = StreamMeter(request.prompt_bytes)
    choices = msgspec.json.decode(response.fields.get("choices", msgspec.Raw(b"[]")))
    deltas = [{"delta": choice.get("message")} for choice in choices if isinstance(choice, dict)]
    meter.observe(encode_event(msgspec.json.encode({"choices": deltas})))
    return meter.usage()


async def _stream(
    exchange: Exchange,
    services: Services,
    principal: Principal,
    request: ChatRequest,
    group: Group,
    held: ExitStack,
) -> None:
    async def attempt(deployment: RoutedDeployment) -> ChatStream:
        return await services.upstream.open_stream(
            deployment.upstream,
            lambda include_usage: _body(request, deployment, include_usage=include_usage),
            model=deployment.model.id,
            timeouts=deployment.stream_timeouts,
        )

    deployment, stream = await call_by_plan(services, group, principal, held, attempt)
    meter = StreamMeter(request.prompt_bytes)
    async with stream:
        await exchange.begin(200, {**_STREAM_HEADERS, b"x-neev-model": deployment.model.id.encode()})
        try:
            await relay(exchange, request, stream, meter)
        except NeevError as error:
            exchange.notes["error"] = error.code
            await exchange.write(encode_error(error))
        finally:
            # Also when the client has left: what was produced is charged.
            _note(exchange, deployment, meter.usage())
        await exchange.end()
        if meter.done:
            await stream.finish()


def _note(exchange: Exchange, deployment: RoutedDeployment, usage: Usage) -> int | None:
    """Note tokens and cost for the access log; return the cost in nano-USD, None if the model is unpriced."""
    price = deployment.model.price
    cost = None if price is None else cost_nanos(price, usage)
    exchange.notes |= {
        "upstream_model": deployment.model.id,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "estimated": usage.estimated,
        "cost_nanos": cost,
    }
    return cost
