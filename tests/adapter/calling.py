"""How the adapter's tests make calls and read answers."""

from __future__ import annotations

from typing import Any

import litellm

MODEL = "gpt-oss-120b"  # 100 and 500 nano-USD per token


def ask(text: str = "one two three", *, fault: str = "", echo: str = "") -> list[dict[str, Any]]:
    """Messages that make the emulator play a fault or a certain answer."""
    lines = [f"x-neev-fault: {fault}"] * bool(fault) + [f"x-neev-echo: {echo}"] * bool(echo)
    return [{"role": "user", "content": "\n".join([*lines, text])}]


class Caller:
    """Makes the same call in LiteLLM's four ways."""

    def __init__(self, target: dict[str, str], way: str) -> None:
        self._target = target
        self.way = way
        self.streams = "stream" in way

    async def __call__(
        self, messages: list[dict[str, Any]], model: str = f"neev/{MODEL}", **params: Any
    ) -> Any:
        """Return the answer, or the list of a stream's chunks."""
        params = {**self._target, "model": model, "messages": messages, **params}
        match self.way:
            case "sync":
                return litellm.completion(**params)
            case "async":
                return await litellm.acompletion(**params)
            case "sync stream":
                return list(litellm.completion(**params, stream=True))
            case _:
                stream = await litellm.acompletion(**params, stream=True)
                return [chunk async for chunk in stream]


WAYS = ("sync", "async", "sync stream", "async stream")


def text_of(chunks: list[Any], index: int = 0) -> str:
    return "".join(
        choice.delta.content or "" for chunk in chunks for choice in chunk.choices if choice.index == index
    )


def finish_of(chunks: list[Any], index: int = 0) -> list[str]:
    return [
        choice.finish_reason
        for chunk in chunks
        for choice in chunk.choices
        if choice.index == index and choice.finish_reason
    ]
