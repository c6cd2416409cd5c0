"""Undoes the compression of an answer that was asked not to be compressed. Used by `pool.py`."""

from __future__ import annotations

import zlib
from typing import Final

from neev_provider.wire.faults import ProtocolError

__all__ = ["Inflate"]

_PIECE_BYTES: Final = 128 * 1024  # a bomb is not undone at once


class Inflate:
    """Undoes gzip and deflate, a bounded piece at a time.

    Raises:
        ProtocolError: compressed in another way.
    """

    def __init__(self, encoding: str) -> None:
        if encoding not in {"gzip", "x-gzip", "deflate"}:
            raise ProtocolError("the answer is compressed in a way that was not asked for")
        self._stream: Final = zlib.decompressobj(47)  # gzip or zlib, by its head

    @property
    def holds_more(self) -> bool:
        """Whether something is left of what was fed."""
        return bool(self._stream.unconsumed_tail)

    @property
    def is_finished(self) -> bool:
        """Whether the end was found."""
        return self._stream.eof

    def feed(self, data: bytes) -> bytes:
        """Return the next piece.

        Raises:
            ProtocolError: it is broken.
        """
        try:
            return self._stream.decompress(self._stream.unconsumed_tail + data, _PIECE_BYTES)
        except zlib.error as fault:
            raise ProtocolError(str(fault)) from None
