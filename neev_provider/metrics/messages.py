"""What goes over the metrics socket: MessagePack behind its length. Used by `reporter.py` and `receiver.py`.

A process says hello once for each connection, then sends updates, each with a number that rises by one; the receiver
answers each with that number. An update that was not answered is sent again, with its number, so it counts once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

if TYPE_CHECKING:
    import asyncio

__all__ = ["Delta", "Hello", "Update", "frame", "read_frame"]

MAX_BYTES: Final = 32 * 1024 * 1024
_LENGTH_BYTES: Final = 4

_Labels = tuple[str, ...]
T = TypeVar("T")


class Hello(msgspec.Struct, array_like=True, frozen=True):
    """Who is speaking.

    Attributes:
        process: name, as the label `process` shows it.
        instance: random; another one after a restart.
    """

    process: str
    instance: str


class Delta(msgspec.Struct, array_like=True, frozen=True):
    """What was counted, by family.

    Attributes:
        counts: labels and amounts of counters.
        buckets: labels and cells of histograms: a count for each bucket, one for all above, the sum.
        names: id of a key to its alias, as far as they are new.
    """

    counts: dict[str, list[tuple[_Labels, float]]] = {}
    buckets: dict[str, list[tuple[_Labels, list[float]]]] = {}
    names: dict[str, str] = {}

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it."""
        return not (self.counts or self.buckets or self.names)


class Update(msgspec.Struct, array_like=True, frozen=True):
    """One message.

    Attributes:
        number: of the update among those of the instance, from 1.
        delta: counted since the one before.
        gauges: all of them, as they are now; None: as before.
    """

    number: int
    delta: Delta
    gauges: dict[str, list[tuple[_Labels, float]]] | None = None


def frame(message: object) -> bytes:
    """Return a message as it is sent."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


async def read_frame(reader: asyncio.StreamReader, kind: type[T]) -> T:
    """Return the next message.

    Raises:
        EOFError: there is none any more (`asyncio.IncompleteReadError`).
        ValueError: it is none, or too large.
        OSError: the connection broke.
    """
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
    if length > MAX_BYTES:
        raise ValueError("the message is too large")
    return msgspec.msgpack.decode(await reader.readexactly(length), type=kind)
