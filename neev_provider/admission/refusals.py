"""What a caller is told who is not let in: from the scripts' words to the error of the contract.

Texts are for people: they name whose limit it is, the limit, and when it is worth trying again. Called by
`virtual.py` and `outage.py`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from neev_provider.admission.rules import NANOS
from neev_provider.errors import LimitError, NeevError, RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from neev_provider.admission.terms import Demand

__all__ = ["no_key", "refusal", "unknown_key", "usd"]

_WHO: Final = {b"key": "This key", b"team": "This key's team", b"gateway": "This gateway"}


def usd(nanos: int) -> str:
    """Write an amount as people do: `$12.50`, `$0.000123`."""
    whole, rest = divmod(abs(nanos), NANOS)
    digits = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if nanos < 0 else ''}${whole:,}.{digits}"


def no_key() -> RequestError:
    """Return what somebody without a key is told."""
    return RequestError(
        "invalid_api_key", "No API key given. Send it as a header: Authorization: Bearer <key>."
    )


def unknown_key() -> RequestError:
    """Return the one answer to a malformed, unknown, revoked or wrong key."""
    return RequestError("invalid_api_key", "The API key is not known here.")


def refusal(code: bytes, details: Sequence[Any], demand: Demand | None) -> NeevError:
    """Return the error for a script's refusal.

    Args:
        code: the script's word.
        details: whose limit it is, milliseconds until a retry makes sense, and figures.
        demand: what was asked for; None if nothing was.
    """
    if code == b"unknown":
        return unknown_key()
    if code == b"blocked":
        return RequestError("key_blocked", "This key is blocked.")
    if code == b"team_blocked":
        return RequestError("key_blocked", "This key's team is blocked.")
    if code == b"expired":
        return RequestError("expired_api_key", "This key has expired.")
    name = "" if demand is None else demand.model
    who = _WHO.get(details[0], "")
    if code == b"model_not_allowed":
        return RequestError("model_not_allowed", f"{who} may not call '{name}'.", param="model")
    if code == b"model_unpriced":
        return RequestError(
            "model_unpriced",
            f"The model '{name}' has no price, so it cannot be charged to a budget. "
            "The gateway's operator can set one.",
            param="model",
        )
    retry = int(details[1]) / 1000 if details[1] != b"" else None
    scope = details[0].decode()
    if code == b"budget":
        return _budget(who, retry, details[2:]).of("budget", scope)
    error = _limit(code, who, retry, [int(figure) for figure in details[2:]])
    return error.of("tokens" if code == b"too_many_tokens" else code.decode(), scope)


def _limit(code: bytes, who: str, retry: float | None, figures: list[int]) -> LimitError:
    if code == b"parallel":
        message = f"{who} may have {figures[0]:,} requests in flight at once. Try again when one has ended."
        return LimitError("rate_limit_exceeded", message, retry_after=1)
    if code == b"requests":
        message = f"{who} may send {figures[0]:,} requests a minute."
    elif code == b"too_many_tokens":
        message = (
            f"This request needs {figures[1]:,} tokens, and {who.lower()} may use {figures[0]:,} a minute. "
            "Shorten the prompt or lower max_tokens."
        )
    else:
        message = f"{who} may use {figures[0]:,} tokens a minute, and this request needs {figures[1]:,}."
    return LimitError("rate_limit_exceeded", message, retry_after=retry)


def _budget(who: str, retry: float | None, figures: Sequence[Any]) -> LimitError:
    if not figures:
        when = "" if retry is None else f" It begins anew in {retry:,.0f} seconds."
        return LimitError("budget_exceeded", f"{who}'s budget is used up.{when}", retry_after=retry)
    budget, spent, held = (int(figure) for figure in figures[:3])
    if figures[4] == b"0":
        message = (
            f"{who}'s budget of {usd(budget)} is reserved: {usd(spent)} are spent, and requests in flight may need "
            f"{usd(held)}. Try again when one has ended."
        )
    else:
        left = budget - spent
        message = f"{who}'s budget of {usd(budget)} is used up: {usd(spent)} are spent."
        if left > 0:
            message = (
                f"{who}'s budget of {usd(budget)} does not cover this request: {usd(spent)} are spent, "
                f"and it may cost more than the {usd(left)} that are left."
            )
        if figures[3] != b"":
            reset = datetime.fromtimestamp(int(figures[3]) / 1000, UTC)
            message += f" It begins anew at {reset:%Y-%m-%d %H:%M:%S} UTC."
    return LimitError("budget_exceeded", message, retry_after=retry)
