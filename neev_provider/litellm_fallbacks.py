"""What LiteLLM's router may make of a request once its model has failed: other models, and other fields.

Only reads: the request, and the router's chains, which it looks up as the router does. Called by
`litellm_admission.py`, so that a budget covers the dearest model that a request may end at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from litellm.router_utils.fallback_event_handlers import (
    check_non_standard_fallback_format,
    get_fallback_model_group,
)

from neev_provider.contract import FALLBACK_FIELDS
from neev_provider.litellm_demand import LIMIT_FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Fallbacks", "fallbacks_of", "lower_limits"]


@dataclass(frozen=True, slots=True)
class Fallbacks:
    """Where a request may end.

    Attributes:
        models: the names that it may be asked of next, without its own.
        changes: the fields that it may be given then; LiteLLM keeps them from one fallback to the next.
    """

    models: tuple[str, ...] = ()
    changes: tuple[Mapping[str, Any], ...] = ()


_NONE: Final = Fallbacks()


def fallbacks_of(data: Mapping[str, Any], router: Any) -> Fallbacks:
    """Return the fallbacks of a request, those of its fallbacks' models too.

    Args:
        data: the request; its own chains go before the router's.
        router: LiteLLM's.
    """
    if router is None or data.get("disable_fallbacks") is True:
        return _NONE
    chains = list(_chains(data, router).values())
    if not chains:
        return _NONE
    own = str(data.get("model"))
    known: dict[str, None] = {own: None}
    changes: list[Mapping[str, Any]] = []
    pending = [target for chain in chains if check_non_standard_fallback_format(chain) for target in chain]
    by_group = [chain for chain in chains if not check_non_standard_fallback_format(chain)]
    pending += _targets(by_group, own)
    while pending:
        target = pending.pop(0)
        if isinstance(target, dict):
            changes.append(target)
        name = target.get("model") if isinstance(target, dict) else target
        if isinstance(name, str) and name not in known:
            known[name] = None
            pending += _targets(by_group, name)
    return Fallbacks(tuple(name for name in known if name != own), tuple(changes))


def lower_limits(data: dict[str, Any], router: Any, most: int) -> None:
    """Lower the limits of produced tokens that fallbacks would set, the router's in the request itself.

    Args:
        data: the request.
        router: LiteLLM's.
        most: tokens.
    """
    if router is None:
        return
    for field, chain in _chains(data, router).items():
        lowered = [_lowered(entry, most) for entry in chain]
        if lowered != chain:
            data[field] = lowered


def _chains(data: Mapping[str, Any], router: Any) -> dict[str, list[Any]]:
    found = {field: data.get(field, getattr(router, field, None)) for field in FALLBACK_FIELDS}
    return {field: chain for field, chain in found.items() if isinstance(chain, list) and chain}


def _lowered(entry: Any, most: int) -> Any:
    if not isinstance(entry, dict):
        return entry
    changed = {
        name: min(value, most) if name in LIMIT_FIELDS and isinstance(value, int) else value
        for name, value in entry.items()
    }
    if "model" in entry:
        return changed
    return {
        name: [_lowered(target, most) for target in value] if isinstance(value, list) else value
        for name, value in changed.items()
    }


def _targets(chains: Sequence[list[Any]], name: str) -> Iterator[Any]:
    for chain in chains:
        targets, _ = get_fallback_model_group(fallbacks=chain, model_group=name)
        yield from targets if isinstance(targets, list) else ()
