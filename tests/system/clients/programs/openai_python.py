"""The official openai package."""

from __future__ import annotations

import json

import openai
from seen import MODEL, POOR_KEY, PROMPTS, TOOL, cut_short, error_of

client = openai.OpenAI()


def ask(prompt: str, through: openai.OpenAI = client, **more):
    messages = [{"role": "user", "content": prompt}]
    return through.chat.completions.create(**{"model": MODEL, "messages": messages, **more})


def text(prompt: str, **more) -> str:
    return ask(prompt, **more).choices[0].message.content


def pieces(prompt: str):
    for chunk in ask(prompt, stream=True):
        yield chunk.choices[0].delta.content if chunk.choices else None


call = ask(PROMPTS["tool"], tools=[{"type": "function", "function": TOOL}]).choices[0].message.tool_calls[0]
print(
    json.dumps(
        {
            "version": openai.__version__,
            "chat": text(PROMPTS["chat"]),
            "stream": [piece for piece in pieces(PROMPTS["stream"]) if piece],
            "tool": {"name": call.function.name, "arguments": json.loads(call.function.arguments)},
            "broken_stream": cut_short(pieces(PROMPTS["broken_stream"])),
            "bad_request": error_of(lambda: ask(PROMPTS["chat"], temperature=3)),
            "wrong_key": error_of(lambda: ask(PROMPTS["chat"], openai.OpenAI(api_key="sk-neev-wrong"))),
            "over_budget": error_of(lambda: ask(PROMPTS["chat"], openai.OpenAI(api_key=POOR_KEY))),
            "unknown_model": error_of(lambda: ask(PROMPTS["chat"], model="no-such-model")),
            "retried": text(PROMPTS["retried"]),
            "waited": text(PROMPTS["waited"]),
            "gave_up": error_of(lambda: ask(PROMPTS["gave_up"])),
        }
    )
)
