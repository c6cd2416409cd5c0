"""Agents of pydantic-ai: tools are called by the agent itself, and its answer comes after them."""

from __future__ import annotations

import asyncio
import json
import os
from importlib.metadata import version

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from seen import MODEL, POOR_KEY, PROMPTS, cut_short, error_of

asked: list[dict[str, str]] = []


def agent(name: str = MODEL, key: str = os.environ["OPENAI_API_KEY"], **more) -> Agent:
    return Agent(OpenAIChatModel(name, provider=OpenAIProvider(api_key=key)), **more)


def text(prompt: str, which: Agent | None = None, **more) -> str:
    return (which or agent()).run_sync(prompt, **more).output


def pieces(prompt: str):
    async def read() -> None:
        async with agent().run_stream(prompt) as stream:
            async for piece in stream.stream_text(delta=True, debounce_by=None):
                arrived.append(piece)

    arrived: list[str] = []
    try:
        asyncio.run(read())
    finally:
        yield from arrived


with_tool = agent()


@with_tool.tool_plain
def get_weather(city: str) -> str:
    """The weather of a city."""
    asked.append({"city": city})
    return "sunny"


after_tool = text(PROMPTS["tool"], with_tool)
print(
    json.dumps(
        {
            "version": version("pydantic-ai-slim"),
            "chat": text(PROMPTS["chat"]),
            "stream": list(pieces(PROMPTS["stream"])),
            "tool": {"name": "get_weather", "arguments": asked[0], "then": after_tool},
            "broken_stream": cut_short(pieces(PROMPTS["broken_stream"])),
            "bad_request": error_of(lambda: text(PROMPTS["chat"], model_settings={"temperature": 3})),
            "wrong_key": error_of(lambda: text(PROMPTS["chat"], agent(key="sk-neev-wrong"))),
            "over_budget": error_of(lambda: text(PROMPTS["chat"], agent(key=POOR_KEY))),
            "unknown_model": error_of(lambda: text(PROMPTS["chat"], agent("no-such-model"))),
            "retried": text(PROMPTS["retried"]),
            "waited": text(PROMPTS["waited"]),
            "gave_up": error_of(lambda: text(PROMPTS["gave_up"])),
        }
    )
)
