"""`POST /v1/audio/speech`: model and voice against the catalog, then audio as the engine speaks it.

Called by `app.py`, which has checked key, faults and the body's shape.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from neev_provider.emulator.engine import SpeechCall
from neev_provider.emulator.faults import MAX_STALL_SECONDS
from neev_provider.emulator.refusal import Refusal
from neev_provider.emulator.steering import Steering, read_steering

if TYPE_CHECKING:
    from neev_provider.catalog import Model
    from neev_provider.emulator.engine import Engine
    from neev_provider.emulator.exchange import Exchange
    from neev_provider.emulator.faults import Faults
    from neev_provider.emulator.stats import Record
    from neev_provider.emulator.steering import Lines

__all__ = ["answer_speech", "build_call"]

_PLAIN: Final = Steering()


def build_call(body: dict[str, Any], model: Model, lines: Lines, echo: str | None) -> SpeechCall:
    """Return what an engine is asked, from a checked request.

    Raises:
        Refusal: the model has no such voice, or the steering is wrong.
    """
    voice = body["voice"]
    if model.voices is not None and voice not in model.voices:
        raise Refusal(
            400,
            "invalid_value",
            f"'voice' must be one of {', '.join(model.voices)}.",
            param="voice",
            rule="voice:unknown",
        )
    steering = echo if echo is not None else lines.echo
    return SpeechCall(
        model=model.id,
        text=lines.text,
        voice=voice,
        speed=body.get("speed", 1.0),
        steering=_PLAIN if steering is None else read_steering(steering),
    )


async def answer_speech(
    exchange: Exchange, engine: Engine, call: SpeechCall, faults: Faults, record: Record
) -> None:
    """Speak; where a fault counts chunks, it counts the parts that the engine makes.

    Raises:
        ClientGone: the client left.
    """
    record.characters = len(call.text)
    sent = 0
    ends = {faults.cut_after, faults.stall_after} - {None}
    async with exchange.watching(), aclosing(engine.speak(call)) as parts:
        part = await anext(parts)
        await exchange.start(200, b"audio/mpeg")
        while sent not in ends:
            await exchange.write(part)
            sent += 1
            record.audio_bytes += len(part)
            following = None if sent in ends else await anext(parts, b"")
            if following == b"":
                await exchange.write(b"", last=True)
                return
            part = following or b""
    if sent == faults.cut_after:
        await exchange.drop()
    else:
        await exchange.stall(MAX_STALL_SECONDS)
