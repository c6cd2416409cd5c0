"""How a request steers the emulator: the headers `x-neev-echo` and `x-neev-fault`, or the same lines in its text.

Clients that cannot set headers, and requests that pass through a gateway which forwards none, write the lines at the
very beginning of the last user message (or of the text to be spoken):

    x-neev-fault: status=503
    x-neev-echo: tokens=200,rate=100
    The rest is the message.

Called by `chat.py` and `speech.py`. `ECHO_KEYS` is the only list of what `x-neev-echo` understands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from neev_provider.emulator.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "ECHO_HEADER",
    "ECHO_KEYS",
    "FAULT_HEADER",
    "EchoKey",
    "Lines",
    "Steering",
    "read_lines",
    "read_steering",
]

ECHO_HEADER: Final = b"x-neev-echo"
FAULT_HEADER: Final = b"x-neev-fault"
_PREFIX: Final = "x-neev-"
_MAX_TOKENS: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Steering:
    """What the echo engine answers; every attribute is a row of `ECHO_KEYS`. None or 0: as without it."""

    tokens: int | None = None
    rate: float = 0.0
    first: float = 0.0
    prompt_tokens: int | None = None
    calls: int | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class EchoKey:
    """One thing that `x-neev-echo` can ask for."""

    name: str
    metavar: str
    help: str
    read: Callable[[str], Any]

    @property
    def usage(self) -> str:
        """Return how it is written, as `tokens=N`."""
        return f"{self.name}={self.metavar}"


def _whole(value: str) -> int:
    if not value.isdecimal() or int(value) > _MAX_TOKENS:
        raise ValueError(f"a whole number up to {_MAX_TOKENS}")
    return int(value)


def _number(most: float) -> Callable[[str], float]:
    def read(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0 <= number <= most:
            raise ValueError(f"a number from 0 to {most:g}")
        return number

    return read


ECHO_KEYS: Final[tuple[EchoKey, ...]] = (
    EchoKey("tokens", "N", "answer with exactly this many words: w1 w2 w3 ...", _whole),
    EchoKey(
        "rate",
        "R",
        "words per second; an answer that is not streamed takes as long (0: at once)",
        _number(1e6),
    ),
    EchoKey("first", "SECONDS", "seconds before the first word", _number(900)),
    EchoKey("prompt-tokens", "N", "report this many prompt tokens", _whole),
    EchoKey("calls", "N", "make this many tool calls", _whole),
    EchoKey("text", "TEXT", "answer with this text, percent-decoded; must come last", unquote),
)
_BY_NAME: Final[Mapping[str, EchoKey]] = {key.name: key for key in ECHO_KEYS}


def read_steering(value: str) -> Steering:
    """Read an `x-neev-echo` value, as `tokens=200,rate=100`.

    Raises:
        Refusal: something in it is not known.
    """
    found: dict[str, Any] = {}
    rest = value.strip()
    while rest:
        item, _, rest = rest.partition(",")
        name, _, word = (part.strip() for part in item.partition("="))
        key = _BY_NAME.get(name)
        if key is None:
            raise _wrong(f"unknown key '{name}'; known are {', '.join(_BY_NAME)}")
        if name == "text" and rest:
            # A text may hold commas: it goes on to the end.
            word, rest = f"{word},{rest}", ""
        try:
            found[name.replace("-", "_")] = key.read(word)
        except ValueError as error:
            raise _wrong(f"'{name}' must be {error}, not '{word}'") from None
        rest = rest.strip()
    return Steering(**found)


def _wrong(problem: str) -> Refusal:
    return Refusal(400, "invalid_value", f"x-neev-echo: {problem}.", param="x-neev-echo", rule="steering")


@dataclass(frozen=True, slots=True)
class Lines:
    """A text and the steering lines that stood at its beginning."""

    text: str
    echo: str | None = None
    fault: str | None = None


def read_lines(text: str) -> Lines:
    """Take the steering lines from the beginning of a text."""
    if not text.startswith(_PREFIX):
        return Lines(text)
    found: dict[str, str] = {}
    rest = text
    while rest.startswith(_PREFIX):
        line, _, after = rest.partition("\n")
        name, colon, value = line.removeprefix(_PREFIX).partition(":")
        if not colon or name not in {"echo", "fault"} or name in found:
            break
        found[name] = value.strip()
        rest = after
    return Lines(rest, found.get("echo"), found.get("fault"))
