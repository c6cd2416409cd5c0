"""What one call costs: asked for before, settled after, whatever becomes of the call.

Called by the routes for chat and speech.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from neev_provider.admission import Spent
from neev_provider.usage import Usage, cost_nanos

if TYPE_CHECKING:
    from types import TracebackType

    from neev_provider.admission import Grant
    from neev_provider.gateway.exchange import Exchange
    from neev_provider.routed import RoutedDeployment

__all__ = ["Bill"]


class Bill:
    """Settles a grant when it is left; by then what was spent has been noted, or nothing was.

    Args:
        exchange: whose log line tells the figures.
        grant: of the call.
        prompt_tokens: estimate; charged for a call that the client abandons before upstream has answered it.

    Attributes:
        attempted: the deployment that is being called, or has answered.
    """

    __slots__ = ("_exchange", "_grant", "_is_settled", "_prompt_tokens", "_spent", "attempted")

    def __init__(self, exchange: Exchange, grant: Grant, prompt_tokens: int) -> None:
        self._exchange: Final = exchange
        self._grant: Final = grant
        self._prompt_tokens: Final = prompt_tokens
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

    def note_speech(self, deployment: RoutedDeployment, characters: int, cost: int | None) -> None:
        """Note what a speech call used, and its cost in nano-USD."""
        self._spent = Spent(cost_nanos=cost, model=deployment.model.id, characters=characters)
        self._exchange.notes |= {"upstream_model": deployment.model.id, "cost_nanos": cost}

    def settle(self) -> None:
        """Charge what was noted, once; leaving the bill does so at the latest."""
        if self._is_settled:
            return
        self._is_settled = True
        if self._spent is None and self.attempted is not None:
            # Abandoned while upstream was at work: it has read the prompt, and will charge for it.
            self.note_tokens(self.attempted, Usage(self._prompt_tokens, 0, estimated=True))
        spent = self._exchange.facts.spent = self._spent or Spent()
        self._grant.settle(spent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.settle()
