"""What an engine is: it answers a checked request with pieces of text, tool calls or audio, and counts tokens.

The contract between the routes (`chat.py`, `stream.py`, `speech.py`) and the engines (`echo.py`, `local.py`).
Routes know shapes and faults, engines know content; neither knows the other's business.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from neev_provider.emulator.steering import Steering

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from neev_provider.emulator.tools import Tool

__all__ = ["ChatCall", "Choice", "Engine", "Generation", "Piece", "SpeechCall", "ToolCall", "collect"]

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(slots=True)
class ChatCall:
    """A checked chat request.

    Attributes:
        messages: as sent, but without steering lines.
        sent_messages: exactly as sent; what the echo engine counts.
        text: text of the last user message, without steering lines.
        json_schema: what the answer must fulfil: a schema, `{}` for any JSON object, None for plain text.
        calls: the tools to be called, in order; empty for an answer in text.
        context_window: tokens that the model's prompt may have; None = unknown.
    """

    model: str
    messages: list[dict[str, Any]]
    sent_messages: list[dict[str, Any]]
    text: str
    n: int = 1
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    json_schema: dict[str, Any] | None = None
    calls: tuple[Tool, ...] = ()
    context_window: int | None = None
    steering: Steering = field(default_factory=Steering)


@dataclass(slots=True)
class Piece:
    """What one chunk of a stream carries.

    Attributes:
        index: of the choice.
        text: content, or a fragment of the arguments if `call` is set.
        call: index of the tool call that the fragment belongs to.
        name: the function's name, on the first piece of a tool call.
        finish: why the choice ended; such a piece carries nothing else.
    """

    index: int
    text: str = ""
    call: int | None = None
    name: str | None = None
    finish: FinishReason | None = None


@dataclass(slots=True)
class ToolCall:
    """One whole tool call."""

    name: str
    arguments: str


@dataclass(slots=True)
class Choice:
    """One whole answer of the `n` that were asked for."""

    text: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    finish: FinishReason = "stop"


class Generation(Protocol):
    """One request being answered. Counts are of what was really produced so far, also when it is cut short."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt; 0 until the engine has accepted it."""
        ...

    @property
    def completion_tokens(self) -> int:
        """Tokens produced so far, over all choices."""
        ...

    @property
    def instant(self) -> bool:
        """Whether the whole answer needs no waiting, so that nobody has to watch for the client leaving."""
        ...

    def pieces(self) -> AsyncGenerator[Piece]:
        """Produce the answer piece by piece; raises Refusal before the first if the prompt is too long."""
        ...

    async def choices(self) -> list[Choice]:
        """Produce the whole answer."""
        ...

    async def close(self) -> None:
        """Stop producing; harmless when done."""
        ...


@dataclass(slots=True)
class SpeechCall:
    """A checked speech request; `text` is without steering lines."""

    model: str
    text: str
    voice: str
    speed: float = 1.0
    steering: Steering = field(default_factory=Steering)


class Engine(Protocol):
    """Where answers come from.

    Attributes:
        name: as in `--engine`.
    """

    name: str

    async def start(self) -> None:
        """Load what is needed; harmless when started. Raises ConfigError if a package is missing."""
        ...

    async def close(self) -> None:
        """Give everything back; harmless when closed."""
        ...

    def chat(self, call: ChatCall) -> Generation:
        """Begin to answer a chat request."""
        ...

    def speak(self, call: SpeechCall) -> AsyncGenerator[bytes]:
        """Speak a text as MP3, in parts as they are ready."""
        ...


async def collect(pieces: AsyncGenerator[Piece], n: int) -> list[Choice]:
    """Put the pieces of a generation together to `n` whole choices."""
    choices = [Choice() for _ in range(n)]
    async for piece in pieces:
        choice = choices[piece.index]
        if piece.finish is not None:
            choice.finish = piece.finish
        elif piece.call is None:
            choice.text += piece.text
        else:
            if piece.name is not None:
                choice.calls.append(ToolCall(piece.name, ""))
            choice.calls[piece.call].arguments += piece.text
    return choices
