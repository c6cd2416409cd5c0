"""Turns our errors into LiteLLM's own exceptions.

LiteLLM's router decides about retries, cooldowns and fallbacks by exception class and reads `retry-after` from the
attached response, so a plain `CustomLLMError` would lose both (`LITELLM.md`, Adapter 4). Called by
`adapter.py` alone.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

import httpx
from litellm import exceptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from neev_provider.errors import ConfigError, NeevError

__all__ = ["PROVIDER", "marked", "misconfigured", "missing_key", "not_served", "to_litellm"]

PROVIDER: Final = "neev"

# By the status that upstream gave, where it gave one: a script that calls `litellm.completion` owns the
# account, so a wrong key is an AuthenticationError there. The proxy's clients do not; see `to_litellm`.
_BY_UPSTREAM_STATUS: Final[dict[int, Callable[..., Exception]]] = {
    401: exceptions.AuthenticationError,
    402: exceptions.PermissionDeniedError,
    403: exceptions.PermissionDeniedError,
    404: exceptions.NotFoundError,
    408: exceptions.Timeout,
    422: exceptions.UnprocessableEntityError,
    500: exceptions.InternalServerError,
    502: exceptions.BadGatewayError,
    503: exceptions.ServiceUnavailableError,
    504: exceptions.Timeout,
}
_BY_CODE: Final[dict[str, Callable[..., Exception]]] = {
    "context_length_exceeded": exceptions.ContextWindowExceededError,
    "upstream_timeout": exceptions.Timeout,
    "upstream_unavailable": exceptions.ServiceUnavailableError,
    "upstream_bad_response": exceptions.BadGatewayError,
}
_BY_STATUS: Final[dict[int, Callable[..., Exception]]] = {
    400: exceptions.BadRequestError,
    404: exceptions.NotFoundError,
    413: exceptions.BadRequestError,
    429: exceptions.RateLimitError,
    500: exceptions.InternalServerError,
    502: exceptions.BadGatewayError,
    503: exceptions.ServiceUnavailableError,
    504: exceptions.Timeout,
}
_ACCOUNT: Final = "upstream_auth_error"


def to_litellm(error: NeevError, *, model: str, in_proxy: bool) -> Exception:
    """Return the LiteLLM exception that stands for `error`.

    Args:
        error: what went wrong.
        model: model name for the exception.
        in_proxy: whether the caller is a client of a LiteLLM proxy. Then trouble with the account at
            NeevAI is a 502: a 401 would tell the client that its own key is wrong.
    """
    # A script sees upstream's own status, a proxy's client the contract's (502 for any 5xx of upstream).
    ours = error.code == _ACCOUNT
    given = (
        None if in_proxy and error.status == HTTPStatus.BAD_GATEWAY and not ours else error.upstream_status
    )
    make = (
        _BY_CODE.get(error.code)
        or (None if given is None else _BY_UPSTREAM_STATUS.get(given))
        or _BY_STATUS.get(error.status, exceptions.BadRequestError)
    )
    status = _status(error, in_proxy=in_proxy)
    message = error.message
    if error.code == _ACCOUNT and not in_proxy:
        message = (
            f"NeevAI refused the key with status {error.upstream_status}. Check NEEV_API_KEY: it must be a "
            "'Model API' key (sk-nc-...) of a project in good standing."
        )
    return _decorated(make, error, marked(error) if in_proxy else message, model, status)


def marked(error: NeevError) -> str:
    """Return a proxy error's message with its code, and when to retry if that is known.

    The proxy shows a status where the code belongs, and loses `retry-after` on some routes. A gateway in front of the
    proxy puts both back (`gateway/litellm_answers.py`).
    """
    wait = error.headers().get("retry-after")
    return f"{error.message} ({error.code}{'' if wait is None else f', retry after {wait} s'})"


def missing_key(model: str, names: tuple[str, ...]) -> Exception:
    """Return the error for a call without any key, naming the variable to set."""
    others = ", ".join(names[1:])
    built: Exception = exceptions.AuthenticationError(
        message=f"No NeevAI key. Set {names[0]} (or {others}), or pass api_key=.",
        llm_provider=PROVIDER,
        model=model,
    )
    return built


def not_served(model: str, what: str) -> Exception:
    """Return the error for a call of a kind that NeevAI does not have."""
    built: Exception = exceptions.BadRequestError(
        message=f"NeevAI serves no {what}. What it serves here is chat: completion() and acompletion().",
        llm_provider=PROVIDER,
        model=model,
    )
    return built


def misconfigured(model: str, error: ConfigError) -> Exception:
    """Return the error for a deployment that cannot be called as it is set up."""
    built: Exception = exceptions.APIError(
        status_code=500, message=str(error), llm_provider=PROVIDER, model=model
    )
    return built


def _status(error: NeevError, *, in_proxy: bool) -> int:
    if error.code == _ACCOUNT and not in_proxy and error.upstream_status is not None:
        return error.upstream_status
    return error.status


def _decorated(
    make: Callable[..., Exception], error: NeevError, message: str, model: str, status: int
) -> Exception:
    request = httpx.Request("POST", "https://neev.invalid/v1/chat/completions")
    response = httpx.Response(status, headers=error.headers(), json=error.body(), request=request)
    extra: dict[str, Any] = {"response": response}
    if make is exceptions.Timeout:
        extra = {"headers": error.headers(), "exception_status_code": status, "response": response}
    built: Any = make(message=message, model=model, llm_provider=PROVIDER, **extra)
    if error.code == _ACCOUNT:
        # The class keeps the router from trying the same account again; the status is what a client sees.
        built.status_code = status
    # The proxy copies these three into the error body it answers with.
    built.type, built.param, built.code = error.type, error.param, error.code
    return cast("Exception", built)
