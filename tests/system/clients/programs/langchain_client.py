"""LangChain's ChatOpenAI."""

from __future__ import annotations

import json
from importlib.metadata import version

from langchain_openai import ChatOpenAI
from seen import MODEL, POOR_KEY, PROMPTS, TOOL, cut_short, error_of


def model(**more) -> ChatOpenAI:
    return ChatOpenAI(**{"model": MODEL, **more})


def pieces(prompt: str):
    for chunk in model().stream(prompt):
        yield chunk.content


call = model().bind_tools([{"type": "function", "function": TOOL}]).invoke(PROMPTS["tool"]).tool_calls[0]
print(
    json.dumps(
        {
            "version": version("langchain-openai"),
            "chat": model().invoke(PROMPTS["chat"]).content,
            "stream": [piece for piece in pieces(PROMPTS["stream"]) if piece],
            "tool": {"name": call["name"], "arguments": call["args"]},
            "broken_stream": cut_short(pieces(PROMPTS["broken_stream"])),
            "bad_request": error_of(lambda: model(temperature=3).invoke(PROMPTS["chat"])),
            "wrong_key": error_of(lambda: model(api_key="sk-neev-wrong").invoke(PROMPTS["chat"])),
            "over_budget": error_of(lambda: model(api_key=POOR_KEY).invoke(PROMPTS["chat"])),
            "unknown_model": error_of(lambda: model(model="no-such-model").invoke(PROMPTS["chat"])),
            "retried": model().invoke(PROMPTS["retried"]).content,
            "waited": model().invoke(PROMPTS["waited"]).content,
            "gave_up": error_of(lambda: model().invoke(PROMPTS["gave_up"])),
        }
    )
)
