"""Takes a chat or speech request in: read, checked, its models found, let in, or handed over to LiteLLM.

The order is one for both endpoints, so that a stranger learns nothing but that his key is wrong: whatever else is at
fault with a request is told only to who may call. Called by `chat.py` and `speech.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import msgspec

from neev_provider.admission import DEFAULT_OUTPUT_CAP
from neev_provider.contract import peek_model
from neev_provider.errors import RequestError
from neev_provider.gateway.bill import Bill
from neev_provider.gateway.hand_over import hand_over

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from neev_provider.admission import Demand, Grant, Principal
    from neev_provider.gateway.exchange import Exchange
    from neev_provider.gateway.litellm_path import LiteLLMPath
    from neev_provider.gateway.request_facts import RequestFacts
    from neev_provider.gateway.services import Services
    from neev_provider.routed import RoutedDeployment
    from neev_provider.routing import Group

__all__ = ["Call", "Request", "output_cap", "take_in"]


class Request(Protocol):
    """What both endpoints' requests have."""

    @property
    def model(self) -> str:
        """The name that the client asked for."""

    @property
    def litellm_only(self) -> frozenset[str]:
        """The fields that only LiteLLM understands."""


R = TypeVar("R", bound=Request)


class Call(msgspec.Struct, Generic[R], frozen=True):
    """A request that was let in.

    Attributes:
        request: as checked.
        body: as it came.
        group: the deployments that may answer.
        grant: who asks, and what was reserved.
        bill: must be entered, and settles the grant when it is left.
        facts: of the request, for metrics.
    """

    request: R
    body: bytes
    group: Group
    grant: Grant
    bill: Bill
    facts: RequestFacts


async def take_in(
    exchange: Exchange,
    services: Services,
    modality: str,
    parse: Callable[[bytes], R],
    demand: Callable[[R, Sequence[RoutedDeployment]], Demand],
) -> Call[R] | None:
    """Return the call, or None if LiteLLM has answered it.

    Args:
        exchange: the request.
        services: of the gateway.
        modality: what the endpoint serves.
        parse: reads and checks the body.
        demand: what the request may cost on any of these deployments; also checks it against them.

    Raises:
        NeevError: the request is not let in.
        ClientGoneError: the client went away.
    """
    token = exchange.bearer()
    services.access.check_form(token)
    if services.litellm is not None and not services.fast_path:
        principal = await _note_caller(exchange, services, token)
        await hand_over(exchange, services, principal)
        return None
    body = await exchange.body(services.limits)
    try:
        request = parse(body)
        exchange.facts.model = request.model
        group = _group(services, request.model)
        reason = services.router.why_litellm(group, request.litellm_only)
        if services.litellm is None or reason is None:
            asked = demand(request, _deployments(services, group, modality))
        else:
            asked = None
    except RequestError:
        principal = await _note_caller(exchange, services, token)
        litellm = _litellm_for_others(exchange, services, body)
        if litellm is None:
            raise
        await hand_over(exchange, services, principal, body=body)
        return None
    exchange.notes["model"] = request.model
    if asked is None:
        principal = await _note_caller(exchange, services, token)
        await hand_over(exchange, services, principal, body=body)
        return None
    grant = await _admit(exchange, services, token, asked)
    exchange.note_caller(grant.principal)
    return Call(request, body, group, grant, Bill(exchange, grant, asked), exchange.facts)


async def _admit(exchange: Exchange, services: Services, token: str | None, asked: Demand) -> Grant:
    if exchange.facts.trace is None:
        return await services.access.admit(token, asked)
    with exchange.facts.trace.admission():
        return await services.access.admit(token, asked)


def _litellm_for_others(exchange: Exchange, services: Services, body: bytes) -> LiteLLMPath | None:
    """Return LiteLLM if a refused body is for a model of its own: NeevAI's rules do not bind other providers'."""
    name = exchange.facts.model = peek_model(body)
    group = None if name is None else services.router.resolve(name)
    if group is None or group.reason is None:
        return None
    exchange.notes["model"] = name
    return services.litellm


async def _note_caller(exchange: Exchange, services: Services, token: str | None) -> Principal:
    principal = await services.access.authenticate(token)
    exchange.note_caller(principal)
    return principal


def _group(services: Services, model_name: str) -> Group:
    group = services.router.resolve(model_name)
    if group is None:
        raise RequestError("model_not_found", f"The model '{model_name}' does not exist here.", param="model")
    return group


def _deployments(services: Services, group: Group, modality: str) -> Sequence[RoutedDeployment]:
    """Return what the request may end at.

    Raises:
        RequestError: LiteLLM's to serve while LiteLLM is not running (404), not for this endpoint (400).
    """
    if group.reason is not None:
        raise RequestError(
            "model_not_found", f"The model '{group.name}' is served by LiteLLM, which is off.", param="model"
        )
    if any(deployment.model.modality != modality for deployment in group.deployments):
        raise RequestError(
            "invalid_value", f"The model '{group.name}' does not serve this endpoint.", param="model"
        )
    return services.router.reachable(group)


def output_cap(deployment: RoutedDeployment) -> int:
    """Return how many tokens a deployment may produce for a request that sets no limit."""
    return deployment.max_tokens or deployment.model.max_output_tokens or DEFAULT_OUTPUT_CAP
