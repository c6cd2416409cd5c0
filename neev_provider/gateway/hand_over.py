"""Hands a request over to LiteLLM. Called by `app.py`, `intake.py` and `routed_call.py`.

There our own `custom_auth` and `accounts` let the request in and charge it, with the client's own key. Without them
LiteLLM knows its master key alone: then a virtual key, whose limits and budget would be got around there, is not let
through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from neev_provider.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable

    from neev_provider.admission import Principal
    from neev_provider.gateway.exchange import Exchange
    from neev_provider.gateway.services import Services

__all__ = ["hand_over"]


async def hand_over(
    exchange: Exchange,
    services: Services,
    principal: Principal,
    *,
    body: bytes | None = None,
    model: str | None = None,
    ticket: str | None = None,
    on_answer: Callable[[], None] | None = None,
) -> None:
    """Let LiteLLM answer.

    Args:
        exchange: the request.
        services: of the gateway.
        principal: who asks.
        body: of the request if it has been read.
        model: what to put in place of the body's model.
        ticket: of the request's grant, if it was let in here, for LiteLLM's process to take it over.
        on_answer: called when LiteLLM begins to answer, and so has let the request in or refused it.

    Raises:
        NeevError: before anything was sent.
        ClientGoneError: the client went away.
    """
    assert services.litellm is not None  # noqa: S101 - for the type checker: the callers asked
    if principal.is_limited and not services.litellm_charges:
        raise RequestError(
            "model_not_allowed",
            "This key's limits and budget hold for NeevAI's chat, models and speech; "
            "what LiteLLM serves is not open to it.",
        )
    await services.litellm.forward(
        exchange,
        body=body,
        model=model,
        ticket=ticket if services.litellm_charges else None,
        on_answer=on_answer,
    )
