"""The echo engine: deterministic, instant, counts words. Made for tests and load.

- The answer is the text of the last user message. `x-neev-echo` (`steering.py`) asks for another one.
- A token is a word: a run of characters that are not white space. A prompt has the words of all its message texts,
  at least 1; a part that is not text counts 1; a tool call, in the history or in the answer, counts 1 for its name
  and the words of its arguments. `count_words` and `count_prompt` are that rule, for tests that compute the usage.
- A stream has one word per chunk, each with the white space before it.
- JSON that was asked for is the text itself if it is a JSON object, else `{"echo": text}` or an example of the
  schema.
- Speech is silence, 24 ms for each character at speed 1, in parts of 4,080 bytes.
"""

from __future__ import annotations

import asyncio
import re
from math import ceil
from typing import TYPE_CHECKING, Any, Final

import orjson

from neev_provider.emulator.engine import Choice, Piece, ToolCall, collect
from neev_provider.emulator.refusal import Refusal
from neev_provider.emulator.tools import example

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from neev_provider.emulator.engine import ChatCall, FinishReason, SpeechCall

__all__ = ["SILENT_FRAME", "EchoEngine", "count_prompt", "count_words", "split_words"]

# MPEG-2 layer III, 24 kHz, mono, 8 kbit/s: header, then side information of zeros, which decodes to 24 ms of silence.
SILENT_FRAME: Final = bytes.fromhex("fff314c4").ljust(24, b"\0")
_FRAMES_PER_PART: Final = 170

_WORD: Final = re.compile(r"\s*\S+(?:\s+\Z)?")
_YIELD_EVERY: Final = 32  # chunks after which other requests get their turn


def count_words(text: str) -> int:
    """Return the tokens of a text: its words."""
    return len(text.split())


def split_words(text: str) -> list[str]:
    """Return the text as the chunks that a stream of it has; each is one token."""
    return _WORD.findall(text)


def count_prompt(messages: Iterable[dict[str, Any]]) -> int:
    """Return the prompt tokens of messages as they are sent."""
    return max(1, sum(map(_count_message, messages)))


def _count_message(message: dict[str, Any]) -> int:
    content = message.get("content")
    if isinstance(content, str):
        count = len(content.split())
    else:
        count = sum(len(part["text"].split()) if part["type"] == "text" else 1 for part in content or ())
    for call in message.get("tool_calls") or ():
        count += 1 + len(call["function"]["arguments"].split())
    return count


class EchoGeneration:
    """One answer of the echo engine; see `engine.Generation`."""

    def __init__(self, call: ChatCall) -> None:
        """Raise Refusal if the prompt has more words than the model's context window has tokens."""
        steering = call.steering
        counted = count_prompt(call.sent_messages)
        self.prompt_tokens = counted if steering.prompt_tokens is None else steering.prompt_tokens
        if call.context_window is not None and self.prompt_tokens > call.context_window:
            raise context_length_exceeded(self.prompt_tokens, call.context_window)
        self.completion_tokens = 0
        self.instant = not (steering.rate or steering.first)
        self._call = call

    async def choices(self) -> list[Choice]:
        """Return the whole answer; waits only if steered to."""
        call = self._call
        if not self.instant:
            return await collect(self.pieces(), call.n)
        if call.calls:
            return await collect(self.pieces(), call.n)
        text, finish, tokens = self._text()
        self.completion_tokens = tokens * call.n
        return [Choice(text, [], finish) for _ in range(call.n)]

    async def pieces(self) -> AsyncGenerator[Piece]:
        """Yield one word of every choice in turn, at the pace that was asked for."""
        steering, indexes = self._call.steering, range(self._call.n)
        units, finish = self._units()
        await _pause(steering.first)
        clock = asyncio.get_running_loop().time
        start = clock()
        for position, (text, call, name) in enumerate(units):
            if steering.rate:
                await _pause(start + position / steering.rate - clock())
            elif position % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
            for index in indexes:
                self.completion_tokens += 1
                yield Piece(index, text, call, name)
        for index in indexes:
            yield Piece(index, finish=finish)

    async def close(self) -> None:
        """Nothing is held."""

    def _units(self) -> tuple[list[tuple[str, int | None, str | None]], FinishReason]:
        """Return the tokens of one choice and why it ends."""
        call = self._call
        if not call.calls:
            text, finish, _ = self._text()
            return [(word, None, None) for word in split_words(text)], finish
        units: list[tuple[str, int | None, str | None]] = []
        for index, made in enumerate(self._tool_calls()):
            units.append(("", index, made.name))
            units += [(word, index, None) for word in split_words(made.arguments)]
        if call.max_tokens is not None and len(units) > call.max_tokens:
            return units[: call.max_tokens], "length"
        return units, "tool_calls"

    def _tool_calls(self) -> list[ToolCall]:
        tools, wanted = self._call.calls, self._call.steering.calls
        count = len(tools) if wanted is None else wanted
        chosen = [tools[index % len(tools)] for index in range(count)]
        return [
            ToolCall(tool.name, orjson.dumps(example(tool.parameters, self._call.text)).decode())
            for tool in chosen
        ]

    def _text(self) -> tuple[str, FinishReason, int]:
        """Return the text of a choice, why it ends, and its tokens."""
        call = self._call
        text = self._reply()
        for stop in call.stop:
            if stop:
                text = text.partition(stop)[0]
        tokens = count_words(text)
        if call.max_tokens is not None and tokens > call.max_tokens:
            return "".join(split_words(text)[: call.max_tokens]), "length", call.max_tokens
        return text, "stop", tokens

    def _reply(self) -> str:
        call, steering = self._call, self._call.steering
        if steering.tokens is not None:
            return " ".join(f"w{number}" for number in range(1, steering.tokens + 1))
        text = call.text if steering.text is None else steering.text
        if call.json_schema is None:
            return text
        try:
            if isinstance(orjson.loads(text), dict):
                return text
        except orjson.JSONDecodeError:
            pass
        value = example(call.json_schema, text) if call.json_schema else {"echo": text}
        return orjson.dumps(value).decode()


class EchoEngine:
    """Answers with what it was told; see `engine.Engine`."""

    name = "echo"

    async def start(self) -> None:
        """Nothing to load."""

    async def close(self) -> None:
        """Nothing to give back."""

    def chat(self, call: ChatCall) -> EchoGeneration:
        """Answer a chat request."""
        return EchoGeneration(call)

    async def speak(self, call: SpeechCall) -> AsyncGenerator[bytes]:
        """Yield silence as MP3."""
        frames = max(1, ceil(len(call.text) / call.speed))
        pause = 1 / call.steering.rate if call.steering.rate else 0.0
        await _pause(call.steering.first)
        for begin in range(0, frames, _FRAMES_PER_PART):
            if begin:
                await _pause(pause)
            yield SILENT_FRAME * min(_FRAMES_PER_PART, frames - begin)


def context_length_exceeded(tokens: int, window: int) -> Refusal:
    """Return the refusal of a prompt that is too long, in OpenAI's words."""
    return Refusal(
        400,
        "context_length_exceeded",
        f"This model's maximum context length is {window} tokens. "
        f"However, your messages resulted in {tokens} tokens. Please reduce the length of the messages.",
        param="messages",
        rule="context",
    )


async def _pause(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)
