"""The emulator's own errors, and the bodies in which NeevAI words them.

Independent of the product's `errors.py` on purpose: this is the other side of the wire. Raised by validation, engines
and routes; turned into an answer by `app.py`.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

import orjson

__all__ = ["ClientGone", "Refusal", "error_body", "error_object"]

INVALID_REQUEST: Final = "invalid_request_error"
_TYPES: Final = {403: "permission_error", 429: "rate_limit_error"}
_JSON: Final = b"application/json"


class ClientGone(Exception):  # noqa: N818 - an event, not an error
    """The client closed the connection before the answer was complete."""


class Refusal(Exception):  # noqa: N818 - named for what it is to the client
    """The request is answered with an error of the documented shape.

    Attributes:
        status: HTTP status.
        code: OpenAI's machine-readable code.
        message: for the person who reads it.
        param: the request field at fault, or None.
        rule: which rule was broken, as `temperature:low`; `quirks.py` is keyed by it.
    """

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, rule: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.rule = rule

    def body(self) -> bytes:
        """Return the documented error object as JSON."""
        return orjson.dumps(error_object(self.status, self.code, self.message, self.param))


def error_object(status: int, code: str, message: str, param: str | None = None) -> dict[str, Any]:
    """Return NeevAI's documented error (`OpenAIErrorResponse`)."""
    server = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    kind = "server_error" if server else _TYPES.get(status, INVALID_REQUEST)
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_body(shape: str, status: int, code: str, message: str) -> tuple[bytes, bytes]:
    """Return body and content type of an error in one of the shapes of `faults.SHAPES`."""
    if shape == "string":
        return orjson.dumps({"error": message, "message": message, "code": code}), _JSON
    if shape == "flat":
        return orjson.dumps({"code": code, "message": message}), _JSON
    if shape == "reason":
        return orjson.dumps({"reason_code": code, "message": message}), _JSON
    if shape == "html":
        return html_page(f"{status} {message}"), b"text/html"
    if shape == "empty":
        return b"", b""
    return orjson.dumps(error_object(status, code, message)), _JSON


def html_page(title: str) -> bytes:
    """Return the kind of page that a proxy in front of a service answers with."""
    head, body = f"<head><title>{title}</title></head>", f"<body><center><h1>{title}</h1></center></body>"
    return f"<html>\r\n{head}\r\n{body}\r\n</html>\r\n".encode()
