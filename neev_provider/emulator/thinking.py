"""The fault `think`: an answer that begins with a reasoning model's thoughts, inside the content.

Wraps any engine's generation. Each word of the thoughts is one token and counts towards `max_tokens`, so that an
answer never costs more than the request allowed. Called by `chat.py`.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from neev_provider.emulator.echo import split_words
from neev_provider.emulator.engine import Piece, collect

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from neev_provider.emulator.engine import ChatCall, Choice, Engine

__all__ = ["Thinking"]

_THOUGHTS: Final = "<think>The user wrote something. I shall answer it."


class Thinking:
    """A generation with thoughts before it; see `engine.Generation`."""

    def __init__(self, engine: Engine, call: ChatCall, *, closed: bool) -> None:
        words = split_words(_THOUGHTS + ("</think>\n\n" if closed else " "))
        self._words = words[: call.max_tokens]
        left = None if call.max_tokens is None else call.max_tokens - len(self._words)
        # The prompt has to be read even if the thoughts use up the whole answer.
        self._inner = engine.chat(replace(call, max_tokens=None if left is None else max(1, left)))
        self._silent = left == 0
        self._thought = 0
        self._n = call.n
        self.instant = self._inner.instant

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return self._inner.prompt_tokens

    @property
    def completion_tokens(self) -> int:
        """Tokens of the thoughts and of the answer."""
        return self._thought + (0 if self._silent else self._inner.completion_tokens)

    async def pieces(self) -> AsyncGenerator[Piece]:
        """Yield the thoughts of every choice, then the answers."""
        async with aclosing(self._inner.pieces()) as pieces:
            first = await anext(pieces)
            for index in range(self._n):
                for word in self._words:
                    self._thought += 1
                    yield Piece(index, word)
            if self._silent:
                for index in range(self._n):
                    yield Piece(index, finish="length")
                return
            yield first
            async for piece in pieces:
                yield piece

    async def choices(self) -> list[Choice]:
        """Return thoughts and answers."""
        return await collect(self.pieces(), self._n)

    async def close(self) -> None:
        """Stop the engine."""
        await self._inner.close()
