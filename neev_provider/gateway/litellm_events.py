"""LiteLLM's event streams: passed on as they come, what they say of an error put into the contract's words.

Called by `litellm_path.py`.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from neev_provider.gateway.litellm_answers import error_from_object
from neev_provider.sse import EventSplitter, data_of, encode_event, terminated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from neev_provider.errors import NeevError
    from neev_provider.gateway.exchange import Exchange

__all__ = ["error_event", "relay_events"]

_NAME: Final = re.compile(rb"^event: ?([\w.]{1,100})\r?$", re.MULTILINE)
_UNKNOWN_STATUS: Final = 500
_ANTHROPIC: Final = "/messages"


async def relay_events(exchange: Exchange, first: bytes, parts: AsyncIterator[bytes]) -> None:
    """Pass events on, those of one read in one write.

    Args:
        exchange: whose answer has begun.
        first: the first read.
        parts: the other ones.

    Raises:
        NeevError: an event is too large.
    """
    splitter = EventSplitter()
    part = first
    while part:
        events = splitter.feed(part)
        if events:
            if exchange.facts.first_at is None and any(data_of(event) is not None for event in events):
                exchange.facts.first_at = time.perf_counter()  # comments keep the connection alive, no more
            await exchange.write(b"".join([_in_our_words(exchange, event) for event in events]))
        part = await anext(parts, b"")
    rest = [_in_our_words(exchange, terminated(event)) for event in splitter.flush()]
    if rest:
        await exchange.write(b"".join(rest))


def error_event(exchange: Exchange, error: NeevError) -> bytes:
    """Return an error as an event; in Anthropic's form where its clients ask, whose message is the same."""
    if exchange.scope["path"].endswith(_ANTHROPIC):
        return _anthropic(error)
    return encode_event(error.encode())


def _anthropic(error: NeevError) -> bytes:
    return b"event: error\n" + encode_event(msgspec.json.encode({"type": "error", **error.body()}))


def _in_our_words(exchange: Exchange, event: bytes) -> bytes:
    if b'"error"' not in event:
        return event
    data = data_of(event)
    try:
        answer = msgspec.json.decode(data or b"null")
    except (msgspec.DecodeError, RecursionError):
        return event
    if not isinstance(answer, dict):
        return event
    if isinstance(answer.get("error"), dict | str) and answer["error"]:
        error = error_from_object(answer, _status(answer["error"]))
        exchange.notes["error"] = error.code
        return _anthropic(error) if answer.get("type") == "error" else encode_event(error.encode())
    response = answer.get("response")
    if isinstance(response, dict) and isinstance(response.get("error"), dict):
        # /v1/responses: the failed response holds it.
        error = error_from_object(response, _status(response["error"]))
        exchange.notes["error"] = error.code
        response["error"] = {"code": error.code, "message": error.message}
        name = _NAME.search(event)
        head = b"" if name is None else b"event: " + name[1] + b"\n"
        return head + encode_event(msgspec.json.encode(answer))
    return event


def _status(error: Any) -> int:
    code = str(error.get("code")) if isinstance(error, dict) else ""
    return int(code) if re.fullmatch(r"[45]\d\d", code) else _UNKNOWN_STATUS
