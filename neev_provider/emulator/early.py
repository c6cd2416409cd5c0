"""Faults that take the place of the answer: nothing is generated, nothing is counted as produced.

Called by `app.py` before a request is looked at, and again with the faults by which a quirk answers a broken rule.
"""

from __future__ import annotations

import asyncio
from math import ceil
from typing import TYPE_CHECKING, Any, Final

from neev_provider.emulator.faults import MAX_STALL_SECONDS
from neev_provider.emulator.refusal import Refusal, error_body, html_page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from neev_provider.emulator.exchange import Exchange
    from neev_provider.emulator.faults import Faults

__all__ = ["answer_early"]

_BROKEN_JSON: Final = b'{"id": "chatcmpl-broken", "object": "chat.completion", "choices": [{"index": 0, "mess'
_AUDIO: Final = b"audio/mpeg"
_CODES: Final[Mapping[int, tuple[str, str]]] = {
    400: ("invalid_value", "The request is not valid."),
    401: ("invalid_api_key", "Invalid API key provided."),
    402: ("insufficient_quota", "The account has no credit left."),
    403: ("forbidden", "This key may not do that."),
    404: ("model_not_found", "The model does not exist."),
    429: ("rate_limit_exceeded", "Rate limit reached. Try again later."),
    503: ("service_unavailable", "The service is temporarily unavailable."),
}
_BODILESS: Final = frozenset({204, 304})


async def answer_early(
    exchange: Exchange, faults: Faults, route: str, body: Mapping[str, Any] | None
) -> bool:
    """Answer in the way of the faults; return whether the request is done with.

    Raises:
        Refusal: a fault says that the request is to be refused as documented.
        ClientGone: the client left while it was kept waiting.
    """
    if faults.slow_first_byte:
        async with exchange.watching():
            await asyncio.sleep(faults.slow_first_byte)
    if faults.stall:
        await exchange.stall(MAX_STALL_SECONDS)
    elif faults.reset:
        await exchange.drop(reset=True)
    elif faults.redirect:
        host = exchange.header(b"host") or "127.0.0.1"
        location = f"http://{host}/_emulator/redirected".encode("latin-1")
        await exchange.respond(307, b"", b"", [(b"location", location)])
    elif faults.status is not None:
        await _answer_status(exchange, faults, faults.status)
    elif faults.html:
        await exchange.respond(200, html_page("Welcome to nginx!"), b"text/html")
    elif faults.bad_json:
        await exchange.respond(200, _BROKEN_JSON)
    elif faults.empty_body:
        await exchange.respond(200, b"")
    elif faults.empty_audio and route == "speech":
        await exchange.respond(200, b"", _AUDIO)
    else:
        _refuse(faults, route, body or {})
        return False
    return True


async def _answer_status(exchange: Exchange, faults: Faults, status: int) -> None:
    code, message = _CODES.get(status, ("server_error", f"Fault: status {status}."))
    body, content_type = error_body(faults.shape, status, code, message)
    headers = []
    if faults.retry_after is not None:
        headers.append((b"retry-after", str(ceil(faults.retry_after)).encode()))
    if status in _BODILESS:
        body, content_type = b"", b""
    await exchange.respond(status, body, content_type, headers)


def _refuse(faults: Faults, route: str, body: Mapping[str, Any]) -> None:
    if faults.context_length and route == "chat":
        raise Refusal(
            400,
            "context_length_exceeded",
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens. "
            "Please reduce the length of the messages.",
            param="messages",
        )
    refused = [faults.refuse_field] if faults.refuse_field is not None else []
    if faults.refuse_stream_options:
        refused.append("stream_options")
    for name in refused:
        if name in body:
            raise Refusal(400, "unknown_parameter", f"Unknown parameter: '{name}'.", param=name)
