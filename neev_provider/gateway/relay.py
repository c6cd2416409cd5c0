"""Passes a chat stream on: one event in is one event out, its bytes not rebuilt, its usage and errors noticed.

The hot path of the hot path: what is done here is done for every chunk, most of it in the call that brings the bytes
from upstream's connection, so that no task has to be woken. Called by `chat.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

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
    work = _Relay(request, meter)
    write = exchange.write_now
    if write is None:
        await _by_reads(exchange, stream, work)
    else:

        def pass_on(data: bytes) -> bool:
            out = work.digest(data)
            return (not out or write(out)) and not work.is_over

        while not await stream.pump(pass_on) and not work.is_over:
            await exchange.until_writable()
    if not work.is_over:
        await exchange.write(work.rest())
    if work.failure is not None:
        raise work.failure
    if not meter.done and meter.finish_reason is None:
        raise UpstreamError("upstream_bad_response", "The model provider's stream broke off.")


async def _by_reads(exchange: Exchange, stream: ChatStream, work: _Relay) -> None:
    """Do so on a server that takes a body through `send` alone."""
    while not work.is_over and (data := await stream.read()):
        out = work.digest(data)
        if out:
            await exchange.write(out)


class _Relay:
    """What is known of a stream while it passes.

    Attributes:
        failure: what upstream reported in place of an event.
    """

    __slots__ = ("_meter", "_name", "_shows_usage", "_splitter", "failure")

    def __init__(self, request: ChatRequest, meter: StreamMeter) -> None:
        self._splitter: Final = EventSplitter()
        self._name: Final = msgspec.json.encode(request.model)
        self._meter: Final = meter
        self._shows_usage: Final = request.include_usage
        self.failure: NeevError | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be passed on."""
        return self._meter.done or self.failure is not None

    def digest(self, data: bytes) -> bytes:
        """Return what the client is to see of the next bytes.

        Raises:
            UpstreamError: an event is larger than the bound.
        """
        events = self._splitter.feed(data)
        if len(events) == 1:
            return self._shown(events[0])
        out = []
        for event in events:
            out.append(self._shown(event))
            if self.is_over:
                break
        return b"".join(out)

    def rest(self) -> bytes:
        """Return what the client is to see of what was left at the end."""
        return b"".join(self._shown(terminated(event)) for event in self._splitter.flush())

    def _shown(self, event: bytes) -> bytes:
        signal = self._meter.observe(event)
        if signal is None:
            return with_model(event, self._name)
        if signal is Signal.ERROR:
            self.failure = error_of(event)
            return b""
        if signal is Signal.USAGE:
            shown = event if self._shows_usage else without_usage(event)
            return b"" if shown is None else with_model(shown, self._name)
        return event
