"""What the fuzzer begins with: one good example of each kind, so that it need not invent JSON and HTTP."""

from __future__ import annotations

import json

_CHUNK = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-oss-120b"}


def _event(**fields: object) -> bytes:
    return b"data: " + json.dumps({**_CHUNK, **fields}, separators=(",", ":")).encode() + b"\n\n"


def _delta(text: str | None, finish: str | None = None) -> list[dict]:
    return [{"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish}]


_USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
_STREAM = (
    _event(choices=_delta("one"))
    + _event(choices=_delta(" two"))
    + _event(choices=_delta(" three"), usage=None)
    + _event(choices=_delta(None, "stop"))
    + _event(choices=[], usage=_USAGE)
    + b"data: [DONE]\n\n"
)
_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
_CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{bad"}}
_CHAT = {
    "model": "house",
    "messages": [
        {"role": "developer", "content": "x"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "assistant", "content": None, "tool_calls": [_CALL]},
        {"role": "tool", "content": "y", "tool_call_id": "c"},
    ],
    "tools": [_TOOL],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "max_completion_tokens": 5,
    "stream": True,
    "stream_options": {"include_usage": True, "more": 1},
    "temperature": 0.5,
    "stop": ["a"],
    "response_format": {"type": "json_object"},
    "user": "\u00e9",
}
_HEAD = "Host: a\r\nAuthorization: Bearer x\r\n"

SEEDS: dict[str, list[bytes]] = {
    "sse": [
        b"\1\5\7" + _STREAM,
        b"\0\1\1" + _STREAM.replace(b"\n", b"\r\n"),
        b"\0\2\3" + _STREAM.replace(b"\n", b"\r"),
        b'\0\4\4: ping\n\nevent: error\ndata: {"error": {"message": "sk-nc-x", "code": 429}}\n\n',
        b'\1\4\4\xef\xbb\xbfdata: {"error":"overloaded"}\n\nid: 1\ndata: a\ndata: b\n\n',
    ],
    "contract": [
        json.dumps(_CHAT).encode(),
        json.dumps({"model": "tts-1", "voice": "alloy", "input": "hi", "speed": 1.5}).encode(),
        b'{"model":"a","model":"b","messages":[{"role":"user","content":"\\ud83d\\ude00"}],"api_base":"http://x"}',
        b'{"error":{"message":"The model `x` does not exist","code":"model_not_found","param":"model"}}',
    ],
    "admin": [
        (
            b"key=a&page=2\n"
            b'{"key_alias":"a","max_budget":0.1,"budget_duration":"30d","models":["a"],"duration":"1mo"}'
        ),
        b'\n{"team_alias":"t","rpm_limit":5,"metadata":{"a":[1]},"blocked":true,"tags":[]}',
    ],
    "http": [
        f"GET /v1/models?x=1 HTTP/1.1\r\n{_HEAD}\r\n".encode() * 2,
        f"POST /a HTTP/1.1\r\n{_HEAD}Content-Length: 3\r\nExpect: 100-continue\r\n\r\nabcGET /b HTTP/1.1\r\nHost: a\r\n\r\n".encode(),
        f"POST /a HTTP/1.1\r\n{_HEAD}Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\nGET /b HTTP/1.0\r\n\r\n".encode(),
        f"GET /a HTTP/1.1\r\n{_HEAD}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n".encode(),
    ],
}
