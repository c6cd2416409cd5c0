"""Counts what a call was charged, by whom and for whom; the same for both ways of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from neev_provider.metrics import families
from neev_provider.metrics.families import NONE

if TYPE_CHECKING:
    from neev_provider.admission import Principal, Spent
    from neev_provider.metrics.recorder import Recorder

__all__ = ["charge", "holder"]

_ESTIMATED: Final = {False: "false", True: "true"}


def holder(recorder: Recorder, principal: Principal) -> tuple[str, str]:
    """Return the labels `key` and `team` of who calls, as ids; tell the recorder the key's alias."""
    if principal.alias is not None and principal.alias != principal.key_id:
        recorder.name(principal.key_id, principal.alias)
    return principal.key_id, principal.team or NONE


def charge(recorder: Recorder, of: tuple[str, str, str], spent: Spent) -> None:
    """Count what a call was charged.

    Args:
        recorder: where to.
        of: model, team and key.
        spent: as it is settled; nothing is counted of a call that produced nothing.
    """
    model = of[0]
    if spent.prompt_tokens or spent.completion_tokens:
        estimated = _ESTIMATED[spent.estimated]
        recorder.add(families.TOKENS, (*of, "input", estimated), spent.prompt_tokens)
        recorder.add(families.TOKENS, (*of, "output", estimated), spent.completion_tokens)
    if spent.characters:
        recorder.add(families.SPEECH_CHARACTERS, of, spent.characters)
    if spent.cost_nanos:
        recorder.add(families.SPEND, of, spent.cost_nanos)
    elif spent.cost_nanos is None:
        recorder.add(families.UNPRICED_CALLS, (model,))
    if spent.estimated:
        recorder.add(families.ESTIMATED_CHARGES, (model,))
