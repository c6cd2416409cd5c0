"""What one call costs: asked for before, settled after, whatever becomes of the call.

Called by the routes for chat and speech.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from neev_provider.admission import Spent
from neev_provider.usage import Usage, cost_nanos, speech_cost_nanos

if TYPE_CHECKING:
    from types import TracebackType

    from neev_provider.admission import Demand, Grant
    from neev_provider.gateway.exchange import Exchange
    from neev_provider.routed import RoutedDeployment

__all__ = ["Bill"]


class Bill:
    """Settles a grant when it is left; by then what was spent has been noted, or nothing was.

    Args:
        exchange: whose log line tells the figures.
        grant: of the call.
        demand: whose prompt is charged for a call that the client abandons before upstream has answered it.

    Attributes:
        attempted: the deployment that is being called, or has answered.
    """

    __slots__ = ("_demand", "_exchange", "_grant", "_is_settled", "_spent", "attempted")

    def __init__(self, exchange: Exchange, grant: Grant, demand: Demand) -> None:
        self._exchange: Final = exchange
        self._grant: Final = grant
        self._demand: Final = demand
        self._spent: Spent | None = None
        self._is_settled = False
        self.attempted: RoutedDeployment | None = None

    def note_tokens(self, deployment: RoutedDeployment, usage: Usage) -> int | None:
        """Note what a chat call used; return its cost in nano-USD, None if the model is unpriced."""
        price = deployment.model.price
        cost = None if price is None else cost_nanos(price, usage)
        self._spent = Spent(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cost_nanos=cost,
            estimated=usage.estimated,
            model=deployment.model.id,
        )
        self._exchange.notes |= {
            "upstream_model": deployment.model.id,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "estimated": usage.estimated,
            "cost_nanos": cost,
        }
        return cost

    def note_speech(
        self, deployment: RoutedDeployment, characters: int, *, estimated: bool = False
    ) -> int | None:
        """Note what a speech call used; return its cost in nano-USD, None if the model is unpriced."""
        price = deployment.model.price
        cost = None if price is None else speech_cost_nanos(price, characters)
        self._spent = Spent(
            cost_nanos=cost, estimated=estimated, model=deployment.model.id, characters=characters
        )
        self._exchange.notes |= {"upstream_model": deployment.model.id, "cost_nanos": cost}
        return cost

    def settle(self) -> None:
        """Charge what was noted, once; leaving the bill does so at the latest."""
        if self._is_settled:
            return
        self._is_settled = True
        if self._spent is None and self.attempted is not None:
            self._note_abandoned(self.attempted)
        spent = self._exchange.facts.spent = self._spent or Spent()
        self._grant.settle(spent)

    def _note_abandoned(self, deployment: RoutedDeployment) -> None:
        """Charge what upstream was at work on: it has read the prompt, and will charge for it."""
        if self._demand.characters:
            self.note_speech(deployment, self._demand.characters, estimated=True)
        else:
            self.note_tokens(deployment, Usage(self._demand.prompt_tokens, 0, estimated=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.settle()
