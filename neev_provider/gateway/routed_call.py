"""Carries out a routing plan: attempts, waits and fallbacks until one deployment has answered.

Called by the routes for chat and speech; decides nothing that `routing.py` does not.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeVar

from neev_provider.errors import NeevError, RequestError, ServerError
from neev_provider.routing import Attempt

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from neev_provider.admission import Principal
    from neev_provider.gateway.services import Services
    from neev_provider.routed import RoutedDeployment
    from neev_provider.routing import Group

__all__ = ["call_by_plan", "find_group"]

R = TypeVar("R")


def find_group(services: Services, model_name: str, principal: Principal, modality: str) -> Group:
    """Return the deployments of a model name.

    Raises:
        RequestError: unknown (404), not allowed for this key (403), not for this endpoint (400), or LiteLLM's to
            serve while LiteLLM is not running (404).
    """
    group = services.router.resolve(model_name)
    if group is None:
        raise RequestError("model_not_found", f"The model '{model_name}' does not exist here.", param="model")
    if not principal.may_call(model_name):
        raise RequestError("model_not_allowed", f"This key may not call '{model_name}'.", param="model")
    if group.reason is not None:
        raise RequestError(
            "model_not_found", f"The model '{model_name}' is served by LiteLLM, which is off.", param="model"
        )
    if any(deployment.model.modality != modality for deployment in group.deployments):
        raise RequestError(
            "invalid_value", f"The model '{model_name}' does not serve this endpoint.", param="model"
        )
    return group


async def call_by_plan(
    services: Services,
    group: Group,
    principal: Principal,
    held: ExitStack,
    call: Callable[[RoutedDeployment], Awaitable[R]],
) -> tuple[RoutedDeployment, R]:
    """Return the deployment that answered, of the group or of its fallbacks, and its answer.

    Args:
        services: of the gateway.
        group: what the client asked for.
        principal: who asked; fallbacks that it may not call are left out.
        held: releases the deployment's place for parallel calls when the answer has been relayed.
        call: one attempt.

    Raises:
        NeevError: none answered; the plan's last word.
    """
    plan = services.router.plan(group, may_call=principal.may_call)
    while (step := plan.next()) is not None:
        if not isinstance(step, Attempt):
            raise RequestError(
                "model_not_found",
                f"The fallback '{step.model_name}' is served by LiteLLM, which is off.",
                param="model",
            )
        if step.wait:
            await asyncio.sleep(step.wait)
        slots = step.deployment.slots
        with ExitStack() as place:
            if slots is not None:
                await slots.acquire()
                place.callback(slots.release)
            try:
                answer = await call(step.deployment)
            except NeevError as error:
                plan.failed(error)
                continue
            plan.succeeded()
            held.push(place.pop_all())
            return step.deployment, answer
    raise plan.error or ServerError("internal_error", "The request could not be routed.")
