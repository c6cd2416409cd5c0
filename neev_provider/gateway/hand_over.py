"""Hands a request over to LiteLLM. Called by `app.py`, `intake.py` and `routed_call.py`.

LiteLLM's calls are not charged yet, so a virtual key, whose limits and budget would be got around there, is not let
through: only the master key and the configuration's own keys are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from neev_provider.errors import RequestError

if TYPE_CHECKING:
    from neev_provider.admission import Principal
    from neev_provider.gateway.exchange import Exchange
    from neev_provider.gateway.litellm_path import LiteLLMPath

__all__ = ["hand_over"]


async def hand_over(
    exchange: Exchange,
    litellm: LiteLLMPath,
    principal: Principal,
    *,
    body: bytes | None = None,
    model: str | None = None,
) -> None:
    """Let LiteLLM answer.

    Args:
        exchange: the request.
        litellm: the way there.
        principal: who asks.
        body: of the request if it has been read.
        model: what to put in place of the body's model.

    Raises:
        NeevError: before anything was sent.
        ClientGoneError: the client went away.
    """
    if principal.is_limited:
        raise RequestError(
            "model_not_allowed",
            "This key's limits and budget hold for NeevAI's chat, models and speech; "
            "what LiteLLM serves is not open to it.",
        )
    await litellm.forward(exchange, body=body, model=model)
