"""Carries out a routing plan: attempts, waits and fallbacks until one deployment has answered.

Called by the routes for chat and speech; decides nothing that `routing.py` does not.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Self, TypeVar

from neev_provider.errors import NeevError, RequestError, ServerError
from neev_provider.gateway.hand_over import hand_over
from neev_provider.routing import Attempt, HandOver

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from neev_provider.gateway.exchange import Exchange
    from neev_provider.gateway.intake import Call, Request
    from neev_provider.gateway.services import Services
    from neev_provider.routed import RoutedDeployment

__all__ = ["Place", "answer_call", "call_by_plan"]

R = TypeVar("R")
C = TypeVar("C", bound="Request")


class HandedOverError(Exception):
    """The plan leaves NeevAI: LiteLLM is to answer, with this model name."""

    def __init__(self, model_name: str) -> None:
        super().__init__(model_name)
        self.model_name = model_name


class Place:
    """A call's place among those that its deployment takes at once; given back when it is left."""

    __slots__ = ("_slots",)

    def __init__(self) -> None:
        self._slots: asyncio.Semaphore | None = None

    async def take(self, deployment: RoutedDeployment) -> None:
        """Wait for a place at a deployment; one at most is held."""
        if deployment.slots is not None:
            await deployment.slots.acquire()
            self._slots = deployment.slots

    def leave(self) -> None:
        """Give the place back, if there is one."""
        slots, self._slots = self._slots, None
        if slots is not None:
            slots.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()


async def answer_call(
    exchange: Exchange,
    services: Services,
    call: Call[C],
    answer: Callable[[Exchange, Services, Call[C], Place], Awaitable[None]],
) -> None:
    """Answer a call that was let in, and settle its bill, whatever becomes of it.

    Args:
        exchange: of the client.
        services: of the gateway.
        call: what was asked for.
        answer: asks upstream and sends what it says; the deployment's place is its till the end.

    Raises:
        NeevError: before anything was sent.
        ClientGoneError: the client went away.
    """
    exchange.notes["via"] = "fast"
    with call.bill:
        try:
            async with exchange.while_client_stays():
                with Place() as place:
                    await answer(exchange, services, call, place)
        except HandedOverError as error:
            model_name = error.model_name
        else:
            return
        # Its lease is LiteLLM's to take over, so it is not settled before LiteLLM has.
        await hand_over(
            exchange,
            services,
            call.grant.principal,
            body=call.body,
            model=model_name,
            ticket=call.grant.ticket,
            on_answer=call.bill.settle,
        )


async def call_by_plan(
    services: Services,
    call: Call[Any],
    place: Place,
    attempt: Callable[[RoutedDeployment], Awaitable[R]],
) -> tuple[RoutedDeployment, R]:
    """Return the deployment that answered, of the group or of its fallbacks, and its answer.

    Args:
        services: of the gateway.
        call: what was asked for, and by whom; fallbacks that its key may not call are left out.
        place: for the deployment that answers; its owner gives it back when the answer has been relayed.
        attempt: one call.

    Raises:
        NeevError: none answered; the plan's last word.
        HandedOverError: a fallback is LiteLLM's to serve.
    """
    found = await _by_plan(services, call, place, attempt)
    if isinstance(found, NeevError):
        try:
            raise found
        finally:
            del (
                found
            )  # its traceback holds this frame, which would hold it: a circle with all of the call in it
    return found


async def _by_plan(
    services: Services,
    call: Call[Any],
    place: Place,
    attempt: Callable[[RoutedDeployment], Awaitable[R]],
) -> tuple[RoutedDeployment, R] | NeevError:
    """Do as `call_by_plan`, but return the plan's last word."""
    plan = services.router.plan(call.group, may_call=call.grant.principal.may_call)
    while (step := plan.next()) is not None:
        if isinstance(step, HandOver):
            if services.litellm is not None:
                if services.metrics is not None:
                    services.metrics.fell_back(call.group.name, step.model_name)
                raise HandedOverError(step.model_name)
            return RequestError(
                "model_not_found",
                f"The fallback '{step.model_name}' is served by LiteLLM, which is off.",
                param="model",
            )
        asked_at = time.perf_counter()
        if step.wait:
            await asyncio.sleep(step.wait)
        await place.take(step.deployment)
        sent_at = time.perf_counter()
        answer = await _attempted(call, step, attempt)
        failure = answer if isinstance(answer, NeevError) else None
        now = time.perf_counter()
        call.facts.waited += now - asked_at
        cools_down = False if failure is None else plan.failed(failure)
        if services.metrics is not None:
            services.metrics.attempted(call.group.name, step, now - sent_at, failure, cools_down=cools_down)
        if isinstance(answer, NeevError):
            place.leave()
            continue
        plan.succeeded()
        call.facts.deployment = step.deployment.name
        return step.deployment, answer
    return plan.error or ServerError("internal_error", "The request could not be routed.")


async def _attempted(
    call: Call[Any], step: Attempt, attempt: Callable[[RoutedDeployment], Awaitable[R]]
) -> R | NeevError:
    """Return the answer of one deployment, or why there is none."""
    trace = call.facts.trace
    call.bill.attempted = step.deployment
    if trace is not None:
        call.facts.upstream_head = trace.begin_attempt(call.group.name, step, is_stream=call.facts.is_stream)
    try:
        return await attempt(step.deployment)
    except NeevError as error:
        call.bill.attempted = None
        if trace is not None:
            trace.fail_attempt(error)
        return error.with_traceback(None)  # which would hold the frames that keep it
