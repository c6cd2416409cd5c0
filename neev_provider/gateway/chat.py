"""POST /v1/chat/completions: checked, routed, relayed; the bytes of upstream's answer are not rebuilt.

What the contract changes is changed: `model` is the name that the client asked for, and a stream's usage is shown
only to a client that asked. Called by `app.py`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec

from neev_provider.admission import Demand
from neev_provider.contract import parse_chat
from neev_provider.errors import NeevError
from neev_provider.gateway.intake import output_cap, take_in
from neev_provider.gateway.relay import relay
from neev_provider.gateway.routed_call import answer_call, call_by_plan
from neev_provider.sse import encode_error, encode_event
from neev_provider.usage import StreamMeter, estimate_tokens, parse_usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from neev_provider.contract import ChatRequest
    from neev_provider.gateway.exchange import Exchange
    from neev_provider.gateway.intake import Call
    from neev_provider.gateway.routed_call import Place
    from neev_provider.gateway.services import Services
    from neev_provider.routed import RoutedDeployment
    from neev_provider.upstream import ChatStream, Response
    from neev_provider.usage import Usage

__all__ = ["chat"]

_STREAM_HEADERS: Final = {
    b"content-type": b"text/event-stream; charset=utf-8",
    b"cache-control": b"no-cache",
    b"x-accel-buffering": b"no",  # nginx in front would collect the chunks
    b"x-neev-path": b"fast",
}


async def chat(exchange: Exchange, services: Services) -> None:
    """Answer a chat request.

    Raises:
        NeevError: before anything was sent.
        ClientGoneError: the client went away.
    """
    call = await take_in(exchange, services, "chat", parse_chat, _demand)
    if call is not None:
        exchange.facts.is_stream = call.request.stream
        await answer_call(exchange, services, call, _stream if call.request.stream else _whole)


def _demand(request: ChatRequest, deployments: Sequence[RoutedDeployment]) -> Demand:
    """Return the worst that the request can cost: at the dearest of the deployments that it may end at."""
    prompt_nanos, completion_nanos, cap = _dearest(tuple(deployments))
    return Demand(
        request.model,
        prompt_tokens=estimate_tokens(request.prompt_bytes),
        max_tokens=request.max_tokens,
        output_cap=cap,
        choices=request.n,
        prompt_nanos=prompt_nanos,
        completion_nanos=completion_nanos,
    )


@lru_cache(maxsize=256)
def _dearest(deployments: tuple[RoutedDeployment, ...]) -> tuple[int | None, int | None, int]:
    """Return the highest nano-USD per prompt token and per token produced, and the most that may be produced.

    The prices are None if any of the deployments is unpriced. None of this changes: a deployment is made once.
    """
    prices = [deployment.model.price for deployment in deployments]
    known = [price for price in prices if price is not None]
    cap = max(map(output_cap, deployments))
    if not known or len(known) < len(prices):
        return None, None, cap
    return max(price.prompt_nanos for price in known), max(price.completion_nanos for price in known), cap


def _body(call: Call[ChatRequest], deployment: RoutedDeployment, *, include_usage: bool) -> bytes:
    request, model = call.request, deployment.model
    limits = [call.grant.max_tokens, deployment.max_tokens if request.max_tokens is None else None]
    return request.encode(
        model=model.id,
        include_usage=include_usage,
        max_tokens=min((limit for limit in limits if limit is not None), default=None),
        refused=model.refused_fields,
    )


async def _whole(exchange: Exchange, services: Services, call: Call[ChatRequest], place: Place) -> None:
    async def attempt(deployment: RoutedDeployment) -> Response:
        body = _body(call, deployment, include_usage=False)
        return await services.upstream.chat(
            deployment.upstream, body, timeouts=deployment.timeouts, more_head=call.facts.upstream_head
        )

    deployment, response = await call_by_plan(services, call, place, attempt)
    cost = call.bill.note_tokens(deployment, _usage_of(call.request, response))
    fields = response.fields
    body, name = response.body, msgspec.json.encode(call.request.model)
    if fields.get("model") != name:
        body = msgspec.json.encode({**fields, "model": msgspec.Raw(name)})
    headers = {b"x-neev-path": b"fast", b"x-neev-model": deployment.model.id.encode(), **call.grant.headers}
    if cost is not None:
        headers[b"x-neev-cost-usd"] = b"%d.%09d" % divmod(cost, 10**9)
    call.bill.settle()  # before the client can ask again: a limit of one call at a time is free by then
    await exchange.reply(200, body, headers)


def _usage_of(request: ChatRequest, response: Response) -> Usage:
    """Return what the answer used; where upstream does not say, what it would have counted as a stream."""
    raw = response.fields.get("usage")
    usage = None if raw is None else parse_usage(msgspec.json.decode(raw))
    if usage is not None:
        return usage
    meter = StreamMeter(request.prompt_bytes)
    choices = msgspec.json.decode(response.fields.get("choices", msgspec.Raw(b"[]")))
    choices = choices if isinstance(choices, list) else []
    deltas = [{"delta": choice.get("message")} for choice in choices if isinstance(choice, dict)]
    meter.observe(encode_event(msgspec.json.encode({"choices": deltas})))
    return meter.usage()


async def _stream(exchange: Exchange, services: Services, call: Call[ChatRequest], place: Place) -> None:
    async def attempt(deployment: RoutedDeployment) -> ChatStream:
        return await services.upstream.open_stream(
            deployment.upstream,
            lambda include_usage: _body(call, deployment, include_usage=include_usage),
            model=deployment.model.id,
            timeouts=deployment.stream_timeouts,
            more_head=call.facts.upstream_head,
        )

    deployment, stream = await call_by_plan(services, call, place, attempt)
    request = call.request
    meter = StreamMeter(request.prompt_bytes, request.n)
    async with stream:
        served_by = {b"x-neev-model": deployment.model.id.encode()}
        await exchange.begin(200, {**_STREAM_HEADERS, **served_by, **call.grant.headers})
        try:
            await relay(exchange, request, stream, meter)
        except NeevError as error:
            exchange.notes["error"] = error.code
            await exchange.write(encode_error(error))
        finally:
            # Also when the client has left: what was produced is charged.
            call.bill.note_tokens(deployment, meter.usage())
        call.bill.settle()
        await exchange.end()
        if meter.done:
            await stream.finish()
