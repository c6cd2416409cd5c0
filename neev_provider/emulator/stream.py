"""A chat answer as server-sent events, and every way in which such a stream can go wrong.

Order of events: one role chunk for each choice, one chunk for each piece, one with the finish reason for each
choice, the usage chunk if it was asked for, `[DONE]`. Where a fault counts chunks, it counts those that carry
content or a tool call; 0 is the moment after the headers. Called by `chat.py`.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import orjson

from neev_provider.emulator.faults import MAX_STALL_SECONDS
from neev_provider.emulator.refusal import error_object
from neev_provider.emulator.wire import chunk, delta, usage_object

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from neev_provider.emulator.engine import ChatCall, Generation, Piece
    from neev_provider.emulator.exchange import Exchange
    from neev_provider.emulator.faults import Faults

__all__ = ["ChatStream"]

_HEADERS: Final = [(b"cache-control", b"no-cache")]
_DONE: Final = b"[DONE]"
_FRAGMENTS: Final = (1, 2, 3)  # bytes; shorter than most UTF-8 sequences


class _Ended(Exception):  # noqa: N818 - control flow: a fault has ended the stream
    pass


class ChatStream:
    """One streamed answer.

    Args:
        exchange: where it goes.
        generation: where it comes from.
        call: what was asked.
        faults: what goes wrong.
        beginning: what every chunk begins with.
        include_usage: whether the client asked for a usage chunk.
    """

    def __init__(
        self,
        exchange: Exchange,
        generation: Generation,
        call: ChatCall,
        faults: Faults,
        beginning: dict[str, Any],
        *,
        include_usage: bool,
    ) -> None:
        self._exchange = exchange
        self._generation = generation
        self._call = call
        self._faults = faults
        self._beginning = beginning
        self._include_usage = include_usage
        self._sent = 0  # chunks that carried something
        self._events = 0
        self._counts = {faults.cut_after, faults.stall_after, faults.error_after} != {None}

    async def run(self, started: Callable[[], None]) -> None:
        """Send the whole stream.

        Args:
            started: called when the headers are about to be sent.

        Raises:
            Refusal: the engine does not take the prompt; nothing was sent.
            ClientGone: the client left.
        """
        exchange = self._exchange
        try:
            async with exchange.watching(), aclosing(self._generation.pieces()) as pieces:
                first = await anext(pieces)
                started()
                await exchange.start(200, b"text/event-stream", _HEADERS)
                await self._after_chunk()
                for index in range(self._call.n):
                    await self._send_choice({"index": index, "delta": _ROLE, "finish_reason": None})
                await self._send_piece(first)
                async for piece in pieces:
                    await self._send_piece(piece)
                await self._end()
        except _Ended:
            await self._leave()

    async def _send_piece(self, piece: Piece) -> None:
        choice = delta(piece, self._faults)
        if piece.finish is not None:
            await self._send_choice(choice)
            return
        self._sent += 1
        if self._sent == self._faults.bad_json_chunk:
            data = orjson.dumps(chunk(self._beginning, [choice]))
            await self._send(data[: len(data) * 2 // 3])
        else:
            await self._send_choice(choice)
        await self._after_chunk()

    async def _send_choice(self, choice: dict[str, Any]) -> None:
        await self._send(orjson.dumps(chunk(self._beginning, [choice])))

    async def _after_chunk(self) -> None:
        """End the stream if a fault says that this was the last chunk."""
        if self._counts and self._sent in {
            self._faults.cut_after,
            self._faults.stall_after,
            self._faults.error_after,
        }:
            raise _Ended

    async def _leave(self) -> None:
        """Do what the fault does after its last chunk."""
        if self._sent == self._faults.error_after:
            self._exchange.ending = "failed"
            error = error_object(500, "server_error", "The model stopped working. (Fault: error-after)")
            await self._send(orjson.dumps(error))
            await self._exchange.write(b"", last=True)
        elif self._sent == self._faults.stall_after:
            await self._exchange.stall(MAX_STALL_SECONDS)
        else:
            await self._exchange.drop()

    async def _end(self) -> None:
        # The counts are final before the client can know that the stream has ended.
        await self._generation.close()
        usage = usage_object(self._generation, self._faults) if self._include_usage else None
        if usage is not None:
            await self._send(orjson.dumps(chunk(self._beginning, [], usage)))
        if not self._faults.no_done:
            await self._send(_DONE)
        await self._exchange.write(b"", last=True)

    async def _send(self, data: bytes) -> None:
        event = b"data: " + data + b"\n\n"
        if self._faults.odd_chunks and data is not _DONE:
            event = self._odd(event, data)
        if self._faults.crlf:
            event = event.replace(b"\n", b"\r\n")
        self._events += 1
        if self._faults.split_bytes:
            async for fragment in _fragments(event):
                await self._exchange.write(fragment)
        else:
            await self._exchange.write(event)

    def _odd(self, event: bytes, data: bytes) -> bytes:
        """Return the event in one of the forms that the standard allows and clients forget."""
        forms = (
            b": keep-alive\n\n" + event,
            b"event: message\nid: 7\nretry: 3000\nx-unknown: 1\n" + event,
            b"data:" + data + b"\n\n",
            b"data: " + orjson.dumps(chunk(self._beginning, [])) + b"\n\n" + event,
            b"data: " + _with_unknown_members(data) + b"\n\n",
            b"\n\n:\n" + event,
        )
        return forms[self._events % len(forms)]


_ROLE: Final = {"role": "assistant", "content": ""}


def _with_unknown_members(data: bytes) -> bytes:
    if not data.startswith(b"{") or not data.endswith(b"}"):
        return data
    return data[:-1] + b',"obfuscation":"k3x","x_neev":{"region":"in-1","queue":[1,2]},"service_tier":null}'


async def _fragments(event: bytes) -> AsyncIterator[bytes]:
    position = step = 0
    while position < len(event):
        size = _FRAGMENTS[step % len(_FRAGMENTS)]
        yield event[position : position + size]
        position += size
        step += 1
        # Each fragment leaves in a write of its own.
        await asyncio.sleep(0)
