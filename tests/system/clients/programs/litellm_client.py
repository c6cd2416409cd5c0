"""LiteLLM's own SDK, as a client of the gateway."""

from __future__ import annotations

import json
from importlib.metadata import version

import litellm
from seen import BASE_URL, KEY, MODEL, POOR_KEY, PROMPTS, TOOL, cut_short, error_of

litellm.suppress_debug_info = True  # it prints to standard output


def ask(prompt: str, name: str = MODEL, key: str = KEY, **more):
    return litellm.completion(
        model=f"litellm_proxy/{name}",
        api_base=BASE_URL,
        api_key=key,
        messages=[{"role": "user", "content": prompt}],
        **more,
    )


def text(prompt: str, **more) -> str:
    return ask(prompt, **more).choices[0].message.content


def pieces(prompt: str):
    for chunk in ask(prompt, stream=True):
        yield chunk.choices[0].delta.content


call = ask(PROMPTS["tool"], tools=[{"type": "function", "function": TOOL}]).choices[0].message.tool_calls[0]
print(
    json.dumps(
        {
            "version": version("litellm"),
            "chat": text(PROMPTS["chat"]),
            "stream": [piece for piece in pieces(PROMPTS["stream"]) if piece],
            "tool": {"name": call.function.name, "arguments": json.loads(call.function.arguments)},
            "broken_stream": cut_short(pieces(PROMPTS["broken_stream"])),
            "bad_request": error_of(lambda: ask(PROMPTS["chat"], temperature=3)),
            "wrong_key": error_of(lambda: ask(PROMPTS["chat"], key="sk-neev-wrong")),
            "over_budget": error_of(lambda: ask(PROMPTS["chat"], key=POOR_KEY)),
            "unknown_model": error_of(lambda: ask(PROMPTS["chat"], name="no-such-model")),
            "retried": text(PROMPTS["retried"]),
            "waited": text(PROMPTS["waited"]),
            "gave_up": error_of(lambda: ask(PROMPTS["gave_up"])),
        }
    )
)
