"""One table from cause to HTTP error, and the exceptions that carry it.

Every failure that a client can see is a `NeevError`; its `code` picks status and type from `ERRORS`, so
no caller parses text and no second mapping exists. `from_upstream` turns whatever NeevAI answered into
one of them. Configuration faults are `ConfigError`: they stop the start and never reach a client.

    NeevError
      RequestError     the caller's to mend (400-415)
      LimitError       a limit or budget of this gateway (429)
      UpstreamError    NeevAI or the way to it (429 and 5xx)
      ServerError      this gateway or its store (500, 503)
    ConfigError        file, place and remedy of a wrong setting

Called by every other module; imports none of them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from time import time
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ERRORS",
    "ConfigError",
    "ErrorShape",
    "LimitError",
    "NeevError",
    "RequestError",
    "ServerError",
    "UpstreamError",
    "from_upstream",
    "parse_retry_after",
    "redact",
]


@dataclass(frozen=True, slots=True)
class ErrorShape:
    """What a code means on the wire: HTTP status and OpenAI's `type`."""

    status: int
    type: str


_INVALID: Final = "invalid_request_error"
_UPSTREAM: Final = "upstream_error"

# DESIGN section 3. Codes follow OpenAI's where OpenAI has one.
ERRORS: Final[Mapping[str, ErrorShape]] = {
    "invalid_json": ErrorShape(400, _INVALID),
    "invalid_type": ErrorShape(400, _INVALID),
    "invalid_value": ErrorShape(400, _INVALID),
    "missing_required_parameter": ErrorShape(400, _INVALID),
    "unsupported_parameter": ErrorShape(400, _INVALID),
    "context_length_exceeded": ErrorShape(400, _INVALID),
    "invalid_request": ErrorShape(400, _INVALID),
    "invalid_http": ErrorShape(400, _INVALID),
    "invalid_api_key": ErrorShape(401, _INVALID),
    "expired_api_key": ErrorShape(401, _INVALID),
    "key_blocked": ErrorShape(401, _INVALID),
    "model_not_allowed": ErrorShape(403, "permission_error"),
    "model_unpriced": ErrorShape(403, "permission_error"),
    "admin_only": ErrorShape(403, "permission_error"),
    "model_not_found": ErrorShape(404, _INVALID),
    "key_not_found": ErrorShape(404, _INVALID),
    "team_not_found": ErrorShape(404, _INVALID),
    "unknown_url": ErrorShape(404, _INVALID),
    "method_not_allowed": ErrorShape(405, _INVALID),
    "request_timeout": ErrorShape(408, _INVALID),
    "request_too_large": ErrorShape(413, _INVALID),
    "unsupported_media_type": ErrorShape(415, _INVALID),
    "rate_limit_exceeded": ErrorShape(429, "rate_limit_error"),
    "budget_exceeded": ErrorShape(429, "insufficient_quota"),
    "upstream_rate_limited": ErrorShape(429, "rate_limit_error"),
    "headers_too_large": ErrorShape(431, _INVALID),
    "upstream_auth_error": ErrorShape(502, _UPSTREAM),
    "upstream_error": ErrorShape(502, _UPSTREAM),
    "upstream_bad_response": ErrorShape(502, _UPSTREAM),
    "upstream_unavailable": ErrorShape(503, _UPSTREAM),
    "upstream_timeout": ErrorShape(504, _UPSTREAM),
    "internal_error": ErrorShape(500, "server_error"),
    "store_unavailable": ErrorShape(503, "server_error"),
    "server_overloaded": ErrorShape(503, "server_error"),
    "litellm_unavailable": ErrorShape(503, "server_error"),
}


# Seconds. A program may sit through a limit of requests a minute, not through more.
_LONGEST_WAIT: Final = 120


class NeevError(Exception):
    """A failure that a client may see, in OpenAI's words.

    Attributes:
        code: key of `ERRORS`; decides `status` and `type`.
        message: one or two sentences for the person who reads them; never a key, path or traceback.
        param: the request field at fault, as `messages[0].content`, or None.
        retry_after: seconds until a retry makes sense, or None.
        upstream_status: the HTTP status NeevAI gave, or None if it gave none.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        upstream_status: int | None = None,
    ) -> None:
        """Raise KeyError if `code` is not in `ERRORS`."""
        shape = ERRORS[code]
        if not message.isascii():
            # A lone surrogate, as in a badly decoded path, must not make the error itself unsendable.
            message = message.encode("utf-8", "replace").decode()
        # What a client sent may be quoted, and a key may stand where none belongs: as a model's name, as a field's.
        message = redact(message)
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = None if param is None else redact(param)
        self.retry_after = retry_after
        self.upstream_status = upstream_status
        self.status = shape.status
        self.type = shape.type

    def __reduce__(self) -> tuple[Any, ...]:
        """Survive a process boundary with every field."""
        state = {k: v for k, v in self.__dict__.items() if k not in {"status", "type"}}
        return (type(self), (self.code, self.message), state)

    def body(self) -> dict[str, dict[str, str | None]]:
        """Return OpenAI's error object, ready to be encoded."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def encode(self) -> bytes:
        """Return `body()` as JSON."""
        return msgspec.json.encode(self.body())

    def headers(self) -> dict[str, str]:
        """Return the headers that go with the error.

        `retry-after` is in whole seconds, rounded up. `x-should-retry: false` is what the official clients obey:
        without it, one that honours `retry-after` at any length would sleep until a budget begins anew.
        """
        headers = {}
        waits = self.retry_after is not None and math.isfinite(self.retry_after)
        if waits:
            headers["retry-after"] = str(max(0, math.ceil(self.retry_after or 0)))
        if self.type == "insufficient_quota" or (waits and (self.retry_after or 0) > _LONGEST_WAIT):
            headers["x-should-retry"] = "false"
        return headers


class RequestError(NeevError):
    """The request is at fault: 400 to 415."""


class LimitError(NeevError):
    """A limit or a budget of this gateway is used up: 429.

    Attributes:
        limit: which: `requests`, `tokens`, `parallel` or `budget`; "" if that is not known.
        scope: whose: `key`, `team` or `gateway`; "" if that is not known.
    """

    limit = ""
    scope = ""

    def of(self, limit: str, scope: str) -> Self:
        """Say which limit it is, and whose; return self."""
        self.limit, self.scope = limit, scope
        return self


class UpstreamError(NeevError):
    """NeevAI, our account there, or the way to it is at fault: 429 and 5xx."""


class ServerError(NeevError):
    """This gateway or its store is at fault: 500 and 503."""


class ConfigError(Exception):
    """A setting is wrong; the start stops with this one line.

    Attributes:
        source: file or variable at fault, as the user named it.
        place: where in it, as `model_list[3].litellm_params.model` or `line 12`, or "".
        problem: what is wrong there.
        remedy: what to do about it.
    """

    def __init__(self, source: str, place: str, problem: str, remedy: str) -> None:
        self.source = source
        self.place = place
        self.problem = problem
        self.remedy = remedy
        where = f"{source}: {place}" if place else source
        super().__init__(f"{where}: {problem.rstrip('.')}. {remedy}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Survive a process boundary: a worker's fault is reported by its supervisor."""
        return (type(self), (self.source, self.place, self.problem, self.remedy))

    @classmethod
    def missing_variable(cls, name: str, remedy: str) -> Self:
        """Build the error for an environment variable that must be set."""
        return cls("environment", name, "is not set", remedy)


_MAX_MESSAGE: Final = 600  # characters of an upstream text that we pass on
_SECRET: Final = re.compile(
    r"(?<![A-Za-z])(?:sk|pat)-[A-Za-z0-9._\-*]{3,}"  # NeevAI's, ours and OpenAI's keys, masked ones too
    r"|(?i:bearer)\s+[A-Za-z0-9._~+/=\-*]{8,}"
    r"|\beyJ[\w\-]+\.[\w\-]+(?:\.[\w\-]*)?"  # JWT
)
_CONTEXT: Final = re.compile(
    r"context[_ ](?:length|window)|maximum context|prompt is too long|too many tokens"
    r"|exceeds? the (?:model'?s )?context",
    re.IGNORECASE,
)
# "The model `x` does not exist", "unknown model: x"; but not "this model: unknown field x".
_UNKNOWN_MODEL: Final = re.compile(
    r"\b(?:unknown|invalid|unsupported|no such) model\b(?! (?:param|field|option|input|output|arg))"
    r"|(?<!this )\bmodel\b[\s:=]*(?:[`'\"(][^`'\")]{1,200}[`'\")]|[\w./:@-]{1,200})?[\s,]*(?:was |is |could )?"
    r"(?:not (?:be )?found|(?:does|did) not exist|not available"
    r"|(?:unknown|unsupported|invalid|not supported)(?=\W*$|[.,;]))",
    re.IGNORECASE,
)
_PARAM: Final = re.compile(r"[A-Za-z0-9_.\[\]-]{1,100}")


def redact(text: str) -> str:
    """Return `text` without anything that looks like a key or a bearer token."""
    return _SECRET.sub("[redacted]", text)


def parse_retry_after(value: str | None, *, now: float | None = None) -> float | None:
    """Read a Retry-After header in either of its forms (RFC 9110, 10.2.3).

    Args:
        value: the header's value: seconds (fractions tolerated) or an HTTP date.
        now: Unix seconds that a date is compared with; the clock's by default.

    Returns:
        Seconds from now, at least 0, or None if the header is absent or cannot be read.
    """
    if value is None:
        return None
    value = value.strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
            # asctime dates and "-0000" come without a zone and mean UTC, not this machine's.
            date = date if date.tzinfo else date.replace(tzinfo=UTC)
            seconds = date.timestamp() - (time() if now is None else now)
        except (ValueError, TypeError, OverflowError):
            return None
    # NaN and infinity parse as floats and mean nothing here.
    return max(0.0, seconds) if seconds < 1e9 else None  # noqa: PLR2004 - 30 years


@dataclass(frozen=True, slots=True)
class _Said:
    """What an upstream error body says, whatever its shape."""

    message: str
    code: str
    param: str | None


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _read_body(body: bytes) -> _Said:
    """Read any of the shapes in NEEV_API.md: OpenAI's, `{error: text}`, `{code, message}`, HTML, nothing."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decoded = None
    if not isinstance(decoded, dict):
        # HTML and other prose describe the upstream's machinery, not the caller's request.
        return _Said("", "", None)
    inner = decoded.get("error")
    objects: list[dict[str, Any]] = [inner, decoded] if isinstance(inner, dict) else [decoded]

    def said(*names: str) -> str:
        return next((text for name in names for fields in objects if (text := _text(fields.get(name)))), "")

    message = redact(" ".join((said("message") or _text(inner) or said("details", "detail")).split()))
    if len(message) > _MAX_MESSAGE:
        message = message[: _MAX_MESSAGE - 1] + "…"
    param = said("param")
    is_place = _PARAM.fullmatch(param) is not None and redact(param) == param
    return _Said(message, said("code", "reason_code"), param if is_place else None)


def from_upstream(status: int, body: bytes, *, retry_after: str | None = None) -> NeevError:
    """Turn an upstream answer that is not a success into the one error a client may see.

    Args:
        status: upstream's HTTP status; anything but a usable 200.
        body: upstream's body, of any shape (`NEEV_API.md`, "Errors").
        retry_after: upstream's Retry-After header, if it sent one.

    Returns:
        A `RequestError` when upstream refused the request itself, else an `UpstreamError`. The account's own
        troubles (401, 402, 403) never quote upstream's text: it may hold our key.
    """
    said = _read_body(body)
    wait = parse_retry_after(retry_after)
    if status in {401, 402, 403}:
        return UpstreamError(
            "upstream_auth_error",
            "The gateway's own account was refused by the model provider. "
            "This is not about your key; please tell the gateway's operator.",
            upstream_status=status,
        )
    if status == 429:  # noqa: PLR2004
        return UpstreamError(
            "upstream_rate_limited",
            said.message or "The model provider is limiting requests. Try again later.",
            retry_after=wait,
            upstream_status=status,
        )
    if 400 <= status < 500:  # noqa: PLR2004
        return _refused(status, said)
    detail = f" It said: {said.message}" if said.message else ""
    code = "upstream_error" if status >= 500 else "upstream_bad_response"  # noqa: PLR2004
    return UpstreamError(
        code,
        f"The model provider answered with status {status}.{detail}",
        retry_after=wait,
        upstream_status=status,
    )


def _refused(status: int, said: _Said) -> NeevError:
    """Classify a 4xx that is about the request."""
    message = said.message or f"The model provider refused the request with status {status}."
    if said.code == "context_length_exceeded" or _CONTEXT.search(said.message):
        code = "context_length_exceeded"
    elif status == 404 or said.code == "model_not_found" or _is_unknown_model(said):  # noqa: PLR2004
        code = "model_not_found"
    elif status == 413:  # noqa: PLR2004
        code = "request_too_large"
    else:
        shape = ERRORS.get(said.code)
        code = said.code if shape is not None and shape.status == 400 else "invalid_request"  # noqa: PLR2004
    if status == 408:  # noqa: PLR2004
        return UpstreamError("upstream_timeout", message, upstream_status=status)
    return RequestError(code, message, param=said.param, upstream_status=status)


def _is_unknown_model(said: _Said) -> bool:
    # The live service answers an unknown chat model with 400 (NEEV_API.md).
    return said.param in {None, "model"} and _UNKNOWN_MODEL.search(said.message) is not None
