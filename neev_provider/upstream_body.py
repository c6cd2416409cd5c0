"""The body of upstream's answer, while it arrives.

Responsible for its time limits, for its size where it is read whole, and for giving up its connection: back to the
pool after the last byte, closed at once in every other case. Not responsible for what the bytes mean (`sse.py`).
Made by `upstream.py`; read by both doors.
"""

from __future__ import annotations

import asyncio
import re
from copy import copy
from typing import TYPE_CHECKING, Final, Self

from neev_provider.upstream_faults import TRANSPORT_FAULTS, bad_response, in_body, timed_out

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from multidict import CIMultiDict

    from neev_provider.deployment import Timeouts
    from neev_provider.errors import NeevError
    from neev_provider.wire import Answer

__all__ = ["AudioStream", "BodyReader", "ChatStream"]

_REST_BYTES: Final = (
    64 * 1024
)  # what `finish` reads past the useful end before it rather closes the connection


class BodyReader:
    """Reads a body as it arrives: `async for data in body`, or `read()` until it returns nothing.

    Idle time and total time are watched by one timer for the whole body. It is set again when it fires, not with each
    read, which would cost 1 us a chunk. Idle time counts only while a read is
    waiting, so a slow client is not upstream's fault.
    """

    __slots__ = (
        "_deadline",
        "_ended",
        "_failure",
        "_idle",
        "_loop",
        "_response",
        "_timer",
        "_waiting_since",
    )

    def __init__(self, response: Answer, timeouts: Timeouts, remaining: float) -> None:
        """Take over a response whose headers have been read; `remaining` seconds are left of its total."""
        self._response: Final = response
        self._loop: Final = asyncio.get_running_loop()
        self._idle: Final = timeouts.idle
        self._deadline: Final = self._loop.time() + remaining
        self._timer: asyncio.TimerHandle | None = None
        self._waiting_since: float | None = None
        self._ended = False
        self._failure: NeevError | None = None

    @property
    def headers(self) -> CIMultiDict[str]:
        """Upstream's answer's headers, by case-insensitive name."""
        return self._response.headers

    async def read(self) -> bytes:
        """Return what has arrived, at least one byte; nothing at the end or after `aclose`.

        Raises:
            UpstreamError: `upstream_timeout`, `upstream_bad_response`. The connection is closed.
        """
        if self._ended:
            return self._end()
        self._begin_to_wait()
        try:
            data = await self._response.read()
        except BaseException as fault:  # noqa: BLE001 - not kept
            raise self._failed(fault) from None
        self._waiting_since = None
        if not data:
            self.close()
        return data

    async def pump(self, sink: Callable[[bytes], bool]) -> bool:
        """Hand what arrives to `sink` at once until it wants no more.

        Args:
            sink: takes some bytes; returns whether it wants more. What it raises is raised here.

        Returns:
            Whether this was the end of the body.

        Raises:
            UpstreamError: as `read`.
        """
        if self._ended:
            return not self._end()
        self._begin_to_wait()

        def pass_on(data: bytes) -> bool:
            self._waiting_since = self._loop.time()
            return sink(data)

        try:
            at_end = await self._response.pump(pass_on)
        except BaseException as fault:  # noqa: BLE001 - not kept
            raise self._failed(fault) from None
        self._waiting_since = None
        if at_end:
            self.close()
        return at_end

    async def read_all(self, limit: int) -> bytes:
        """Return the whole body and end it.

        Raises:
            UpstreamError: as `read`; `upstream_bad_response` too if the body is larger than `limit` bytes once
                decompressed.
        """
        parts: list[bytes] = []
        size = 0
        try:
            while data := await self.read():
                parts.append(data)
                size += len(data)
                if size > limit:
                    raise bad_response(f"The model provider's answer is larger than {limit} bytes.")
        finally:
            self.close()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """End the body; close its connection at once unless it has been read to its end."""
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._response.close()

    async def aclose(self) -> None:
        """Do as `close`; may be called any number of times."""
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        data = await self.read()
        if not data:
            raise StopAsyncIteration
        return data

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin_to_wait(self) -> None:
        now = self._loop.time()
        if self._timer is None and not self._response.is_complete:
            self._set_timer(now)
        self._waiting_since = now

    def _failed(self, fault: BaseException) -> BaseException:
        """Close the body, and return what is to be raised for a fault."""
        self.close()
        if not isinstance(fault, TRANSPORT_FAULTS):
            return fault
        if self._failure is None:
            self._failure = in_body(fault)
        return copy(self._failure)  # what is kept and raised holds the frames that hold it: a circle

    def _end(self) -> bytes:
        if self._failure is not None:
            raise copy(self._failure)
        return b""

    def _set_timer(self, now: float) -> None:
        since = now if self._waiting_since is None else self._waiting_since
        when = min(self._deadline, since + self._idle)
        self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        since = self._waiting_since
        if now >= self._deadline:
            self._fail(timed_out("The model provider did not finish its answer in time."))
        elif since is not None and now - since >= self._idle:
            self._fail(timed_out("The model provider stopped sending."))
        else:
            self._set_timer(now)

    def _fail(self, failure: NeevError) -> None:
        self._failure = failure
        self.close()  # wakes a waiting read


class ChatStream(BodyReader):
    """A chat completion's events, as raw bytes in the reads in which they came.

    A body that ends without `[DONE]` ends like any other: `StreamMeter.done` tells. One that is cut raises
    `upstream_bad_response`.

    Attributes:
        asks_usage: whether upstream was asked for usage, and did not refuse.
    """

    __slots__ = ("asks_usage",)

    def __init__(self, response: Answer, timeouts: Timeouts, remaining: float, *, asks_usage: bool) -> None:
        super().__init__(response, timeouts, remaining)
        self.asks_usage: Final = asks_usage

    async def finish(self, grace: float = 1.0) -> None:
        """End a stream after its `[DONE]`, keeping the connection if upstream ends the body too.

        Waits `grace` seconds at most, so call it after the client has its last byte. Raises nothing of upstream's:
        the answer is complete.
        """
        try:
            if not self._ended and not self._response.is_complete:
                async with asyncio.timeout(grace):
                    size = 0
                    while size <= _REST_BYTES and (data := await self._response.read()):
                        size += len(data)
        except TRANSPORT_FAULTS:
            pass
        finally:
            self.close()


_MEDIA_TYPE: Final = re.compile(
    r"[\w.+-]{1,60}/[\w.+-]{1,60}(?:; ?[\w.+-]{1,30}=[\w.+-]{1,30}){0,3}", re.ASCII
)


class AudioStream(BodyReader):
    """Speech, as raw bytes; there is at least one.

    Attributes:
        content_type: as upstream gave it, if it is the name of a type with short parameters.
    """

    __slots__ = ("_first", "content_type")

    def __init__(self, response: Answer, timeouts: Timeouts, remaining: float) -> None:
        super().__init__(response, timeouts, remaining)
        given = response.header(b"content-type")
        self.content_type: Final = given if _MEDIA_TYPE.fullmatch(given) else "audio/mpeg"
        self._first = b""

    async def start(self) -> None:
        """Wait for the first bytes of audio; `read` then returns them.

        Raises:
            UpstreamError: as `read`; `upstream_bad_response` too if there is no audio.
        """
        self._first = await super().read()
        if not self._first:
            raise bad_response("The model provider answered without any audio.", status=200)

    async def read(self) -> bytes:
        """Do as `BodyReader.read`."""
        if self._first and not self._ended:
            first, self._first = self._first, b""
            return first
        return await super().read()
