"""What admission should do, in plain Python over plain objects: nothing of it is taken from the scripts.

A lease refers to the budget's window that it was taken from as an object, so that a settle finds it again whatever has
happened meanwhile. Used by `test_state_machine.py`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime

from neev_provider.admission import Demand

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass
class Window:
    """A budget's window."""

    ends: float | None
    spent: int = 0
    held: int = 0


def next_month(ms: int) -> int:
    date = datetime.fromtimestamp(ms / 1000, UTC)
    year, month = (date.year + 1, 1) if date.month == 12 else (date.year, date.month + 1)
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp() * 1000)


@dataclass
class Subject:
    """A key or a team, and its limits."""

    limits: dict
    anchor: int
    models: frozenset | None = None
    blocked: bool = False
    window: Window | None = None
    taken: list = field(default_factory=list)  # [second, tokens] of each request
    open: int = 0

    def end_of_window(self, now: int) -> float | None:
        duration = self.limits.get("budget_duration")
        if duration is None:
            return None
        if duration.endswith("mo"):
            return next_month(now)
        length = int(duration[:-1]) * UNITS[duration[-1]] * 1000
        return self.anchor + ((now - self.anchor) // length + 1) * length

    def present(self, now: int) -> Window:
        """The window at a time; a new one begins empty."""
        if self.window is None or (self.window.ends is not None and now >= self.window.ends):
            self.window = Window(self.end_of_window(now))
        return self.window

    def change_duration(self, duration: str | None, now: int) -> None:
        window = self.present(now)
        if duration is None:
            self.limits.pop("budget_duration", None)
        else:
            self.limits["budget_duration"] = duration
            self.anchor = now
        window.ends = self.end_of_window(now)

    @property
    def is_counted(self) -> bool:
        return "rpm_limit" in self.limits or "tpm_limit" in self.limits

    def recent(self, now: int) -> list:
        return [entry for entry in self.taken if now // 1000 - entry[0] <= 60]

    def wait(self, now: int, needed: int, place: int) -> float:
        """Seconds until enough of the oldest have left the window."""
        freed: dict[int, int] = defaultdict(int)
        for entry in self.recent(now):
            freed[entry[0]] += (1, entry[1])[place]
        total = 0
        for second in sorted(freed):
            total += freed[second]
            if total >= needed:
                return ((second + 61) * 1000 - now) / 1000
        raise AssertionError("never enough")


@dataclass
class Lease:
    """A request that was let in."""

    key_id: str
    model: str
    at: int
    prompt: int
    prompt_nanos: int
    held: int
    ends: int
    parts: list  # of each subject: itself, its window, its entry in `taken`
    is_open: bool = True
    is_late: bool = False


@dataclass
class Key:
    """A key: itself, its team, and which tokens are good until when."""

    id: str
    itself: Subject
    team: Subject | None
    tokens: dict  # token to the end of its life, None for never
    expires: int | None = None

    @property
    def subjects(self) -> list[Subject]:
        return [self.itself] if self.team is None else [self.itself, self.team]


class Model:
    """All keys, leases and the spend by day."""

    def __init__(self, lease_ms: int) -> None:
        self.lease_ms = lease_ms
        self.keys: dict[str, Key] = {}
        self.leases: list[Lease] = []
        self.days: dict[tuple[str, str, str], list[int]] = {}

    def note(self, at: int, key_id: str, model: str, *figures: int) -> None:
        day = datetime.fromtimestamp(at / 1000, UTC).strftime("%Y%m%d")
        old = self.days.get((day, key_id, model), [0] * 6)
        self.days[day, key_id, model] = [a + b for a, b in zip(old, figures, strict=True)]

    def expire(self, tag: str, now: int) -> None:
        for lease in self.leases:
            if lease.is_open and lease.key_id.partition("_")[0] == tag and lease.ends <= now:
                self.close(lease, lease.prompt, lease.prompt_nanos)
                lease.is_late = True
                self.note(lease.at, lease.key_id, lease.model, 1, lease.prompt, 0, lease.prompt_nanos, 1, 0)

    def close(self, lease: Lease, tokens: int, nanos: int) -> None:
        for subject, window, entry in lease.parts:
            window.spent += nanos
            window.held -= lease.held
            subject.open -= 1
            if entry is not None:
                entry[1] = tokens
        lease.is_open = False

    def settle(self, lease: Lease, spent) -> None:
        tokens, nanos = spent.prompt_tokens + spent.completion_tokens, spent.cost_nanos or 0
        if lease.is_open:
            self.close(lease, tokens, nanos)
        elif lease.is_late:
            for _, window, entry in lease.parts:
                window.spent += nanos - lease.prompt_nanos
                if entry is not None:
                    entry[1] = tokens
            self.note(lease.at, lease.key_id, lease.model, -1, -lease.prompt, 0, -lease.prompt_nanos, -1, 0)
            lease.is_late = False
        else:
            return
        if spent.model:
            figures = (
                spent.prompt_tokens,
                spent.completion_tokens,
                nanos,
                int(spent.estimated),
                spent.characters,
            )
            self.note(lease.at, lease.key_id, spent.model, 1, *figures)

    def identify(self, key: Key, token: str, now: int) -> str | None:
        """Why a token is not good, None if it is."""
        if self.keys.get(key.id) is not key or token not in key.tokens:
            return "invalid_api_key"
        until = key.tokens[token]
        if until is not None and now >= until:
            return "invalid_api_key"
        if any(subject.blocked for subject in key.subjects):
            return "key_blocked"
        return "expired_api_key" if key.expires is not None and now >= key.expires else None

    def admit(self, key: Key, token: str, demand: Demand, now: int):  # noqa: PLR0912 - one rule after the other
        """Return the lease and the max_tokens that it covers, or the error's code and seconds to wait."""
        why = self.identify(key, token, now)
        if why:
            return why, None
        self.expire(key.id.partition("_")[0], now)
        subjects = key.subjects
        if any(subject.models is not None and demand.model not in subject.models for subject in subjects):
            return "model_not_allowed", None
        budgets = [subject for subject in subjects if "max_budget" in subject.limits]
        if budgets and not demand.priced:
            return "model_unpriced", None
        if any(subject.open >= subject.limits.get("max_parallel_requests", 10**9) for subject in subjects):
            return "rate_limit_exceeded", 1
        for subject in subjects:
            limit = subject.limits.get("rpm_limit")
            over = 0 if limit is None else len(subject.recent(now)) + 1 - limit
            if over > 0:
                return "rate_limit_exceeded", subject.wait(now, over, 0)
        assumed = demand.max_tokens if demand.max_tokens is not None else min(1024, demand.output_cap)
        tokens = demand.prompt_tokens + assumed * demand.choices
        for subject in subjects:
            limit = subject.limits.get("tpm_limit")
            over = 0 if limit is None else sum(entry[1] for entry in subject.recent(now)) + tokens - limit
            if over > 0:
                return "rate_limit_exceeded", None if tokens > limit else subject.wait(now, over, 1)
        cap = demand.max_tokens if demand.max_tokens is not None else demand.output_cap
        fixed = unit = 0
        if demand.priced:
            fixed = demand.prompt_tokens * demand.prompt_nanos + demand.flat_nanos
            unit = demand.completion_nanos * demand.choices
        least = fixed + min(cap, 1) * unit
        rooms = []
        for subject in budgets if least else ():
            window = subject.present(now)
            budget = subject.limits["max_budget"]
            room = budget - window.spent - window.held
            if room < least:
                if budget - window.spent >= least:
                    return "budget_exceeded", 1
                return "budget_exceeded", None if window.ends is None else (window.ends - now) / 1000
            rooms.append(room)
        if rooms and unit:
            cap = min(cap, (min(rooms) - fixed) // unit)
        held = fixed + cap * unit if demand.priced else 0
        parts = []
        for subject in subjects:
            window = subject.present(now)
            window.held += held
            subject.open += 1
            entry = [now // 1000, tokens] if subject.is_counted else None
            if entry is not None:
                subject.taken.append(entry)
            parts.append((subject, window, entry))
        lease = Lease(
            key.id, demand.model, now, demand.prompt_tokens, fixed, held, now + self.lease_ms, parts
        )
        self.leases.append(lease)
        return lease, cap if rooms else None
