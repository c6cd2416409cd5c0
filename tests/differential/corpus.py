"""The requests that are sent both ways: valid, invalid, to a faulty upstream, whole and streamed.

Every case is one request. `known` names, by aspect, why an answer through LiteLLM may differ. An aspect without an
entry must be equal.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

CHAT = "/v1/chat/completions"
SPEECH = "/v1/audio/speech"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tell the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TIME = {
    "type": "function",
    "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}},
}
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "answer",
        "schema": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    },
}


# Why LiteLLM's way may differ.
BROKEN_CHUNK = "the fast path passes bytes on; LiteLLM has to read them"
ESTIMATE = (
    "the adapter estimates from LiteLLM's own rendering of the request, and puts the estimate into the answer"
)
UNREAD = "what had been received when the connection broke may not have been read"
FIRST_CHUNK = "LiteLLM answers when it has a first chunk, the fast path when it has upstream's status"
ORDER = "two things are wrong, and LiteLLM looks at another one first"
NO_CODE = "LiteLLM's OpenAI client, which serves speech, loses upstream's code"


@dataclass(frozen=True)
class Case:
    """One request."""

    name: str
    body: bytes
    path: str = CHAT
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)
    known: Mapping[str, str] = field(default_factory=dict)
    """Aspects that may differ, and why; with `status` nothing else is compared."""


def chat(
    name: str, text: str = "one two three", *, lines: tuple[str, ...] = (), known=None, **fields: Any
) -> Case:
    """A chat request; `lines` steer the emulator from the first lines of the message."""
    message = {"role": "user", "content": "\n".join([*lines, text])}
    body = {"model": "house", "messages": [message], **fields}
    return Case(name, json.dumps(body).encode(), known=known or {})


def both_ways(name: str, text: str = "one two three", **fields: Any) -> Iterator[Case]:
    """The same request whole and streamed, the stream with and without its usage."""
    yield chat(f"{name}, whole", text, **fields)
    yield chat(f"{name}, streamed", text, stream=True, **fields)
    yield chat(
        f"{name}, streamed with usage", text, stream=True, stream_options={"include_usage": True}, **fields
    )


def valid() -> Iterator[Case]:
    yield from both_ways("plain")
    yield from both_ways("unicode", "grüße 世界 🎉 \u2028 end")
    yield from both_ways("a hundred words", " ".join(f"w{i}" for i in range(100)))
    yield from both_ways("cut by max_tokens", "a b c d e f", max_tokens=3)
    yield from both_ways("cut by max_completion_tokens", "a b c d e f", max_completion_tokens=2)
    yield from both_ways("several choices", n=3)
    yield from both_ways("stop strings", "a b STOP c", stop=["STOP"])
    yield from both_ways("a tool", "what is the weather in Delhi", tools=[WEATHER])
    yield from both_ways("two tools", "get weather and time", tools=[WEATHER, TIME])
    yield from both_ways("a named tool", tools=[WEATHER, TIME],
                         tool_choice={"type": "function", "function": {"name": "get_time"}})  # fmt: skip
    yield from both_ways("tools, none wanted", "weather", tools=[WEATHER], tool_choice="none")
    yield from both_ways("JSON", response_format={"type": "json_object"})
    yield from both_ways("JSON by schema", response_format=SCHEMA)
    yield from both_ways(
        "cached prompt tokens", "one two three four", lines=("x-neev-fault: cached-tokens=2",)
    )
    silent = {"text": "some words to count here", "lines": ("x-neev-fault: no-usage",)}
    yield chat("no usage, whole", known={"usage": ESTIMATE, "cost in nano-USD": ESTIMATE}, **silent)
    yield chat("no usage, streamed", stream=True, **silent)
    yield chat("no usage, streamed with usage", stream=True, stream_options={"include_usage": True},
               known={"usage": ESTIMATE}, **silent)  # fmt: skip
    yield from both_ways("given usage", lines=("x-neev-echo: prompt-tokens=1234",))
    yield chat("null content though tokens were made", lines=("x-neev-fault: null-content",))
    for fault in ("odd-chunks", "split-bytes", "crlf"):
        yield chat(f"{fault}, streamed", "one two three four", lines=(f"x-neev-fault: {fault}",), stream=True)
    conversation = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "hello"}, {"type": "text", "text": "there"}]},
        {"role": "assistant", "content": None,
         "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "get_time", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "noon"},
        {"role": "user", "content": "thank you so much"},
    ]  # fmt: skip
    yield Case(
        "a conversation with tool results",
        json.dumps(
            {"model": "house", "messages": conversation, "tools": [TIME], "tool_choice": "none"}
        ).encode(),
    )
    for name, value in {
        "temperature": 0.5, "top_p": 0.9, "seed": 7, "presence_penalty": 1, "frequency_penalty": -1, "user": "u-1",
        "logit_bias": {"50": 1}, "reasoning_effort": "low", "parallel_tool_calls": True, "my_own_field": {"x": [1]},
    }.items():  # fmt: skip
        fields: dict[str, Any] = {name: value}
        if name == "parallel_tool_calls":
            fields["tools"] = [TIME]
        yield chat(f"with {name}", **fields)


def invalid() -> Iterator[Case]:
    for name, body in {
        "nothing": b"", "not JSON": b"{", "an array": b"[]", "a string": b'"x"', "null": b"null", "NaN": b'{"model": NaN}',
        "two objects": b"{}{}", "UTF-16": '{"model": "house"}'.encode("utf-16"), "not UTF-8": b'{"model": "\xff"}',
        "an empty object": b"{}", "no messages": b'{"model": "house"}', "no model": b'{"messages": []}',
        "deep nesting": b'{"model": "house", "messages": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    }.items():  # fmt: skip
        known = {"an empty object": {"param": ORDER}, "no model": {"param": ORDER, "code": ORDER}}.get(
            name, {}
        )
        yield Case(f"a body of {name}", body, known=known)
    for name, value in {
        "model": 5, "messages": "hi", "temperature": 3, "top_p": 2, "n": 0, "stream": "yes", "max_tokens": 0,
        "presence_penalty": 5, "frequency_penalty": "x", "response_format": {"type": "xml"}, "tools": {}, "tool_choice": 5,
        "stream_options": True, "stop": [1],
    }.items():  # fmt: skip
        yield chat(f"a wrong {name}", **{name: value})
    yield chat("n of 129", n=129)
    yield chat("temperature as text", temperature="1")
    yield chat("temperature true", temperature=True)
    yield chat("too many stop strings", stop=list("abcde"))
    yield chat("an unknown model", model="no-such-model")
    yield chat("an empty model", model="")
    yield chat("a speech model for chat", model="tts-1")
    for name, messages in {
        "an unknown role": [{"role": "robot", "content": "x"}],
        "no content": [{"role": "user"}],
        "no role": [{"content": "x"}],
        "an empty list": [],
        "a message that is text": ["hi"],
        "a tool result without its id": [{"role": "tool", "content": "x"}],
    }.items():
        yield chat(f"messages with {name}", messages=messages)
    for name in ("api_key", "api_base", "base_url", "extra_headers", "aws_secret_access_key", "api_version"):
        yield chat(f"a client's own {name}", **{name: {} if name == "extra_headers" else "x"})


def upstream_faults() -> Iterator[Case]:
    faults = [
        "status=400", "status=401", "status=402", "status=403", "status=404", "status=408", "status=409", "status=413",
        "status=422", "status=429", "status=500", "status=501", "status=502", "status=503", "status=504", "status=529",
        "retry-after=7", "context-length", "html", "bad-json", "empty-body", "redirect", "reset",
        "status=400;shape=string", "status=400;shape=flat", "status=400;shape=reason", "status=500;shape=html",
        "status=400;shape=empty", "status=429;shape=flat", "cut-after=0",
    ]  # fmt: skip
    for fault in faults:
        for stream in (False, True):
            how = "streamed" if stream else "whole"
            known = {"status": FIRST_CHUNK} if (fault, stream) == ("cut-after=0", True) else {}
            lines = (f"x-neev-fault: {fault}",)
            yield chat(f"upstream's {fault}, {how}", lines=lines, stream=stream, known=known)
    for fault, known in {
        "cut-after=2": {"contents": UNREAD},
        "error-after=2": {},
        "bad-json-chunk=2": dict.fromkeys(
            ("contents", "finish", "error event", "ends with [DONE]"), BROKEN_CHUNK
        ),
        "no-done": {"ends with [DONE]": "LiteLLM ends every whole stream with [DONE]"},
    }.items():
        # At a pace: what has been received when a connection breaks may not have been read.
        lines = (f"x-neev-fault: {fault}", "x-neev-echo: rate=20")
        yield chat(f"upstream's {fault}, streamed", "a b c d e", lines=lines, stream=True, known=known)


def speech() -> Iterator[Case]:
    def case(name: str, *, fault: str = "", known=None, **fields: Any) -> Case:
        text = f"x-neev-fault: {fault}\nHello there" if fault else "Hello there"
        body = {"model": "tts-1", "voice": "alloy", "input": text, **fields}
        return Case(f"speech {name}", json.dumps(body).encode(), path=SPEECH, known=known or {})

    yield case("plain")
    yield case("fast", speed=2.0)
    yield case("as mp3", response_format="mp3")
    yield case("with an unknown field", instructions="calmly")
    for name, value in {"speed": 9, "input": "", "voice": 5, "response_format": "wav", "model": None}.items():
        yield case(f"with a wrong {name}", **{name: value})
    yield case("of an unknown model", model="no-such-voice")
    yield case("of a chat model", model="house")
    yield case("with upstream's status=400", fault="status=400", known={"code": NO_CODE})
    for fault in (
        "empty-audio",
        "status=401",
        "status=429",
        "status=500",
        "status=503",
        "html",
    ):
        yield case(f"with upstream's {fault}", fault=fault)


def of_the_door() -> Iterator[Case]:
    hello = chat("").body
    yield Case("a wrong key", hello, headers={"Authorization": "Bearer sk-wrong"})
    yield Case("no key", hello, headers={"Authorization": ""})
    yield Case("another scheme", hello, headers={"Authorization": "Basic eDp5"})
    yield Case("a PUT", hello, method="PUT")
    yield Case("a GET", b"", method="GET")
    yield Case("an unknown route", hello, path="/v1/chat/nothing")
    yield Case("text/plain", hello, headers={"Content-Type": "text/plain"})
    yield Case("without the prefix", hello, path="/chat/completions")
    yield Case("a model that does not exist, asked for", b"", path="/v1/models/none", method="GET")
    yield Case("the models", b"", path="/v1/models", method="GET")
    yield Case("one model", b"", path="/v1/models/house", method="GET")


CORPUS = [*valid(), *invalid(), *upstream_faults(), *speech(), *of_the_door()]
