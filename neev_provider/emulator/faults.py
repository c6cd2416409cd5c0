"""What can go wrong on demand: one table, and the reader of the strings that choose from it.

`FAULTS` is the only list: parser, `--help`, documentation and error messages are made from it. Says what a fault
is, not which request gets it (`fault_book.py`) nor how it is done (`early.py`, `chat.py`, `stream.py`, `speech.py`).

A fault string is a list of faults, separated by `,` or `;`: `status=429,retry-after=2,times=1`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["FAULTS", "HEALTHY", "SHAPES", "FaultKind", "FaultSyntaxError", "Faults", "parse_faults"]

MAX_STALL_SECONDS: Final = 900.0  # a stalled answer is given up after this, so that nothing hangs for ever

# The error bodies of NEEV_API.md, "Errors": the documented one, and those seen elsewhere on the platform.
SHAPES: Final[Mapping[str, str]] = {
    "openai": '{"error": {"message", "type", "param", "code"}}, the documented one',
    "string": '{"error": "text", "message", "code"}',
    "flat": '{"code", "message"}',
    "reason": '{"reason_code", "message"}',
    "html": "a web page",
    "empty": "no body at all",
}


class FaultSyntaxError(ValueError):
    """A fault string is wrong; the message says what and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What goes wrong with one request; every attribute is a row of `FAULTS`."""

    status: int | None = None
    shape: str = "openai"
    retry_after: float | None = None
    html: bool = False
    bad_json: bool = False
    empty_body: bool = False
    redirect: bool = False
    reset: bool = False
    stall: bool = False
    slow_first_byte: float = 0.0
    context_length: bool = False
    refuse_stream_options: bool = False
    refuse_field: str | None = None
    cut_after: int | None = None
    stall_after: int | None = None
    error_after: int | None = None
    bad_json_chunk: int | None = None
    no_done: bool = False
    odd_chunks: bool = False
    split_bytes: bool = False
    crlf: bool = False
    null_content: bool = False
    think: str | None = None
    no_usage: bool = False
    cached_tokens: int | None = None
    empty_audio: bool = False
    id: str | None = None
    times: int | None = None
    text: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """What counts as the same fault when `times` is counted."""
        return self.id or self.text


HEALTHY: Final = Faults()

Scope = Literal["any", "chat", "stream", "speech", "selection"]


@dataclass(frozen=True, slots=True)
class FaultKind:
    """One row of the table.

    Attributes:
        name: as written in a fault string; the attribute of `Faults` is the same with underscores.
        scope: which answers it applies to; `selection` says which requests get the faults beside it.
        help: one line for `--help` and the documentation.
        metavar: how its value is shown; "" if it takes none.
        read: turns the value into what `Faults` holds; raises ValueError with what it must be.
        default: used when `=value` is left out; None if the value is required.
    """

    name: str
    scope: Scope
    help: str
    metavar: str = ""
    read: Callable[[str], Any] | None = None
    default: Any = None

    @property
    def usage(self) -> str:
        """Return how it is written, as `retry-after=SECONDS`."""
        if not self.metavar:
            return self.name
        return f"{self.name}={self.metavar}" if self.default is None else f"{self.name}[={self.metavar}]"

    @property
    def attribute(self) -> str:
        """Return the attribute of `Faults` that this row sets."""
        return self.name.replace("-", "_")


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if re.fullmatch(r"\d{1,9}", value) is None or not low <= int(value) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(value)

    return read


def _seconds(value: str) -> float:
    if re.fullmatch(r"\d{1,4}(\.\d{1,6})?", value) is None or float(value) > MAX_STALL_SECONDS:
        raise ValueError(f"seconds from 0 to {MAX_STALL_SECONDS:.0f}")
    return float(value)


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return value

    return read


def _name(value: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_.:-]{1,64}", value) is None:
        raise ValueError("1 to 64 letters, digits, '_', '.', ':' or '-'")
    return value


_COUNT: Final = _whole(0, 1_000_000)

FAULTS: Final[tuple[FaultKind, ...]] = (
    FaultKind("status", "any", "answer with this status and an error body", "CODE", _whole(200, 599)),
    FaultKind(
        "shape", "any", "form of that error body; alone: status 500", "|".join(SHAPES), _one_of(*SHAPES)
    ),
    FaultKind("retry-after", "any", "add a Retry-After header; alone: status 429", "SECONDS", _seconds),
    FaultKind("html", "any", "status 200 with a web page"),
    FaultKind("bad-json", "any", "status 200 with JSON that breaks off"),
    FaultKind("empty-body", "any", "status 200 with no body"),
    FaultKind("redirect", "any", "status 307 to /_emulator/redirected, which must never be asked for"),
    FaultKind("reset", "any", "reset the connection (RST) before any byte of an answer"),
    FaultKind("stall", "any", "accept and never answer; given up after 15 minutes"),
    FaultKind("slow-first-byte", "any", "wait before the answer begins", "SECONDS", _seconds),
    FaultKind("context-length", "chat", "400 context_length_exceeded"),
    FaultKind("refuse-stream-options", "chat", "400 if the request has stream_options"),
    FaultKind("refuse-field", "any", "400 if the request has this top-level field", "NAME", _name),
    FaultKind(
        "cut-after",
        "any",
        "drop the connection after N chunks, unfinished (0: after the headers; an answer that is not "
        "streamed: after half its body)",
        "N",
        _COUNT,
    ),
    FaultKind("stall-after", "any", "stop sending after N chunks, connection left open", "N", _COUNT),
    FaultKind(
        "error-after", "stream", "send an error event after N chunks and end, without [DONE]", "N", _COUNT
    ),
    FaultKind("bad-json-chunk", "stream", "break the JSON of the N-th chunk", "N", _whole(1, 1_000_000)),
    FaultKind("no-done", "stream", "end without [DONE]"),
    FaultKind("odd-chunks", "stream", "add comments, unknown event fields, empty choices, unknown members"),
    FaultKind("split-bytes", "stream", "write 1 to 3 bytes at a time, through the middle of characters"),
    FaultKind("crlf", "stream", "end the lines with CR LF"),
    FaultKind("null-content", "chat", "content is null though tokens were produced"),
    FaultKind(
        "think",
        "chat",
        "content begins with thoughts in think tags",
        "closed|unclosed",
        _one_of("closed", "unclosed"),
        "closed",
    ),
    FaultKind("no-usage", "chat", "leave usage out"),
    FaultKind(
        "cached-tokens", "chat", "report N prompt tokens as cached (at most the prompt's)", "N", _COUNT
    ),
    FaultKind("empty-audio", "speech", "status 200 and audio/mpeg with no bytes"),
    FaultKind(
        "times",
        "selection",
        "only the first N requests with this fault; the following ones are healthy",
        "N",
        _whole(1, 1_000_000),
    ),
    FaultKind(
        "id", "selection", "what `times` counts by; without it, the fault string itself", "NAME", _name
    ),
)

_BY_NAME: Final[Mapping[str, FaultKind]] = {kind.name: kind for kind in FAULTS}
_SEPARATOR: Final = re.compile(r"[,;]")
NONE: Final = "none"  # a fault string that keeps process-wide faults away from one request


def parse_faults(text: str) -> Faults:
    """Read a fault string.

    Args:
        text: faults separated by `,` or `;`, or `none`.

    Raises:
        FaultSyntaxError: it names an unknown fault, a wrong value, or nothing at all.
    """
    if text.strip() == NONE:
        return HEALTHY
    found: dict[str, Any] = {}
    for item in _SEPARATOR.split(text):
        name, equals, value = (part.strip() for part in item.partition("="))
        if not name and not equals:
            continue
        kind = _BY_NAME.get(name)
        if kind is None:
            raise FaultSyntaxError(_unknown(name))
        if kind.attribute in found:
            raise FaultSyntaxError(f"fault '{name}' is given twice")
        found[kind.attribute] = _value(kind, value if equals else None)
    if not found.keys() - {"times", "id"}:
        raise FaultSyntaxError(f"'{text}' names no fault; write for example status=503, or none")
    faults = Faults(**found, text=text.strip())
    if faults.status is None and faults.retry_after is not None:
        return replace(faults, status=429)
    if faults.status is None and "shape" in found:
        return replace(faults, status=500)
    return faults


def _value(kind: FaultKind, value: str | None) -> Any:
    if kind.read is None:
        if value is not None:
            raise FaultSyntaxError(f"fault '{kind.name}' takes no value")
        return True
    if value is None:
        if kind.default is None:
            raise FaultSyntaxError(f"fault '{kind.name}' needs a value: {kind.usage}")
        return kind.default
    try:
        return kind.read(value)
    except ValueError as error:
        raise FaultSyntaxError(f"fault '{kind.name}' must be {error}, not '{value}'") from None


def _unknown(name: str) -> str:
    near = get_close_matches(name, _BY_NAME, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else f"; known are {', '.join(_BY_NAME)}"
    return f"unknown fault '{name}'{hint}"


def _check_table() -> None:
    """Every row has its attribute and every attribute its row; a slip here is a programming error."""
    rows = {kind.attribute for kind in FAULTS}
    attributes = {item.name for item in fields(Faults)} - {"text"}
    if rows != attributes:
        raise RuntimeError(f"FAULTS and Faults differ: {rows ^ attributes}")


_check_table()
