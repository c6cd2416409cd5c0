"""Passes a chat stream on: one event in is one event out, its bytes not rebuilt, its usage and errors noticed.

The hot path of the hot path: what is done here is done for every chunk. Called by `chat.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from neev_provider.errors import UpstreamError
from neev_provider.sse import EventSplitter, Signal, error_of, terminated, with_model, without_usage

if TYPE_CHECKING:
    from neev_provider.contract import ChatRequest
    from neev_provider.errors import NeevError
    from neev_provider.gateway.exchange import Exchange
    from neev_provider.upstream import ChatStream
    from neev_provider.usage import StreamMeter

__all__ = ["relay"]


async def relay(exchange: Exchange, request: ChatRequest, stream: ChatStream, meter: StreamMeter) -> None:
    """Pass the events on as they come, those of one read in one write, up to and with `[DONE]`.

    Raises:
        NeevError: upstream failed, or stopped without an end.
    """
    splitter = EventSplitter()
    name = msgspec.json.encode(request.model)
    shows_usage = request.include_usage
    out: list[bytes] = []
    while data := await stream.read():
        out.clear()
        failure: NeevError | None = None
        for event in splitter.feed(data):
            failure = _pass_on(event, name, meter, out, shows_usage=shows_usage)
            if failure is not None or meter.done:
                break
        if out:
            await exchange.write(out[0] if len(out) == 1 else b"".join(out))
        if failure is not None:
            raise failure
        if meter.done:
            return
    out.clear()
    failures = [
        _pass_on(terminated(event), name, meter, out, shows_usage=shows_usage) for event in splitter.flush()
    ]
    await exchange.write(b"".join(out))
    for failure in filter(None, failures):
        raise failure
    if not meter.done and meter.finish_reason is None:
        raise UpstreamError("upstream_bad_response", "The model provider's stream broke off.")


def _pass_on(
    event: bytes, name: bytes, meter: StreamMeter, out: list[bytes], *, shows_usage: bool
) -> NeevError | None:
    """Append to `out` what the client is to see of an event; return the failure that it reports, if any."""
    signal = meter.observe(event)
    if signal is None:
        out.append(with_model(event, name))
    elif signal is Signal.ERROR:
        return error_of(event)
    elif signal is Signal.USAGE:
        shown: bytes | None = event if shows_usage else without_usage(event)
        if shown is not None:
            out.append(with_model(shown, name))
    else:
        out.append(event)
    return None
