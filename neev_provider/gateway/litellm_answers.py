"""LiteLLM's errors, in any of its shapes, as the one error of the contract.

What our own adapter raised inside LiteLLM says its code at the end of its message (`litellm_errors.marked`); the rest
is read from the exception's class, which LiteLLM puts before its message, and at last from the status. Its inner
affairs (class names, model groups, fallbacks, documentation links) are cut off. Called by `litellm_path.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from neev_provider.errors import (
    ERRORS,
    NeevError,
    RequestError,
    ServerError,
    UpstreamError,
    parse_retry_after,
    redact,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["error_from_litellm", "error_from_object"]

_MAX_MESSAGE: Final = 600  # characters
_MARK: Final = re.compile(r" \(([a-z_]{5,40})\)(?=\s|$)")
_CLASS: Final = re.compile(r"^(?:litellm\.)?([A-Z]\w*(?:Error|Exception|Timeout)|Timeout): ")
_PROVIDER: Final = re.compile(r"^(?:\w+Exception|[A-Z]\w*Error):? -? ?")
_ROUTE: Final = re.compile(
    r"^/?[a-z_/]+: (?=[A-Z])"
)  # "/chat/completions: Invalid model name", "anthropic_messages: ..."
# Where LiteLLM begins to speak of itself.
_OWN_AFFAIRS: Final = re.compile(
    r"\s*(?:\n+LiteLLM: model group|\n+Set 'context_window_fallback|\nmodel=|\.? ?Received Model Group="
    r"|\nAvailable Model Group Fallbacks|Traceback \(most recent|\n+Fallbacks?=| Call `/v1/models`"
    r"|\. Passed model=|\s*LiteLLM Retried:| Handle with `litellm\.).*",
    re.DOTALL,
)
_TRY_AGAIN: Final = re.compile(r"[Tt]ry again in (\d+(?:\.\d+)?) seconds")

_BY_CLASS: Final[Mapping[str, str]] = {
    "AuthenticationError": "upstream_auth_error",
    "PermissionDeniedError": "upstream_auth_error",
    "BadRequestError": "invalid_request",
    "ContentPolicyViolationError": "invalid_request",
    "UnprocessableEntityError": "invalid_request",
    "RejectedRequestError": "invalid_request",
    "UnsupportedParamsError": "unsupported_parameter",
    "ContextWindowExceededError": "context_length_exceeded",
    "NotFoundError": "model_not_found",
    "RateLimitError": "upstream_rate_limited",
    "Timeout": "upstream_timeout",
    "APIConnectionError": "upstream_unavailable",
    "InternalServerError": "upstream_error",
    "ServiceUnavailableError": "upstream_error",
    "BadGatewayError": "upstream_error",
    "APIError": "upstream_error",
    "BudgetExceededError": "budget_exceeded",
}
_BY_STATUS: Final[Mapping[int, str]] = {
    400: "invalid_request",
    401: "invalid_api_key",
    403: "model_not_allowed",
    404: "model_not_found",
    405: "method_not_allowed",
    408: "upstream_timeout",
    409: "invalid_request",
    413: "request_too_large",
    415: "unsupported_media_type",
    422: "invalid_request",
    429: "upstream_rate_limited",
    500: "upstream_error",
    501: "invalid_request",
    502: "upstream_error",
    503: "upstream_unavailable",
    504: "upstream_timeout",
}
# What no class and no status tells: a part of the message, and the code that it means.
_BY_TEXT: Final[tuple[tuple[str, str], ...]] = (
    ("Invalid model name passed in model=None", "missing_required_parameter"),
    ("Invalid model name passed in model=. Call", "invalid_value"),
    ("Invalid model name", "model_not_found"),
    ("must be a string", "invalid_type"),
    ("Invalid JSON payload", "invalid_json"),
    ("Not implemented yet", "invalid_value"),
    ("LLM Provider NOT provided", "model_not_found"),
    ("Missing required parameter", "missing_required_parameter"),
    ("Field required", "missing_required_parameter"),
)
_MESSAGES: Final[Mapping[str, str]] = {
    "unknown_url": "There is nothing at this URL. The API's base URL ends in /v1.",
    "method_not_allowed": "This method is not possible here.",
    "upstream_auth_error": "The gateway's own account was refused by the model provider. "
    "This is not about your key; please tell the gateway's operator.",
    "invalid_api_key": "The API key is not known here.",
}
_NOT_IMPLEMENTED: Final = "The model does not serve this endpoint."
_REFUSED_ACCOUNT: Final = frozenset({401, 402, 403})
_FASTAPI_TEXTS: Final[Mapping[str, str]] = {
    "Not Found": "unknown_url",
    "Method Not Allowed": "method_not_allowed",
}


def error_from_litellm(status: int, headers: Mapping[str, str], body: bytes) -> NeevError:
    """Return the error that an answer of LiteLLM means.

    Args:
        status: of the answer, 400 or more.
        headers: lower-case names.
        body: of any shape.
    """
    retry_after = parse_retry_after(headers.get("retry-after") or headers.get("llm_provider-retry-after"))
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decoded = None
    return error_from_object(decoded, status, retry_after)


def error_from_object(answer: object, status: int, retry_after: float | None = None) -> NeevError:
    """Return the error that a decoded answer, or the data of an error event, means.

    Args:
        answer: what was decoded; None if it could not be.
        status: of the answer, or the one that the error itself names.
        retry_after: seconds, if a header says so.
    """
    fields = answer if isinstance(answer, dict) else {}
    error = fields.get("error")
    inner: dict[str, Any] = error if isinstance(error, dict) else {}
    said = _said(fields, error, inner)
    code, message = _read(said, status)
    if inner.get("type") == "no_db_connection":
        code, message = "invalid_api_key", _MESSAGES["invalid_api_key"]
    param = inner.get("param")
    if "Invalid model name" in said:
        param = "model"
    if retry_after is None and (match := _TRY_AGAIN.search(said)):
        retry_after = float(match[1])
    return _made(code, message, param if isinstance(param, str) else _place(fields), retry_after)


def _said(fields: dict[str, Any], error: object, inner: dict[str, Any]) -> str:
    for value in (inner.get("message"), error, fields.get("message"), fields.get("detail")):
        if isinstance(value, str) and value.strip():
            return value.strip()
        if isinstance(value, dict) and isinstance(value.get("error"), str):
            return str(value["error"]).strip()
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return str(value[0].get("msg", "")).strip()
    return ""


def _place(fields: dict[str, Any]) -> str | None:
    """Return which field FastAPI's validation found at fault."""
    detail = fields.get("detail")
    if isinstance(detail, list) and detail and isinstance(detail[0], dict):
        place = [str(part) for part in detail[0].get("loc", ()) if part != "body"]
        return ".".join(place) or None
    return None


def _read(said: str, status: int) -> tuple[str, str]:
    """Return code and clean message."""
    cleaned = _OWN_AFFAIRS.sub("", said)
    classes = []
    while match := _CLASS.match(cleaned):
        classes.append(match[1])
        cleaned = cleaned[match.end() :]
    cleaned = _ROUTE.sub("", _PROVIDER.sub("", cleaned)).strip()
    mark = _MARK.search(cleaned)
    if mark is not None and mark[1] in ERRORS:
        return mark[1], cleaned[: mark.start()]
    if classes and status in _REFUSED_ACCOUNT:
        # An exception's class stands before it: upstream was asked, and it was not the client's key that it refused.
        return "upstream_auth_error", _MESSAGES["upstream_auth_error"]
    code = _FASTAPI_TEXTS.get(said) or next((code for text, code in _BY_TEXT if text in said), None)
    if "Not implemented yet" in said:
        cleaned = _NOT_IMPLEMENTED
    if code is None:
        # The innermost class is the one that was raised; those before it are LiteLLM's re-raisings.
        known = [_BY_CLASS[name] for name in classes if name in _BY_CLASS]
        specific = [found for found in known if found == "context_length_exceeded"]
        code = (specific or known or [_BY_STATUS.get(status, _fallback(status))])[0]
    return code, _MESSAGES.get(code) or cleaned


def _fallback(status: int) -> str:
    return "invalid_request" if status < 500 else "upstream_error"  # noqa: PLR2004


def _made(code: str, message: str, param: str | None, retry_after: float | None) -> NeevError:
    message = redact(message) or f"The request failed ({code.replace('_', ' ')})."
    if len(message) > _MAX_MESSAGE:
        message = message[: _MAX_MESSAGE - 1] + "…"
    shape = ERRORS[code]
    kind = {"upstream_error": UpstreamError, "server_error": ServerError}.get(shape.type, RequestError)
    if code == "upstream_rate_limited":
        kind = UpstreamError
    return kind(code, message, param=param, retry_after=retry_after)
