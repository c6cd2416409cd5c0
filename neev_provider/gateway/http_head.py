"""What the head of a request may say: limits of its size, and nothing that two readers could understand differently.

The parser (llhttp, strict) refuses what is malformed; what is well-formed but not meant for an origin server, or read
differently by servers in front of this one (request smuggling, RFC 9112 section 11.2), is refused here. Pure
functions. Called by `http_protocol.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from neev_provider.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Headers = Sequence[tuple[bytes, bytes]]

__all__ = ["fault_of", "size_of", "too_large", "without_upgrade"]

_SINGLE: Final = (b"host", b"content-length", b"transfer-encoding")
_PER_HEADER: Final = 4  # the colon, the blank and the line's end
_VERSIONS: Final = frozenset({"1.0", "1.1"})


def size_of(url: bytes, headers: Headers) -> int:
    """Return the bytes that a head takes on the wire, less those of method and version."""
    return len(url) + sum(len(name) + len(value) + _PER_HEADER for name, value in headers)


def too_large(limit: int) -> RequestError:
    """Return the refusal of a head of more than `limit` bytes."""
    return RequestError(
        "headers_too_large", f"The request line and the headers are larger than {limit:,} bytes."
    )


def fault_of(
    method: bytes, url: bytes, version: str, headers: Headers, fields: Mapping[bytes, bytes]
) -> RequestError | None:
    """Return why a request is refused by its head, or None.

    Args:
        method: as sent.
        url: the request target, as sent.
        version: "1.1" and the like.
        headers: in their order, names in lower case.
        fields: the same, of a repeated one the last.
    """
    problem = (
        _target_problem(method, url, version)
        or _framing_problem(version, fields)
        or (len(fields) != len(headers) and _repetition(headers))
        or (version == "1.1" and b"host" not in fields and "The Host header is missing.")
    )
    return RequestError("invalid_http", problem) if problem else None


def _target_problem(method: bytes, url: bytes, version: str) -> str | None:
    if version not in _VERSIONS:
        return "Only HTTP/1.1 and HTTP/1.0 are spoken here."
    if not url.startswith(b"/") or method == b"CONNECT":
        return "The request target must be a path: this is no proxy."
    return "The request target must not hold a fragment (#)." if b"#" in url else None


def _framing_problem(version: str, fields: Mapping[bytes, bytes]) -> str | None:
    coding = fields.get(b"transfer-encoding")
    if coding is None:
        return None
    if version == "1.0" or coding.lower() != b"chunked":
        return "The only Transfer-Encoding is chunked, in HTTP/1.1."
    return "Content-Length and Transfer-Encoding exclude each other." if b"content-length" in fields else None


def _repetition(headers: Headers) -> str | None:
    names = [name for name, _ in headers]
    return next(
        (f"The header {name.decode()} is repeated." for name in _SINGLE if names.count(name) > 1), None
    )


def without_upgrade(method: bytes, url: bytes, version: str, headers: Headers, *, keep_alive: bool) -> bytes:
    """Return a head anew without its offer to change the protocol, which a server may ignore (RFC 9110, 7.8).

    Java's HTTP client offers h2c with its first request, body and all; the parser takes the body for the new
    protocol's.
    """
    kept = [
        (name, value) for name, value in headers if name not in {b"upgrade", b"connection", b"http2-settings"}
    ]
    kept.append((b"connection", b"keep-alive" if keep_alive else b"close"))
    lines = [b"%b %b HTTP/%b" % (method, url, version.encode()), *(b"%b: %b" % pair for pair in kept)]
    return b"\r\n".join([*lines, b"", b""])
