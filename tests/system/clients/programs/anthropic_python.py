"""The official anthropic package, through `/v1/messages`."""

from __future__ import annotations

import json

import anthropic
from seen import KEY, MODEL, POOR_KEY, PROMPTS, ROOT_URL, TOOL, cut_short, error_of


def client_of(key: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=ROOT_URL, auth_token=key, api_key=None)


client = client_of(KEY)
TOOLS = [{"name": TOOL["name"], "description": TOOL["description"], "input_schema": TOOL["parameters"]}]


def ask(prompt: str, through: anthropic.Anthropic = client, **more):
    messages = [{"role": "user", "content": prompt}]
    return through.messages.create(**{"model": MODEL, "max_tokens": 100, "messages": messages, **more})


def text(prompt: str) -> str:
    return ask(prompt).content[0].text


def pieces(prompt: str):
    messages = [{"role": "user", "content": prompt}]
    with client.messages.stream(model=MODEL, max_tokens=100, messages=messages) as stream:
        yield from stream.text_stream


call = next(block for block in ask(PROMPTS["tool"], tools=TOOLS).content if block.type == "tool_use")
print(
    json.dumps(
        {
            "version": anthropic.__version__,
            "chat": text(PROMPTS["chat"]),
            "stream": list(pieces(PROMPTS["stream"])),
            "tool": {"name": call.name, "arguments": call.input},
            "broken_stream": cut_short(pieces(PROMPTS["broken_stream"])),
            "bad_request": error_of(lambda: ask(PROMPTS["chat"], extra_body={"temperature": 3})),
            "wrong_key": error_of(lambda: ask(PROMPTS["chat"], client_of("sk-neev-wrong"))),
            "over_budget": error_of(lambda: ask(PROMPTS["chat"], client_of(POOR_KEY))),
            "unknown_model": error_of(lambda: ask(PROMPTS["chat"], model="no-such-model")),
            "retried": text(PROMPTS["retried"]),
            "waited": text(PROMPTS["waited"]),
            "gave_up": error_of(lambda: ask(PROMPTS["gave_up"])),
        }
    )
)
