"""The JSON objects of a chat answer, whole and in chunks, as `neev_openapi.json` has them.

Pure; called by `chat.py` and `stream.py`.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from neev_provider.emulator.engine import Choice, Generation, Piece
    from neev_provider.emulator.faults import Faults

__all__ = ["call_id", "chunk", "completion", "delta", "head", "usage_object"]

Object = dict[str, Any]


def head(model: str) -> Object:
    """Return what an answer and each of its chunks begin with."""
    return {"id": "chatcmpl-" + os.urandom(12).hex(), "created": int(time.time()), "model": model}


def call_id() -> str:
    """Return a new id for a tool call."""
    return "call_" + os.urandom(12).hex()


def completion(beginning: Object, choices: Iterable[Choice], usage: Object | None, faults: Faults) -> Object:
    """Return a `ChatCompletionResponse`."""
    body = {
        **beginning,
        "object": "chat.completion",
        "choices": [_choice(index, choice, faults) for index, choice in enumerate(choices)],
    }
    if usage is not None:
        body["usage"] = usage
    return body


def _choice(index: int, choice: Choice, faults: Faults) -> Object:
    message: Object = {"role": "assistant", "content": choice.text}
    if choice.calls:
        message["content"] = choice.text or None
        message["tool_calls"] = [
            {
                "id": call_id(),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in choice.calls
        ]
    if faults.null_content:
        message["content"] = None
    return {"index": index, "message": message, "finish_reason": choice.finish}


def chunk(beginning: Object, choices: list[Object], usage: Object | None = None) -> Object:
    """Return a `ChatCompletionChunk`."""
    body = {**beginning, "object": "chat.completion.chunk", "choices": choices}
    if usage is not None:
        body["usage"] = usage
    return body


def delta(piece: Piece, faults: Faults) -> Object:
    """Return the choice that carries one piece in a chunk."""
    change: Object
    if piece.finish is not None:
        change = {}
    elif piece.call is None:
        change = {"content": None if faults.null_content else piece.text}
    elif piece.name is None:
        change = {"tool_calls": [{"index": piece.call, "function": {"arguments": piece.text}}]}
    else:
        function = {"name": piece.name, "arguments": piece.text}
        change = {
            "tool_calls": [{"index": piece.call, "id": call_id(), "type": "function", "function": function}]
        }
    return {"index": piece.index, "delta": change, "finish_reason": piece.finish}


def usage_object(generation: Generation, faults: Faults) -> Object | None:
    """Return the `usage` of a generation as far as it has come, or None if a fault leaves it out."""
    if faults.no_usage:
        return None
    prompt, made = generation.prompt_tokens, generation.completion_tokens
    usage: Object = {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}
    if faults.cached_tokens is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": min(faults.cached_tokens, prompt)}
    return usage
