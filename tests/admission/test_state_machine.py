"""Admission against an independent model, over random histories; `TEST_STEPS=5000` makes more of them.

A step is an admission, a settle or a refund; time, rotations, changes of limits and the rest come between.
"""

from __future__ import annotations

import asyncio
import os
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from neev_provider.admission import Demand, Spent
from neev_provider.admission.keys import Keys
from neev_provider.admission.rules import AdmissionSettings, Clock
from neev_provider.admission.scripts import SETTLE, prefix_of, seen_name
from neev_provider.admission.tokens import tag_of
from neev_provider.admission.virtual import VirtualKeys
from neev_provider.errors import NeevError, RequestError
from neev_provider.store import Store
from tests.admission.conftest import NOON, PATIENT
from tests.admission.model import Key, Model, Subject

STEPS = int(os.environ.get("TEST_STEPS", "800"))
STEPS_IN_A_HISTORY = 50
MOST_OLD_SECRETS = 8

limits = st.fixed_dictionaries(
    {},
    optional={
        "rpm_limit": st.integers(1, 6),
        "tpm_limit": st.integers(1, 400),
        "max_parallel_requests": st.integers(1, 4),
        "max_budget": st.integers(0, 3000),
        "budget_duration": st.sampled_from(["7s", "90s", "2h", "30d", "1mo"]),
    },
)
demands = st.builds(
    Demand,
    model=st.sampled_from(["alpha", "alpha", "alpha", "beta"]),
    prompt_tokens=st.integers(0, 60),
    max_tokens=st.none() | st.integers(1, 80),
    output_cap=st.integers(0, 90),
    choices=st.integers(1, 2),
    prompt_nanos=st.integers(0, 5) | st.integers(0, 5) | st.none(),
    completion_nanos=st.integers(0, 9),
    flat_nanos=st.just(0) | st.integers(0, 100),
)
spendings = st.builds(
    Spent,
    prompt_tokens=st.integers(0, 70),
    completion_tokens=st.integers(0, 200),
    cost_nanos=st.none() | st.integers(0, 900),
    estimated=st.booleans(),
    model=st.sampled_from(["vendor/alpha", "vendor/beta", "alpha"]),
    characters=st.integers(0, 50),
)


def written(values: dict) -> dict:
    """Limits as the API takes them: the model counts nano-USD, people USD."""
    if values.get("max_budget") is None:
        return dict(values)
    return {**values, "max_budget": Decimal(values["max_budget"]) / 10**9}


class Admission(RuleBasedStateMachine):
    url = ""
    steps = [0]

    @initialize(team=limits, own=limits, first=limits, second=limits)
    def begin(self, team, own, first, second):
        self.loop = asyncio.new_event_loop()
        self.clock = Clock(NOON)
        self.store = Store(Store.from_url(self.url).address, PATIENT)
        self.await_(self.store.call("", "FLUSHALL"))
        self.api = Keys(self.store, clock=self.clock)
        self.access = VirtualKeys(self.store, AdmissionSettings(clock=self.clock, lease_seconds=30))
        self.model = Model(lease_ms=30_000)
        self.grants = []
        self.settled = []
        self.known = []
        self.await_(self.api.create_team(written(team), team_id="team", by="test"))
        self.team = Subject(dict(team), NOON)
        for values, in_team in ((own, False), (first, True), (second, True)):
            self.make_key(values, in_team)

    def await_(self, work):
        return self.loop.run_until_complete(work)

    async def tried(self, token, demand):
        return await asyncio.gather(self.access.admit(token, demand), return_exceptions=True)

    def make_key(self, values, in_team):
        attributes = {**written(values), "models": ["alpha"]} if len(self.known) == 1 else written(values)
        made = self.await_(self.api.create_key(attributes, team="team" if in_team else None, by="test"))
        models = frozenset({"alpha"}) if len(self.known) == 1 else None
        subject = Subject(dict(values), self.clock.moved, models=models)
        key = Key(made.key.id, subject, self.team if in_team else None, {made.token: None})
        key.all_tokens = [made.token]
        self.model.keys[key.id] = key
        self.known.append(key)

    def teardown(self):
        if hasattr(self, "loop"):
            self.await_(self.access.flush())
            self.await_(self.store.close())
            self.loop.close()

    @rule(which=st.integers(0, 5), asked=st.lists(demands, min_size=1, max_size=6))
    def admit(self, which, asked):
        for demand in asked:
            self.admit_one(which, 0, demand)

    @rule(which=st.integers(0, 10), age=st.integers(1, 3), demand=demands)
    def admit_with_an_old_token(self, which, age, demand):
        self.admit_one(which, age, demand)

    def admit_one(self, which, age, demand):
        self.steps[0] += 1
        key = self.known[which % len(self.known)]
        token = key.all_tokens[-1 - age % len(key.all_tokens)]
        expected, detail = self.model.admit(key, token, demand, self.clock.moved)
        (grant,) = self.await_(self.tried(token, demand))
        if isinstance(grant, NeevError):
            assert (grant.code, grant.retry_after) == (expected, detail), grant
            return
        assert not isinstance(expected, str), expected
        asked = demand.output_cap if demand.max_tokens is None else demand.max_tokens
        is_clamped = detail is not None and detail < asked
        assert (b"x-neev-max-tokens-clamped" in grant.headers) == is_clamped
        is_sent = detail is not None and asked and (is_clamped or demand.max_tokens is None)
        assert grant.max_tokens == (detail if is_sent else None)
        self.grants.append((grant, expected))

    @precondition(lambda self: self.grants)
    @rule(order=st.lists(st.integers(0, 30), min_size=1, max_size=4), spent=spendings)
    def settle(self, order, spent):
        for which in order[: len(self.grants)]:
            self.settle_one(which, spent)

    def settle_one(self, which, spent):
        self.steps[0] += 1
        grant, lease = self.grants.pop(which % len(self.grants))
        event = grant._settle

        async def settled():
            grant.settle(spent)
            await self.access.flush()

        self.await_(settled())
        self.model.settle(lease, spent)
        self.settled.append(event)

    @precondition(lambda self: self.grants)
    @rule(which=st.integers(0, 30))
    def refund(self, which):
        self.settle_one(which, Spent())

    @precondition(lambda self: self.settled)
    @rule(which=st.integers(0, 30))
    def settle_again(self, which):
        event = self.settled[which % len(self.settled)]
        words = (prefix_of(event.tag), self.clock.moved, 0, *event.words())
        assert self.await_(self.store.run(SETTLE, (seen_name(event.tag, event.process),), words)) == [b"seen"]

    @rule(
        milliseconds=st.integers(1, 1500)
        | st.integers(1500, 70_000)
        | st.sampled_from([7_200_000, 2_700_000_000])
    )
    def wait(self, milliseconds):
        self.clock.moved += milliseconds

    @rule(which=st.integers(0, 10), grace=st.sampled_from([0, 5, 100]))
    def rotate(self, which, grace):
        key = self.known[which % len(self.known)]
        if key.id not in self.model.keys:
            return
        good = {token: until for token, until in key.tokens.items() if until and until > self.clock.moved}
        if grace and len(good) >= MOST_OLD_SECRETS:
            with pytest.raises(RequestError, match="old secrets"):
                self.await_(self.api.rotate_key(key.id, grace_seconds=grace, by="test"))
            return
        made = self.await_(self.api.rotate_key(key.id, grace_seconds=grace, by="test"))
        newest = key.all_tokens[-1]
        key.tokens = {made.token: None}
        if grace:
            key.tokens |= good | {newest: self.clock.moved + grace * 1000}
        key.all_tokens.append(made.token)
        self.expire_described()

    @rule(which=st.integers(0, 10), blocked=st.sampled_from([True, False, False]))
    def block(self, which, blocked):
        key = self.known[which % len(self.known)]
        if key.id in self.model.keys:
            self.await_((self.api.block_key if blocked else self.api.unblock_key)(key.id, by="test"))
            key.itself.blocked = blocked
            self.expire_described()

    @rule(blocked=st.sampled_from([True, False, False, False]))
    def block_team(self, blocked):
        self.await_((self.api.block_team if blocked else self.api.unblock_team)("team", by="test"))
        self.team.blocked = blocked
        self.expire_described()

    @rule(which=st.integers(0, 10))
    def revoke(self, which):
        key = self.known[which % len(self.known)]
        if key.id in self.model.keys and len(self.known) < 6:
            self.await_(self.api.revoke_key(key.id, by="test"))
            self.expire_described()
            del self.model.keys[key.id]
            self.make_key(key.itself.limits, key.team is not None)

    @rule(which=st.integers(0, 10), values=limits)
    def change_limits(self, which, values):
        key = self.known[which % len(self.known)]
        if key.id not in self.model.keys:
            return
        wanted = {
            name: values.get(name)
            for name in ("rpm_limit", "tpm_limit", "max_parallel_requests", "max_budget")
        }
        self.await_(self.api.update_key(key.id, written(wanted), by="test"))
        self.expire_described()
        old = key.itself.limits.get("budget_duration")
        key.itself.limits = {name: value for name, value in wanted.items() if value is not None}
        if old is not None:
            key.itself.limits["budget_duration"] = old

    @rule(which=st.integers(0, 10), duration=st.sampled_from([None, "7s", "2h", "1mo"]))
    def change_duration(self, which, duration):
        key = self.known[which % len(self.known)]
        if key.id in self.model.keys and key.itself.limits.get("budget_duration") != duration:
            self.await_(self.api.update_key(key.id, {"budget_duration": duration}, by="test"))
            self.expire_described()
            key.itself.change_duration(duration, self.clock.moved)

    def expire_described(self):
        """Looking at keys expires what is due of their owner; the invariant looks at all."""
        for tag in {tag_of(key.id) for key in self.known}:
            self.model.expire(tag, self.clock.moved)

    @invariant()
    def store_and_model_agree(self):
        if not hasattr(self, "model"):
            return
        self.expire_described()
        now = self.clock.moved
        found = {info.id: info for info in self.await_(self.api.list_keys())}
        found["team"] = self.await_(self.api.team("team"))
        for key in self.known:
            if key.id not in self.model.keys and key.team is None:
                self.await_(self.api.list_keys(team=key.id))  # expires what is left of it
        expected = {key.id: key.itself for key in self.model.keys.values()} | {"team": self.team}
        assert found.keys() == expected.keys()
        for name, subject in expected.items():
            window, info = subject.present(now), found[name]
            assert (info.spend_nanos, info.held_nanos, info.in_flight) == (
                window.spent,
                window.held,
                subject.open,
            )
        assert self.days() == {place: figures for place, figures in self.model.days.items() if any(figures)}

    def days(self):
        found = {}
        for tag in {tag_of(key.id) for key in self.known}:
            for name in self.await_(
                self.store.call("", "KEYS", prefix_of(tag).replace("{", "\\{") + "day:*")
            ):
                flat = self.await_(self.store.call("", "HGETALL", name))
                for i in range(0, len(flat), 2):
                    key_id, _, model = flat[i].decode().partition(" ")
                    figures = [int(figure) for figure in flat[i + 1].split()]
                    if any(figures):
                        found[name.decode()[-8:], key_id, model] = figures
        return found


@pytest.mark.timeout(600)
def test_every_history_ends_as_the_model_says(valkey):
    bounds = settings(
        max_examples=20,
        stateful_step_count=STEPS_IN_A_HISTORY,
        deadline=None,
        database=None,
        print_blob=False,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    steps = [0]
    machine = type("AdmissionHere", (Admission,), {"url": valkey.url, "steps": steps})
    while steps[0] < STEPS:
        before = steps[0]
        run_state_machine_as_test(machine, settings=bounds)
        assert steps[0] > before
