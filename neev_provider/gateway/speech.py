"""POST /v1/audio/speech: checked, routed, and the audio relayed as it arrives. Called by `app.py`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from neev_provider.contract import parse_speech
from neev_provider.gateway.routed_call import call_by_plan, find_group
from neev_provider.usage import speech_cost_nanos

if TYPE_CHECKING:
    from neev_provider.admission import Principal
    from neev_provider.gateway.exchange import Exchange
    from neev_provider.gateway.services import Services
    from neev_provider.routed import RoutedDeployment
    from neev_provider.upstream import AudioStream

__all__ = ["speech"]


async def speech(exchange: Exchange, services: Services, principal: Principal) -> None:
    """Answer a speech request.

    Raises:
        NeevError: before anything was sent.
        ClientGoneError: the client went away.
    """
    request = parse_speech(await exchange.body(services.limits))
    exchange.notes |= {"model": request.model, "characters": request.billable_characters}
    group = find_group(services, request.model, principal, "speech")
    for deployment in group.deployments:
        request.check_voice(deployment.model)

    async def attempt(deployment: RoutedDeployment) -> AudioStream:
        body = request.encode(model=deployment.model.id, refused=deployment.model.refused_fields)
        return await services.upstream.open_speech(deployment.upstream, body, timeouts=deployment.timeouts)

    async with exchange.while_client_stays():
        with ExitStack() as held:
            deployment, audio = await call_by_plan(services, group, principal, held, attempt)
            price = deployment.model.price
            if price is not None:
                exchange.notes["cost_nanos"] = speech_cost_nanos(price, request.billable_characters)
            headers = {
                b"content-type": audio.content_type.encode("latin-1"),
                b"x-neev-path": b"fast",
                b"x-neev-model": deployment.model.id.encode(),
            }
            async with audio:
                await exchange.begin(200, headers)
                async for data in audio:
                    await exchange.write(data)
                await exchange.end()
