"""Server-sent events as bytes: framing over split reads, and what an event says, without decoding ordinary ones.

Responsible for cutting upstream's byte stream into events that can be relayed unchanged, for telling the few that
matter (end, usage, error, finish) from the many that do not by a byte search, and for writing our own. Not
responsible for tokens (`usage.py`) or the connection (`upstream.py`). Called by both doors.

The byte search is no guess: inside a JSON string every quote is escaped, so `"usage"` with bare quotes is a key
or a string's whole value. Only then is the event decoded.
"""

from __future__ import annotations

import enum
import re
from typing import Any, Final

import msgspec

from neev_provider.errors import NeevError, UpstreamError, from_upstream, redact

__all__ = [
    "DONE",
    "MAX_EVENT_BYTES",
    "NULL",
    "EventSplitter",
    "Signal",
    "data_of",
    "encode_error",
    "encode_event",
    "error_of",
    "error_of_object",
    "finish_reason_of",
    "is_done",
    "model_at",
    "signal_of",
    "terminated",
    "usage_of",
    "with_model",
    "without_usage",
]

DONE: Final = b"data: [DONE]\n\n"
# An unfinished event may not fill the memory; real ones are far smaller.
MAX_EVENT_BYTES: Final = 4 * 1024 * 1024

# As a JSON encoder writes them: without a blank, or, as Python's own, with one.
_MODEL_KEYS: Final = (b'"model":"', b'"model": "')
NULL: Final = (b":null", b": null")

_CR: Final = 13
_BOM: Final = b"\xef\xbb\xbf"
# Two line ends in a row. A CR that an LF follows is half of a line end, never one.
_EVENT_END: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")
_LONGEST_END: Final = 4  # bytes of the longest match, CR LF CR LF
_LONGEST_DONE: Final = 64  # bytes; `data: [DONE]` with any line ends, an id and some blanks


class EventSplitter:
    """Cuts a byte stream into events, however the reads were split.

    An event is everything up to and including a blank line, as received: joined, the events are the input. Comments
    (`: keep-alive`) are events too. An event whose blank line is a bare CR at the end of a read is held until the
    next byte is known, for an LF may belong to it.

    Args:
        max_event_bytes: how large an unfinished event may grow.
    """

    __slots__ = ("_buffer", "_cut", "_max_event_bytes")

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes: Final = max_event_bytes
        self._buffer: Final = bytearray()
        self._cut = _cut_lf  # until the first CR

    @property
    def is_empty(self) -> bool:
        """Whether no part of an event is held, so that the next read begins one."""
        return not self._buffer

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next read; return the events that it completes.

        Raises:
            UpstreamError: `upstream_bad_response`, an unfinished event is larger than the bound.
        """
        buffer = self._buffer
        # find() throughout: `in` tries its argument as an integer first and costs three times as much.
        if not buffer:
            # Nearly always the read is one event of one line; LF first, as most servers write it.
            if data.endswith(b"\n\n"):
                if data.find(b"\n") == len(data) - 2 and data.find(b"\r") < 0:
                    return [data]
            elif data.endswith(b"\r\n\r\n") and data.find(b"\r") == data.find(b"\n") - 1 == len(data) - 4:
                return [data]
        if data.find(b"\r") >= 0:
            self._cut = _cut_mixed
        if not buffer:
            events, start = self._cut(data, 0)
            buffer += data[start:]
        else:
            # A blank line may have begun in the last bytes of the read before.
            searched = max(0, len(buffer) + 1 - _LONGEST_END)
            buffer += data
            events, start = self._cut(buffer, searched)
            del buffer[:start]
        if len(buffer) > self._max_event_bytes:
            buffer.clear()
            raise UpstreamError(
                "upstream_bad_response",
                f"The model provider sent an event larger than {self._max_event_bytes} bytes.",
            )
        return events

    def flush(self) -> list[bytes]:
        """Return what the end of the stream leaves: at most one event, perhaps without its blank line."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return [rest] if rest else []


def _cut_lf(data: bytes | bytearray, searched: int) -> tuple[list[bytes], int]:
    """Return the finished events of `data`, which holds no CR, and where the unfinished one begins.

    No event ends before `searched`.
    """
    if data.find(b"\n\n", searched) < 0:
        return [], 0
    parts = bytes(data).split(b"\n\n")
    rest = parts.pop()
    return [part + b"\n\n" for part in parts], len(data) - len(rest)


def _cut_mixed(data: bytes | bytearray, searched: int) -> tuple[list[bytes], int]:
    """Do as `_cut_lf`, whatever the line ends."""
    events: list[bytes] = []
    start = 0
    while (match := _EVENT_END.search(data, searched)) is not None:
        end = match.end()
        if end == len(data) and data[-1] == _CR:
            break
        events.append(bytes(data[start:end]))
        start = searched = end
    return events, start


class Signal(enum.Enum):
    """What makes an event more than one to pass on."""

    DONE = "done"
    USAGE = "usage"
    ERROR = "error"


def signal_of(event: bytes) -> Signal | None:
    """Return what is special about an event; None for all but a handful of a stream.

    A chunk with `"usage": null`, as OpenAI sends when usage was asked for, is ordinary.
    """
    if event.rfind(b'"error"') >= 0 and error_of(event) is not None:
        return Signal.ERROR
    found = event.rfind(b'"usage"')
    if found >= 0 and not event.startswith(NULL, found + 7) and usage_of(event) is not None:
        return Signal.USAGE
    if event.startswith(b"data: {") and len(event) - event.find(b"\n") < _LONGEST_END:
        return None  # one line of JSON
    if is_done(event):
        return Signal.DONE
    return Signal.ERROR if error_of(event) is not None else None


def data_of(event: bytes) -> bytes | None:
    """Return an event's data: its `data` lines joined by LF, without the leading space.

    Returns:
        None if there is no data or nothing but blanks (comments, keep-alives).
    """
    if event.startswith(b"data: {") and event.find(b"\n") == len(event) - 2 and event.find(b"\r") < 0:
        return event[6:-2]
    return _joined(_fields_of(event), b"data")


def is_done(event: bytes) -> bool:
    """Tell whether the event is `[DONE]`, the end of OpenAI's streams."""
    if event == DONE:
        return True
    if len(event) > _LONGEST_DONE or event.find(b"[DONE]") < 0:
        return False
    data = data_of(event)
    return data is not None and data.strip() == b"[DONE]"


def error_of(event: bytes) -> NeevError | None:
    """Return the failure that an event reports, or None.

    Failures are a truthy `error` in the data and anything under `event: error`.
    """
    if event.startswith(b"data: {") and event.find(b"\n") == len(event) - 2:
        return None if event.rfind(b'"error"') < 0 else error_of_object(_object_of(event))
    fields = _fields_of(event)
    data = _joined(fields, b"data")
    if _joined(fields, b"event") != b"error":
        return None if data is None or data.find(b'"error"') < 0 else error_of_object(_decoded(data))
    said = _decoded(data) if data is not None else None
    failure = error_of_object(said) or error_of_object({"error": said})
    if failure is None:
        failure = _reported("" if data is None or said is not None else data.decode("utf-8", "replace"))
    return failure


def usage_of(event: bytes) -> object:
    """Return the decoded `usage` of a chunk, or None if it has none; `usage.parse_usage` reads it."""
    if event.rfind(b'"usage"') < 0:
        return None
    chunk = _object_of(event)
    return None if chunk is None else chunk.get("usage")


def finish_reason_of(event: bytes) -> str | None:
    """Return the first finish reason in a chunk, or None while all its choices go on."""
    found = event.rfind(b'"finish_reason"')
    if found < 0 or (event.startswith(b":null", found + 15) and event.find(b'"finish_reason"') == found):
        return None
    chunk = _object_of(event)
    choices = None if chunk is None else chunk.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        reason = choice.get("finish_reason") if isinstance(choice, dict) else None
        if isinstance(reason, str) and reason:
            return reason
    return None


def without_usage(event: bytes) -> bytes | None:
    """Return a chunk for a client that did not ask for usage.

    Returns:
        The event encoded anew without its `usage`, or None if nothing but usage was in it (OpenAI's last chunk,
        whose `choices` is empty).
    """
    chunk = _object_of(event)
    if chunk is None or "usage" not in chunk:
        return event
    if not chunk.get("choices"):
        return None
    del chunk["usage"]
    return encode_event(msgspec.json.encode(chunk))


def with_model(event: bytes, name: bytes) -> bytes:
    """Return a chunk with `model` as the client knows it; other events as they are.

    Args:
        event: any event.
        name: the name as a JSON string, in its quotes, encoded once for the whole stream.
    """
    place = model_at(event)
    if place is not None:
        start, end = place
        return event if event[start:end] == name else event[:start] + name + event[end:]
    if event.find(b'"model"') < 0:
        return event
    chunk = _object_of(event)
    if chunk is None or "model" not in chunk:
        return event
    return encode_event(msgspec.json.encode({**chunk, "model": msgspec.Raw(name)}))


def model_at(event: bytes) -> tuple[int, int] | None:
    """Return where the name of a chunk's model begins and ends, with its quotes; None if that is not plain to see."""
    for key in _MODEL_KEYS:
        found = event.find(key)
        # The chunk's own member: every other object before it has ended.
        if found > 0 and event.count(b"{", 0, found) - event.count(b"}", 0, found) == 1:
            start = found + len(key) - 1
            end = event.find(b'"', start + 1) + 1
            if end and event.find(b"\\", start, end) < 0:
                return start, end
    return None


def encode_event(data: bytes) -> bytes:
    """Return an event that carries `data`, one `data` line for each of its lines."""
    return b"data: " + data.replace(b"\n", b"\ndata: ") + b"\n\n"


def encode_error(error: NeevError) -> bytes:
    """Return the event that ends a stream that failed after its first byte; no `[DONE]` follows it."""
    return encode_event(error.encode())


def terminated(event: bytes) -> bytes:
    """Return the event with a blank line at its end, so that another may follow (see `EventSplitter.flush`)."""
    if event.endswith((b"\n\n", b"\r\r", b"\r\r\n", b"\n\r\n", b"\n\r")):
        return event
    return event + (
        b"\n" if event.endswith(b"\n") else b"\n\n"
    )  # after a CR the first LF ends that line only


# What upstreams put in `code` or `type` of an error that came without a status (NEEV_API.md, "Errors").
_STATUSES: Final = {
    "invalid_request_error": 400,
    "validation_error": 400,
    "context_length_exceeded": 400,
    "authentication_error": 401,
    "unauthorized": 401,
    "invalid_api_key": 401,
    "insufficient_quota": 402,
    "permission_error": 403,
    "forbidden": 403,
    "kyc_verification_required": 403,
    "phone_verification_required": 403,
    "model_not_found": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
}
_CLIENT_OR_SERVER_ERROR: Final = range(400, 600)
_MAX_MESSAGE: Final = 600  # characters of an upstream text that we pass on, as in errors.py


def error_of_object(answer: object) -> NeevError | None:
    """Return the failure that a decoded body or chunk with HTTP status 200 reports, or None.

    A status is read from the error's `status`, `code` or `type` if one of them tells it, so that a rate limit in a
    stream is a rate limit; otherwise it is `upstream_error`.
    """
    error = answer.get("error") if isinstance(answer, dict) else None
    if not error or error is True:
        return None
    if not isinstance(error, dict):
        return _reported(error if isinstance(error, str) else "")
    for name in ("status", "code", "type"):
        value = error.get(name)
        status = _STATUSES.get(value) if isinstance(value, str) else value
        if isinstance(status, int) and status in _CLIENT_OR_SERVER_ERROR:
            return from_upstream(status, msgspec.json.encode({"error": error}))
    message = error.get("message")
    return _reported(message if isinstance(message, str) else "")


def _reported(text: str) -> UpstreamError:
    said = redact(" ".join(text.split()))[:_MAX_MESSAGE]
    detail = f" It said: {said}" if said and not said.startswith("<") else ""
    return UpstreamError("upstream_error", f"The model provider reported an error.{detail}")


def _fields_of(event: bytes) -> list[tuple[bytes, bytes]]:
    """Return the names and values of an event's lines (WHATWG HTML, 9.2.6); comments have no name."""
    pairs = (line.partition(b":") for line in event.removeprefix(_BOM).splitlines())
    return [(name, value.removeprefix(b" ")) for name, _, value in pairs if name]


def _joined(fields: list[tuple[bytes, bytes]], wanted: bytes) -> bytes | None:
    value = b"\n".join(value for name, value in fields if name == wanted)
    return value if value.strip() else None


def _object_of(event: bytes) -> dict[str, Any] | None:
    data = data_of(event)
    decoded = None if data is None else _decoded(data)
    return decoded if isinstance(decoded, dict) else None


def _decoded(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
