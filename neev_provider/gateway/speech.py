"""POST /v1/audio/speech: checked, routed, and the audio relayed as it arrives. Called by `app.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neev_provider.admission import Demand
from neev_provider.contract import parse_speech
from neev_provider.gateway.intake import take_in
from neev_provider.gateway.routed_call import answer_call, call_by_plan
from neev_provider.usage import speech_cost_nanos

if TYPE_CHECKING:
    from collections.abc import Sequence

    from neev_provider.contract import SpeechRequest
    from neev_provider.gateway.exchange import Exchange
    from neev_provider.gateway.intake import Call
    from neev_provider.gateway.routed_call import Place
    from neev_provider.gateway.services import Services
    from neev_provider.routed import RoutedDeployment
    from neev_provider.upstream import AudioStream

__all__ = ["speech"]


async def speech(exchange: Exchange, services: Services) -> None:
    """Answer a speech request.

    Raises:
        NeevError: before anything was sent.
        ClientGoneError: the client went away.
    """
    call = await take_in(exchange, services, "speech", parse_speech, _demand)
    if call is not None:
        exchange.notes["characters"] = call.request.billable_characters
        await answer_call(exchange, services, call, _answer)


def _demand(request: SpeechRequest, deployments: Sequence[RoutedDeployment]) -> Demand:
    for deployment in deployments:
        request.check_voice(deployment.model)
    costs = [_cost(request, deployment) for deployment in deployments]
    known = [cost for cost in costs if cost is not None]
    per_token = 0 if len(known) == len(costs) else None
    return Demand(
        request.model,
        prompt_nanos=per_token,
        completion_nanos=per_token,
        flat_nanos=max(known, default=0),
        characters=request.billable_characters,
    )


def _cost(request: SpeechRequest, deployment: RoutedDeployment) -> int | None:
    price = deployment.model.price
    return None if price is None else speech_cost_nanos(price, request.billable_characters)


async def _answer(exchange: Exchange, services: Services, call: Call[SpeechRequest], place: Place) -> None:
    request = call.request

    async def attempt(deployment: RoutedDeployment) -> AudioStream:
        body = request.encode(model=deployment.model.id, refused=deployment.model.refused_fields)
        return await services.upstream.open_speech(
            deployment.upstream, body, timeouts=deployment.timeouts, more_head=call.facts.upstream_head
        )

    deployment, audio = await call_by_plan(services, call, place, attempt)
    call.bill.note_speech(deployment, request.billable_characters)
    headers = {
        b"content-type": audio.content_type.encode("latin-1"),
        b"x-neev-path": b"fast",
        b"x-neev-model": deployment.model.id.encode(),
        **call.grant.headers,
    }
    async with audio:
        await exchange.begin(200, headers)
        async for data in audio:
            await exchange.write(data)
        call.bill.settle()
        await exchange.end()
