"""Which request gets which fault: its own, else its model's, else the process-wide one; and how often.

Called by `app.py` for every request and by `control.py` to change the process-wide ones.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from neev_provider.emulator.faults import HEALTHY, Faults, parse_faults

__all__ = ["FaultBook"]


@dataclass(slots=True)
class _Rule:
    faults: Faults
    remaining: int | None  # None: always

    def take(self) -> Faults:
        if self.remaining is None:
            return self.faults
        if self.remaining == 0:
            return HEALTHY
        self.remaining -= 1
        return self.faults


class FaultBook:
    """The process-wide faults and the counts behind `times`.

    Attributes:
        applied: how often each fault string was applied, for the statistics.
    """

    def __init__(self, fault: str | None = None) -> None:
        """Raise FaultSyntaxError if `fault`, which is for every model, is wrong."""
        self._rules: dict[str | None, _Rule] = {}
        self._used: Counter[str] = Counter()
        self.applied: Counter[str] = Counter()
        if fault is not None:
            self.put(fault)

    def put(self, fault: str, *, model: str | None = None, times: int | None = None) -> None:
        """Set the fault of one model, or of every model that has none of its own.

        Args:
            fault: fault string.
            model: id; None for every model.
            times: how many requests get it; None for what the string says, else all.

        Raises:
            FaultSyntaxError: the string is wrong.
        """
        faults = parse_faults(fault)
        self._rules[model] = _Rule(faults, faults.times if times is None else times)

    def clear(self) -> None:
        """Forget every process-wide fault and every count."""
        self._rules.clear()
        self._used.clear()

    def rules(self) -> list[dict[str, Any]]:
        """Return the process-wide faults as `PUT /_emulator/faults` takes them."""
        return [
            {"fault": rule.faults.text or "none", "model": model, "remaining": rule.remaining}
            for model, rule in self._rules.items()
        ]

    def choose(self, own: str | None, model: str | None) -> Faults:
        """Return the faults of one request, and count that it had them.

        Args:
            own: the fault string that came with the request, or None.
            model: the model it asks for, or None.

        Raises:
            FaultSyntaxError: the request's own string is wrong.
        """
        if own is not None:
            faults = self._within_times(parse_faults(own))
        elif self._rules:
            rule = self._rules.get(model) or self._rules.get(None)
            faults = HEALTHY if rule is None else rule.take()
        else:
            return HEALTHY
        if faults is not HEALTHY:
            self.applied[faults.text] += 1
        return faults

    def _within_times(self, faults: Faults) -> Faults:
        if faults.times is None:
            return faults
        if self._used[faults.name] >= faults.times:
            return HEALTHY
        self._used[faults.name] += 1
        return faults
