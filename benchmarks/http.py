"""As much HTTP/1.1 as the rig's two ends need: where a message ends, and what a chunked body says.

Not a validating parser: both ends are ours, and what a contestant writes is checked by content. Called by the
mock upstream and the load generator, once per message, which is why it scans bytes instead of building objects.
"""

from __future__ import annotations

__all__ = ["body_of", "decode_chunked", "message_end", "request_bytes"]

_BLANK = b"\r\n\r\n"
_LENGTH = b"\r\ncontent-length:"
_CHUNKED = b"\r\ntransfer-encoding:"


def message_end(data: bytes) -> int | None:
    """Return where the first message in `data` ends, or None while it is incomplete.

    A message with neither a length nor chunks has no body: true for requests, and answers here always have one.
    """
    head_end = data.find(_BLANK)
    if head_end < 0:
        return None
    head = data[:head_end].lower()
    start = head_end + len(_BLANK)
    at = head.find(_LENGTH)
    if at >= 0:
        line_end = head.find(b"\r\n", at + 2)
        end = start + int(head[at + len(_LENGTH) : line_end if line_end >= 0 else head_end])
        return end if len(data) >= end else None
    if _CHUNKED in head:
        return _chunked_end(data, start)
    return start


def body_of(message: bytes) -> bytes:
    """Return the body of a complete message, without chunk framing."""
    head, _, body = message.partition(_BLANK)
    lowered = head.lower()
    return decode_chunked(body) if _CHUNKED in lowered and _LENGTH not in lowered else body


def decode_chunked(framed: bytes) -> bytes:
    """Return the content of the complete chunks in `framed`; what is cut at its end is left out."""
    content = bytearray()
    at = 0
    while (line_end := framed.find(b"\r\n", at)) >= 0:
        size = _chunk_size(framed[at:line_end])
        at = line_end + 2 + size + 2
        if size == 0 or at > len(framed):
            break
        content += framed[line_end + 2 : at - 2]
    return bytes(content)


def request_bytes(port: int, path: str, headers: dict[str, str], body: bytes) -> bytes:
    """Return a POST request, ready to be sent again and again on a kept-alive connection."""
    lines = [f"POST {path} HTTP/1.1", f"host: 127.0.0.1:{port}", "content-type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def _chunked_end(data: bytes, at: int) -> int | None:
    while (line_end := data.find(b"\r\n", at)) >= 0:
        size = _chunk_size(data[at:line_end])
        if size == 0:
            end = data.find(_BLANK, line_end)  # after trailers, if any
            return end + len(_BLANK) if end >= 0 else None
        at = line_end + 2 + size + 2
        if at > len(data):
            return None
    return None


def _chunk_size(line: bytes) -> int:
    return int(line.partition(b";")[0], 16)
