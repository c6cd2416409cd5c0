"""Asks a gateway, and takes its answer apart into the aspects that are compared."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.differential.corpus import SPEECH, Case


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes


async def ask(session: aiohttp.ClientSession, key: str, case: Case) -> Answer:
    """Send a case; a connection that breaks off keeps what had come."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", **case.headers}
    given = {name: value for name, value in headers.items() if value}
    async with session.request(case.method, case.path, data=case.body or None, headers=given) as response:
        body = b""
        try:
            async for data in response.content.iter_any():
                body += data
        except aiohttp.ClientPayloadError:
            body += b"\n(broken off)"
        names = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, names, body)


def aspects(case: Case, answer: Answer) -> dict[str, Any]:
    """Return what must be the same on both paths, by name."""
    found: dict[str, Any] = {"status": answer.status, "has a request id": "x-request-id" in answer.headers}
    if answer.status >= 400:
        return found | _error_aspects(answer)
    if case.path == SPEECH:
        return found | {"media type": answer.headers["content-type"], "audio": answer.body}
    if case.path.startswith("/v1/models"):
        return found | {"models": json.loads(answer.body)}
    found["cost in nano-USD"] = _cost(answer)
    if answer.headers["content-type"].startswith("text/event-stream"):
        return found | _stream_aspects(answer.body)
    return found | _chat_aspects(json.loads(answer.body))


def _error_aspects(answer: Answer) -> dict[str, Any]:
    body = json.loads(answer.body)
    error = body["error"]
    return {
        "media type": answer.headers["content-type"],
        "shape": (set(body), set(error)),
        "type": error["type"],
        "code": error["code"],
        "param": error["param"],
        "has a message": bool(error["message"].strip()),
        "retry-after": answer.headers.get("retry-after"),
    }


def _cost(answer: Answer) -> int | None:
    cost = answer.headers.get("x-neev-cost-usd") or answer.headers.get("x-litellm-response-cost")
    # A stream's cost is not known when its headers are sent.
    return round(float(cost) * 1e9) if cost and "event-stream" not in answer.headers["content-type"] else None


def _chat_aspects(body: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": body["model"],
        "object": body["object"],
        "choices": [
            {
                "index": choice["index"],
                "role": choice["message"]["role"],
                "content": choice["message"].get("content"),
                "tools": _tools(choice["message"].get("tool_calls") or []),
                "finish": choice["finish_reason"],
            }
            for choice in body["choices"]
        ],
        "usage": _usage(body.get("usage")),
    }


def _stream_aspects(body: bytes) -> dict[str, Any]:
    contents: dict[int, str] = {}
    tools: dict[int, dict[int, dict[str, str]]] = {}
    finishes: dict[int, str] = {}
    models, usage, error, done = set(), None, None, False
    for line in body.decode().split("\n"):  # not splitlines(): JSON may hold U+2028
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            done = True
            continue
        try:
            chunk = json.loads(data)
        except ValueError:
            continue
        if "error" in chunk:
            error = {name: chunk["error"][name] for name in ("type", "code", "param")}
            continue
        models.add(chunk["model"])
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            index, delta = choice["index"], choice.get("delta") or {}
            contents[index] = contents.get(index, "") + (delta.get("content") or "")
            for call in delta.get("tool_calls") or []:
                entry = tools.setdefault(index, {}).setdefault(call["index"], {"name": "", "arguments": ""})
                function = call.get("function") or {}
                entry["name"] += function.get("name") or ""
                entry["arguments"] += function.get("arguments") or ""
            if choice.get("finish_reason"):
                finishes[index] = choice["finish_reason"]
    return {
        "models": models,
        "contents": {index: text for index, text in contents.items() if text},
        "tools": tools,
        "finish": finishes,
        "usage": _usage(usage),
        "error event": error,
        "ends with [DONE]": done,
    }


def _tools(calls: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(call["function"]["name"], call["function"]["arguments"]) for call in calls]


def _usage(usage: dict[str, Any] | None) -> tuple[int, int, int, int] | None:
    if usage is None:
        return None
    details = usage.get("prompt_tokens_details") or {}
    counts = (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"])
    return (*counts, details.get("cached_tokens") or 0)
