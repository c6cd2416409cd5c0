"""What really happened: requests, tokens produced, streams cut short, and the last requests themselves.

The other side of every ledger test: counts what the emulator produced, not what it reported, also when the client
left in the middle. Written by `app.py`, read by `control.py` and `testing.py`. Keys appear as `last4-hash8` only.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from neev_provider.emulator.engine import Generation

__all__ = ["Record", "Stats", "key_label"]

KEPT_REQUESTS: Final = 200
_KEPT_BODY_BYTES: Final = 64 * 1024  # of one request; a log of 50 MB bodies would fill the memory
_SECRET_HEADERS: Final = frozenset(
    {b"authorization", b"proxy-authorization", b"cookie", b"x-api-key", b"api-key"}
)


def key_label(key: str) -> str:
    """Return how a key is shown: its last 4 characters and 8 digits of its SHA-256."""
    return f"{key[-4:]}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


@dataclass(slots=True)
class Record:
    """One request, from its headers to its end.

    Attributes:
        route: `METHOD /path`, or `other`.
        generation: set once an engine works on it; its counts are read at the end.
        cached_tokens: prompt tokens that were reported as cached.
        characters: of speech input that was spoken.
        streaming: set once a stream has begun.
    """

    route: str
    headers: Mapping[bytes, bytes]
    method: str
    path: str
    query: Mapping[str, str]
    time: float = field(default_factory=time.time)
    model: str = ""
    key: str = ""
    raw: bytes = b""
    omitted_bytes: int = 0
    fault: str = ""
    status: int = 0
    ending: str = ""
    generation: Generation | None = None
    cached_tokens: int = 0
    characters: int = 0
    audio_bytes: int = 0
    streaming: bool = False
    number: int = 0

    def shown(self) -> dict[str, Any]:
        """Return the request as GET /_emulator/requests shows it."""
        return {
            "number": self.number,
            "time": self.time,
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "headers": {
                name.decode("latin-1"): value.decode("latin-1")
                for name, value in self.headers.items()
                if name not in _SECRET_HEADERS
            },
            "key": self.key or None,
            "model": self.model or None,
            "body": self._body(),
            "fault": self.fault or None,
            "status": self.status or None,
            "ending": self.ending or ("complete" if self.status else "open"),
        }

    def _body(self) -> Any:
        if self.omitted_bytes:
            return {"omitted_bytes": self.omitted_bytes}
        if not self.raw:
            return None
        try:
            return orjson.loads(self.raw)
        except orjson.JSONDecodeError:
            return self.raw.decode("utf-8", "replace")


@dataclass(slots=True)
class _Tally:
    requests: int = 0
    prompt: int = 0
    completion: int = 0
    cached: int = 0
    characters: int = 0
    audio_bytes: int = 0

    def add(self, record: Record) -> None:
        self.requests += 1
        if record.generation is not None:
            self.prompt += record.generation.prompt_tokens
            self.completion += record.generation.completion_tokens
            self.cached += record.cached_tokens
        self.characters += record.characters
        self.audio_bytes += record.audio_bytes

    def shown(self) -> dict[str, int]:
        return {
            "requests": self.requests,
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "cached_tokens": self.cached,
            "characters": self.characters,
            "audio_bytes": self.audio_bytes,
        }


class Stats:
    """The counts since the start or the last `clear`.

    Attributes:
        streams_open: answers being streamed now.
    """

    def __init__(self) -> None:
        self._number = 0
        self.streams_open = 0
        self.clear()

    def clear(self) -> None:
        """Begin anew: requests that began before are not counted, though their streams stay open until they end."""
        self._first_number = self._number + 1
        self._since = time.time()
        self._requests: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._total = _Tally()
        self._models: defaultdict[str, _Tally] = defaultdict(_Tally)
        self._keys: defaultdict[str, _Tally] = defaultdict(_Tally)
        self._streams: Counter[str] = Counter()
        self._aborted = 0
        self._last: deque[Record] = deque(maxlen=KEPT_REQUESTS)

    def begin(self, record: Record) -> None:
        """Note a request that has come in."""
        self._number += 1
        record.number = self._number
        self._last.append(record)

    def begin_stream(self, record: Record) -> None:
        """Note that its answer is being streamed."""
        record.streaming = True
        self.streams_open += 1
        self._streams["started"] += 1

    def finish(self, record: Record) -> None:
        """Note its end; called exactly once for each request that was begun."""
        if record.streaming:
            self.streams_open -= 1
        if record.number < self._first_number:
            return
        if len(record.raw) > _KEPT_BODY_BYTES:
            record.omitted_bytes, record.raw = len(record.raw), b""
        outcome = record.ending or str(record.status)
        self._requests[record.route][outcome] += 1
        if record.ending == "aborted":
            self._aborted += 1
        if record.streaming:
            self._streams[_STREAM_ENDINGS.get(record.ending, "completed")] += 1
        if record.generation is not None or record.characters:
            self._total.add(record)
            self._models[record.model].add(record)
            self._keys[record.key].add(record)

    def last_requests(self) -> list[dict[str, Any]]:
        """Return the last requests, oldest first."""
        return [record.shown() for record in self._last]

    def snapshot(self) -> dict[str, Any]:
        """Return every count, ready to be encoded."""
        return {
            "since": self._since,
            "requests": {route: dict(counts) for route, counts in self._requests.items()},
            "total": self._total.shown(),
            "by_model": {name: tally.shown() for name, tally in self._models.items()},
            "by_key": {name: tally.shown() for name, tally in self._keys.items()},
            "streams": {
                "open": self.streams_open,
                "started": self._streams["started"],
                "completed": self._streams["completed"],
                "aborted_by_client": self._streams["aborted_by_client"],
                "cut_by_fault": self._streams["cut_by_fault"],
            },
            "aborted_by_client": self._aborted,
        }


_STREAM_ENDINGS: Final = {
    "": "completed",
    "aborted": "aborted_by_client",
    "dropped": "cut_by_fault",
    "stalled": "cut_by_fault",
    "failed": "cut_by_fault",
}
