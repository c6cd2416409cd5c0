"""Passes a chat stream on: one event in is one event out, its bytes not rebuilt, its usage and errors noticed.

The hot path of the hot path: what is done here is done for every chunk, most of it in the call that brings the bytes
from upstream's connection, so that no task has to be woken. Called by `chat.py`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import msgspec

from neev_provider.errors import UpstreamError
from neev_provider.sse import EventSplitter, Signal, data_of, error_of, terminated, with_model, without_usage
from neev_provider.sse_envelope import Envelope

if TYPE_CHECKING:
    from neev_provider.contract import ChatRequest
    from neev_provider.errors import NeevError
    from neev_provider.gateway.exchange import Exchange
    from neev_provider.upstream import ChatStream
    from neev_provider.usage import StreamMeter

__all__ = ["EventRelay", "relay"]


async def relay(exchange: Exchange, request: ChatRequest, stream: ChatStream, meter: StreamMeter) -> None:
    """Pass the events on as they come, those of one read in one write, up to and with `[DONE]`.

    Raises:
        NeevError: upstream failed, or stopped without an end.
    """
    work = EventRelay(request.model, meter, shows_usage=request.include_usage)
    try:
        await _relay(exchange, stream, meter, work)
    finally:
        exchange.facts.first_at = work.first_at


async def _relay(exchange: Exchange, stream: ChatStream, meter: StreamMeter, work: EventRelay) -> None:
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
    if not meter.done and not meter.ended:
        raise UpstreamError("upstream_bad_response", "The model provider's stream broke off.")


async def _by_reads(exchange: Exchange, stream: ChatStream, work: EventRelay) -> None:
    """Do so on a server that takes a body through `send` alone."""
    while not work.is_over and (data := await stream.read()):
        out = work.digest(data)
        if out:
            await exchange.write(out)


class EventRelay:
    """What is known of a stream while it passes: bytes in, bytes out.

    Args:
        model: the model's name for the client.
        meter: takes note of every event.
        shows_usage: whether the client asked for usage.

    Attributes:
        is_over: whether nothing more is to be passed on.
        failure: what upstream reported in place of an event.
        first_at: `time.perf_counter()` of the first ordinary event; None before.
    """

    __slots__ = (
        "_envelope",
        "_is_between",
        "_meter",
        "_name",
        "_shows_usage",
        "_splitter",
        "failure",
        "first_at",
        "is_over",
    )

    def __init__(self, model: str, meter: StreamMeter, *, shows_usage: bool) -> None:
        self._splitter: Final = EventSplitter()
        self._is_between = True  # events: the splitter holds nothing
        self._name: Final = msgspec.json.encode(model)
        self._envelope: Final = Envelope(self._name)
        self._meter: Final = meter
        self._shows_usage: Final = shows_usage
        self.is_over = False
        self.failure: NeevError | None = None
        self.first_at: float | None = None

    def digest(self, data: bytes) -> bytes:
        """Return what the client is to see of the next bytes.

        Raises:
            UpstreamError: an event is larger than the bound.
        """
        if self._is_between and (chunk := self._envelope.open(data)) is not None:
            # Nearly always: a read is an event, and that an ordinary chunk.
            shown, brief = chunk
            self._meter.keep(brief)
            return shown
        events = self._splitter.feed(data)
        self._is_between = self._splitter.is_empty
        out = []
        for event in events:
            out.append(self._shown(event))
            if self.is_over:
                break
        return out[0] if len(out) == 1 else b"".join(out)

    def rest(self) -> bytes:
        """Return what the client is to see of what was left at the end."""
        return b"".join(self._shown(terminated(event)) for event in self._splitter.flush())

    def _shown(self, event: bytes) -> bytes:
        if (chunk := self._envelope.open(event)) is not None:
            shown, brief = chunk
            self._meter.keep(brief)
            return shown
        signal = self._meter.observe(event)
        if signal is None:
            # The first one is never in an envelope that is known. A comment that keeps the connection alive is none.
            if self.first_at is None and data_of(event) is not None:
                self.first_at = time.perf_counter()
            self._envelope.learn(event)
            return with_model(event, self._name)
        if signal is Signal.ERROR:
            self.failure = error_of(event)
            self.is_over = True
            return b""
        if signal is Signal.USAGE:
            wanted = event if self._shows_usage else without_usage(event)
            return b"" if wanted is None else with_model(wanted, self._name)
        self.is_over = True  # [DONE]
        return event
