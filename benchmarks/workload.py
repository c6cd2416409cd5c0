"""What is asked and what is answered: the one description that the mock upstream and the load generator share.

Every answer a contestant relays is compared with it, so that a fast wrong answer counts as an error.
"""

from __future__ import annotations

import json
from typing import Any, Final

__all__ = [
    "CHAT_ANSWER",
    "CHAT_TEXT",
    "MODEL",
    "PATH",
    "STREAM_END",
    "STREAM_EVENTS",
    "STREAM_ROLE",
    "STREAM_USAGE",
    "chat_body",
    "stream_body",
    "stream_text",
    "text_of_events",
]

MODEL: Final = "gpt-oss-120b"
PATH: Final = "/v1/chat/completions"
CHAT_TEXT: Final = "The Indus rises near Lake Manasarovar."
_USAGE: Final = {"prompt_tokens": 24, "completion_tokens": 9, "total_tokens": 33}
_MESSAGES: Final = [
    {"role": "system", "content": "You are a helpful assistant. Answer in one sentence."},
    {"role": "user", "content": "Where does the Indus rise, and through which countries does it flow?"},
]
# Changing words: LiteLLM ends a stream that says the same a hundred times.
_WORDS: Final = (
    " the",
    " river",
    " runs",
    " from",
    " Tibet",
    " through",
    " Ladakh",
    " and",
    " on",
    " to",
    " the sea",
)


def _chunk(choices: list[dict[str, Any]], **extra: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-4f1c9d2ab37e4c1a",
        "object": "chat.completion.chunk",
        "created": 1767225600,
        "model": MODEL,
        "choices": choices,
        **extra,
    }


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + _compact(document) + b"\n\n"


def _compact(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _delta(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    return _event(_chunk([{"index": 0, "delta": delta, "finish_reason": finish_reason}]))


CHAT_ANSWER: Final = _compact(
    {
        "id": "chatcmpl-4f1c9d2ab37e4c1a",
        "object": "chat.completion",
        "created": 1767225600,
        "model": MODEL,
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": CHAT_TEXT}, "finish_reason": "stop"},
        ],
        "usage": _USAGE,
    }
)
STREAM_ROLE: Final = _delta({"role": "assistant", "content": ""})
STREAM_EVENTS: Final = tuple(_delta({"content": word}) for word in _WORDS)
STREAM_USAGE: Final = _event(_chunk([], usage=_USAGE))
STREAM_END: Final = (_delta({}, "stop"), b"data: [DONE]\n\n")


def chat_body(prompt_bytes: int = 0, model: str = MODEL) -> bytes:
    """Return the body of the non-streamed request, its prompt not shorter than this."""
    return _compact({"model": model, "messages": _messages(prompt_bytes), "max_tokens": 256})


def stream_body(chunks: int, prompt_bytes: int = 0, model: str = MODEL) -> bytes:
    """Return the body of the streamed request; `max_tokens` tells the mock upstream how many chunks to send."""
    messages = _messages(prompt_bytes)
    return _compact({"model": model, "messages": messages, "max_tokens": chunks, "stream": True})


def _messages(prompt_bytes: int) -> list[dict[str, Any]]:
    """Return the messages, the question preceded by as many words as are missing."""
    system, user = _MESSAGES
    missing = max(0, prompt_bytes - len(system["content"]) - len(user["content"]))
    words = "".join(_WORDS)
    padding = (words * (missing // len(words) + 1))[:missing]
    return [system, {**user, "content": padding + user["content"]}]


def stream_text(chunks: int) -> str:
    """Return the text that a stream of so many chunks says."""
    return "".join(_WORDS[number % len(_WORDS)] for number in range(chunks))


def text_of_events(body: bytes) -> tuple[str, bool]:
    """Return the text of a streamed answer, and whether it ended with `[DONE]`.

    Raises:
        ValueError: an event is not JSON, or not a chunk (an error event, say).
    """
    text: list[str] = []
    for line in body.splitlines():
        if not line.startswith(b"data:"):
            continue
        data = line[len(b"data:") :].strip()
        if data == b"[DONE]":
            return "".join(text), True
        document = json.loads(data)
        if "choices" not in document:
            raise ValueError(f"not a chunk: {data[:200]!r}")
        text += [choice["delta"].get("content") or "" for choice in document["choices"]]
    return "".join(text), False
