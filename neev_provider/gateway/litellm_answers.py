"""LiteLLM's errors, in any of its shapes, as the one error of the contract.

What our own adapter raised inside LiteLLM says its code at the end of its message (`litellm_errors.marked`); the rest
is read from the exception's class, which LiteLLM puts before its message, and at last from the status. Its inner
affairs (class names, model groups, fallbacks, tracebacks, documentation links) are cut off. Called by
`litellm_path.py` and `litellm_events.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from neev_provider.errors import (
    ERRORS,
    LimitError,
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
_MAX_READ: Final = 20_000  # characters of a message that are looked at
_MARK: Final = re.compile(r" \(([a-z_]{5,40})(?:, retry after (\d{1,9}) s)?\)(?=\s|$)")
_CLASS: Final = re.compile(r"^(?:litellm\.)?([A-Z]\w*(?:Error|Exception|Timeout)|Timeout): ")
_PROVIDER: Final = re.compile(r"^(?:\w+Exception|[A-Z]\w*Error):? -? ?")
# Where LiteLLM was, or what it took the fault for: a route or function, and some set phrases.
_PLACE: Final = re.compile(
    r"^(?:/?[a-z_/]+: (?=[A-Z])|Authentication Error, (?=\S)|Invalid request format: |Error code: \d{3} - (?=\{))"
)
# An error object of a provider, as JSON or as Python shows it, in the place of a message.
_OBJECT: Final = re.compile(
    r"""^\{.*?(["'])(?:message|error)\1: ?(["'])(?P<said>(?:\\.|(?!\2).)*)\2""", re.DOTALL
)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
# Where LiteLLM begins to speak of itself: behind what our own adapter said, ...
_OWN_AFFAIRS: Final = re.compile(
    r"\s*(?:\n+LiteLLM: model group|\n+Set 'context_window_fallback|\nmodel=|\nReceived Model Group="
    r"|\nAvailable Model Group Fallbacks|\nTraceback \(most recent|\n+Fallbacks?=).*",
    re.DOTALL,
)
# ... and in messages of others.
_ASIDES: Final = re.compile(
    r"\s*(?:\.? ?Received Model Group=|Traceback \(most recent| Call `/v1/models`|\. Passed model="
    r"|LiteLLM Retried:| Handle with `litellm\.|\. ?File an issue - http).*",
    re.DOTALL,
)
_TRY_AGAIN: Final = re.compile(r"[Tt]ry again in (\d+(?:\.\d+)?) seconds")
_REJECTED: Final = re.compile(r"Rejected Request: ([\w.-]{1,100}) is not allowed in request body")
_PARAM: Final = re.compile(r"[A-Za-z0-9_.\[\]-]{1,100}")
_PLACEHOLDERS: Final = frozenset({"None", "null"})

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
_WRONG_ENDPOINT: Final = "The model does not serve this endpoint."
_UNKNOWN_URL: Final = "There is nothing at this URL. The API's base URL ends in /v1."
_NO_RESPONSE: Final = "No response with this id is known here."
_UNREADABLE: Final = "LiteLLM could make nothing of the request. Check the form of its fields."
# What no class and no status tells: a part of the message, the code that it means, and what is said instead of it.
_BY_TEXT: Final[tuple[tuple[str, str, str | None], ...]] = (
    ("Invalid model name passed in model=None", "missing_required_parameter", None),
    ("Invalid model name passed in model=. Call", "invalid_value", None),
    ("Invalid model name", "model_not_found", None),
    ("LLM Provider NOT provided", "model_not_found", None),
    ("'model' must be a string", "invalid_type", None),
    ("Invalid JSON payload", "invalid_json", None),
    ("Not implemented yet", "invalid_value", _WRONG_ENDPOINT),
    ("is not a valid LlmProviders", "invalid_value", _WRONG_ENDPOINT),
    ("Unsupported provider: ", "invalid_value", _WRONG_ENDPOINT),
    ("responses is not supported for", "invalid_value", _WRONG_ENDPOINT),
    ("You passed in model=None", "invalid_value", _NO_RESPONSE),
    ("This response id was not issued by this proxy", "invalid_value", _NO_RESPONSE),
    ("got multiple values for keyword argument", "invalid_request", _UNREADABLE),
    ("Missing required parameter", "missing_required_parameter", None),
    ("messages is required for Anthropic", "missing_required_parameter", "messages must not be empty."),
    ("parameter is required", "missing_required_parameter", None),
    ("Field required", "missing_required_parameter", None),
    ("Unmapped prompt format", "invalid_value", "prompt must be a string or an array."),
)
# The same, of what LiteLLM itself decided: a provider may use the same words.
_BY_OWN_TEXT: Final[tuple[tuple[str, str, str | None], ...]] = (
    ("Rate limit exceeded for", "rate_limit_exceeded", None),
    ("Max parallel request limit reached", "rate_limit_exceeded", None),
    ("Budget has been exceeded", "budget_exceeded", None),
    ("ExceededBudget", "budget_exceeded", None),
    ("Internal server error", "internal_error", "Something went wrong in LiteLLM. Please tell the operator."),
    ("not allowed to access model", "model_not_allowed", "This key may not call this model."),
)
# What Python says when LiteLLM stumbles over the request.
_STUMBLED: Final = re.compile(
    r"object (?:has no attribute|is not (?:iterable|subscriptable|callable)|does not support)|unhashable type"
    r"|could not convert|indices must be|unsupported operand|validation errors? for|argument must be"
)
_OF_PROVIDER: Final = "Exception - "
_MESSAGES: Final[Mapping[str, str]] = {
    "unknown_url": _UNKNOWN_URL,
    "method_not_allowed": "This method is not possible here.",
    "upstream_auth_error": "The gateway's own account was refused by the model provider. "
    "This is not about your key; please tell the gateway's operator.",
    "invalid_api_key": "The API key is not known here.",
}
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
    said = _said(fields, error, inner)[:_MAX_READ]
    if inner.get("type") == "no_db_connection":
        return _made("invalid_api_key", _MESSAGES["invalid_api_key"], None, None)
    if rejected := _REJECTED.search(said):
        message = f"{rejected[1]} cannot be set in a request; it belongs to the gateway's configuration."
        return _made("unsupported_parameter", message, rejected[1], None)
    code, message, wait = _read(said, status)
    param = inner.get("param")
    if not isinstance(param, str) or param in _PLACEHOLDERS or not _PARAM.fullmatch(param):
        param = _place(fields)
    if "Invalid model name" in said or message == _WRONG_ENDPOINT:
        param = "model"
    if retry_after is None and (match := _TRY_AGAIN.search(said)):
        retry_after = float(match[1])
    return _made(code, message, param, wait if retry_after is None else retry_after)


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
        loc = detail[0].get("loc")
        place = [str(part) for part in loc if part != "body"] if isinstance(loc, list) else []
        return ".".join(place) or None
    return None


def _read(said: str, status: int) -> tuple[str, str, float | None]:
    """Return code, clean message and, if the message says so, the seconds until a retry makes sense."""
    cleaned, classes = _without_classes(_OWN_AFFAIRS.sub("", said))
    marks = [mark for mark in _MARK.finditer(cleaned) if mark[1] in ERRORS]
    if marks:
        # The last one: what stands before it may quote another.
        mark = marks[-1]
        return mark[1], cleaned[: mark.start()], None if mark[2] is None else float(mark[2])
    if quoted := _OBJECT.match(cleaned):
        cleaned, more = _without_classes(_ESCAPED.sub(r"\1", quoted["said"].replace("\\n", "\n")))
        cleaned = _OWN_AFFAIRS.sub("", cleaned)
        classes += more
    cleaned = _ASIDES.sub("", cleaned).strip()
    if classes and status in _REFUSED_ACCOUNT:
        # An exception's class stands before it: upstream was asked, and it was not the client's key that it refused.
        return "upstream_auth_error", _MESSAGES["upstream_auth_error"], None
    texts = _BY_TEXT if classes else _BY_OWN_TEXT + _BY_TEXT
    for text, code, instead in texts:
        if text in said:
            return code, instead or cleaned, None
    if _STUMBLED.search(said) and _OF_PROVIDER not in said:
        return "invalid_request", _UNREADABLE, None
    code = _FASTAPI_TEXTS.get(said) or _code_of(classes, status)
    return code, _MESSAGES.get(code) or cleaned, None


def _without_classes(text: str) -> tuple[str, list[str]]:
    """Return a message without what LiteLLM puts before it, and the exceptions' classes that it names there."""
    classes = []
    while match := _CLASS.match(text) or _PLACE.match(text):
        if match.re is _CLASS:
            classes.append(match[1])
        text = text[match.end() :]
    return _PLACE.sub("", _PROVIDER.sub("", text)).strip(), classes


def _code_of(classes: list[str], status: int) -> str:
    """Return the code that the classes mean, as far as the status allows it, else the status's own."""
    fallback = _BY_STATUS.get(status, "invalid_request" if status < 500 else "upstream_error")  # noqa: PLR2004
    # The first class is the one that stands for the whole; those behind it were wrapped.
    known = [_BY_CLASS[name] for name in classes if name in _BY_CLASS]
    if "context_length_exceeded" in known:
        return "context_length_exceeded"
    code = known[0] if known else fallback
    is_ours_to_mend = ERRORS[code].status >= 500 and ERRORS[fallback].status == 400  # noqa: PLR2004
    return fallback if is_ours_to_mend else code


def _made(code: str, message: str, param: str | None, retry_after: float | None) -> NeevError:
    message = redact(message) or f"The request failed ({code.replace('_', ' ')})."
    if len(message) > _MAX_MESSAGE:
        message = message[: _MAX_MESSAGE - 1] + "…"
    shape = ERRORS[code]
    kind = {"upstream_error": UpstreamError, "server_error": ServerError}.get(shape.type, RequestError)
    if code == "upstream_rate_limited":
        kind = UpstreamError
    elif shape.status == 429:  # noqa: PLR2004
        kind = LimitError
    return kind(code, message, param=param, retry_after=retry_after)
