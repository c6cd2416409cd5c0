"""Requests out of bytes: the parser of one connection, and the limits of what it reads.

On httptools (llhttp), which has no limits of its own: what it is fed without an end it keeps. Responsible for heads
and framing; what is done with a request is the connection's (`http_protocol.py`), its caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import unquote

import httptools

from neev_provider.errors import NeevError, RequestError
from neev_provider.gateway.http_head import fault_of, size_of, too_large, without_upgrade

if TYPE_CHECKING:
    from neev_provider.gateway.server_state import ServerOptions

__all__ = ["RequestReader", "Sink"]

_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}


class Sink(Protocol):
    """Who takes the requests."""

    def on_head(self) -> None:
        """Note that a head begins."""

    def on_request(
        self, scope: dict[str, Any], *, keep_alive: bool, expects_continue: bool
    ) -> NeevError | None:
        """Take a request whose body follows; return why not, or None."""

    def on_body(self, part: bytes) -> None:
        """Take a part of its body."""

    def on_end(self) -> None:
        """Note that all of it has come."""


class RequestReader:
    """Reads the requests of one connection.

    Attributes:
        in_head: a head has begun and not ended.
    """

    def __init__(
        self,
        sink: Sink,
        options: ServerOptions,
        client: tuple[str, int] | None,
        server: tuple[str, int] | None,
    ) -> None:
        self._sink: Final = sink
        self._options: Final = options
        self._client: Final = client
        self._server: Final = server
        self._parser = httptools.HttpRequestParser(self)
        self._requests = 0
        self._segment = 0
        self._fault: NeevError | None = None
        # The head
        self.in_head = False
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._first_segment = 0
        self._head_bytes = 0  # less those of its first and its last segment
        self._plain_head: bytes | None = None
        # The body
        self._in_body = False
        self._body_came = False
        self._barren_bytes = 0  # read since the last byte of the body: chunk extensions and trailers

    def close(self) -> None:
        """Let go of the parser, which holds this object."""
        del self._parser

    def feed(self, data: bytes) -> NeevError | None:
        """Read what has come; return why the rest is not read, or None."""
        request = self._requests
        self._segment = len(data)
        self._body_came = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return self._feed_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError:
            if self._fault is None:
                raise
            return self._fault
        except httptools.HttpParserError as error:
            return RequestError("invalid_http", f"The request is not well-formed HTTP/1.1: {error}.")
        return self._endless() if request == self._requests else None

    def _endless(self) -> NeevError | None:
        """Return the refusal of a head or trailer that goes on and on; all of the segment belonged to it."""
        limit = self._options.header_bytes
        if self.in_head:
            self._head_bytes += self._segment
            return too_large(limit) if self._head_bytes > limit else None
        if self._in_body and not self._body_came:
            self._barren_bytes += self._segment
            return too_large(limit) if self._barren_bytes > limit else None
        return None

    def _feed_without_upgrade(self, rest: bytes) -> NeevError | None:
        assert self._plain_head is not None  # noqa: S101 - set by the same request's head
        plain, self._plain_head = self._plain_head, None
        self._parser = httptools.HttpRequestParser(self)
        return self.feed(plain + rest)

    # Called by the parser

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._requests += 1
        self._url = b""
        self._headers = []
        self._first_segment = self._segment
        self._head_bytes = 0
        self.in_head = True
        self._sink.on_head()

    def on_url(self, url: bytes) -> None:
        """Take a part of the request target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; those after a chunked body are dropped."""
        if self.in_head:
            # Blanks after a value are no part of it (RFC 9112, 5); the parser leaves them.
            self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """Check the head and hand the request over."""
        headers, url, parser = self._headers, self._url, self._parser
        method, version = parser.get_method(), parser.get_http_version()
        fields = dict(headers)
        fault = self._size_fault(url, headers) or fault_of(method, url, version, headers, fields)
        if fault is None:
            keep_alive = parser.should_keep_alive()
            self.in_head = False
            if b"upgrade" in fields and parser.should_upgrade():
                self._plain_head = without_upgrade(method, url, version, headers, keep_alive=keep_alive)
                return
            self._in_body = True
            self._barren_bytes = 0
            is_1_1 = version == "1.1"
            fault = self._sink.on_request(
                self._scope(method, url, version, headers),
                keep_alive=keep_alive and is_1_1,
                expects_continue=is_1_1 and fields.get(b"expect", b"").lower() == b"100-continue",
            )
        if fault is not None:
            self._fault = fault
            raise fault

    def _size_fault(self, url: bytes, headers: list[tuple[bytes, bytes]]) -> NeevError | None:
        options = self._options
        at_most = self._first_segment + self._head_bytes + self._segment
        if at_most > options.header_bytes and size_of(url, headers) > options.header_bytes:
            return too_large(options.header_bytes)
        if len(headers) > options.header_count:
            return RequestError(
                "headers_too_large", f"The request has more than {options.header_count:,} headers."
            )
        return None

    def _scope(
        self, method: bytes, url: bytes, version: str, headers: list[tuple[bytes, bytes]]
    ) -> dict[str, Any]:
        raw_path, _, query = url.partition(b"?")
        path = raw_path.decode("ascii")
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": method.decode("ascii"),
            "scheme": "http",
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "client": self._client,
            "server": self._server,
        }

    def on_body(self, part: bytes) -> None:
        """Take a part of a body."""
        self._body_came = True
        self._barren_bytes = 0
        self._sink.on_body(part)

    def on_message_complete(self) -> None:
        """End a request."""
        if self._plain_head is None:
            self._in_body = False
            self._sink.on_end()
