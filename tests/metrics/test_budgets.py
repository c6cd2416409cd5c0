"""Budgets as gauges, from a real store."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from neev_provider.admission import Demand, Spent
from neev_provider.admission.keys import Keys
from neev_provider.admission.rules import AdmissionSettings
from neev_provider.admission.virtual import VirtualKeys
from neev_provider.errors import LimitError, ServerError
from neev_provider.metrics import families
from neev_provider.metrics.budgets import Budgets
from neev_provider.metrics.measured import MeasuredAccess, MeasuredStore, watch_admission
from neev_provider.metrics.sums import Caps, Sums
from neev_provider.store import Store, parse_address
from neev_provider.store.node import Timing
from tests.store.servers import server

NANO = 10**9


@pytest.fixture(scope="module")
def valkey(tmp_path_factory):
    running = server(tmp_path_factory.mktemp("valkey"))
    yield running
    running.stop()


@pytest.fixture
async def store(valkey):
    valkey.client().flushall()
    async with Store.from_url(valkey.url) as opened:
        yield opened


@pytest.fixture
def budgets(valkey, sums):
    """Return a reader of the store's budgets, always of its own connection."""

    def make(given: Sums = sums, settings: AdmissionSettings | None = None, most: int = 100) -> Budgets:
        return Budgets(Store.from_url(valkey.url), settings or AdmissionSettings(), given, most_owners=most)

    return make


async def shown(reader: Budgets) -> dict[str, dict[tuple[str, ...], float]]:
    try:
        await reader.refresh()
        return {family.name: series for family, series in reader.values().items()}
    finally:
        await reader.close()


class TestBudgets:
    async def test_they_are_there_before_any_traffic(self, store, budgets):
        keys = Keys(store)
        team = await keys.create_team(
            {"alias": "red", "max_budget": 50, "budget_duration": "1mo"}, team_id="t1", by="test"
        )
        await keys.create_key({"alias": "ann", "max_budget": 5}, team=team.id, by="test")
        await keys.create_key({"alias": "free"}, by="test")
        found = await shown(budgets())
        assert found["neev_budget_limit_usd"] == {("team", "red", "all"): 50, ("key", "red", "ann"): 5}
        everybody = {
            ("team", "red", "all"): 0.0,
            ("key", "red", "ann"): 0.0,
            ("key", "none", "free"): 0.0,
            ("gateway", "all", "all"): 0.0,
        }
        assert found["neev_budget_used_usd"] == found["neev_budget_reserved_usd"] == everybody
        ((labels, seconds),) = found["neev_budget_reset_seconds"].items()
        assert labels == ("team", "red", "all")
        now = datetime.now(UTC)
        next_month = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)
        assert seconds == pytest.approx((next_month - now).total_seconds(), abs=5)

    async def test_what_is_spent_and_reserved_is_shown(self, store, budgets):
        keys = Keys(store)
        made = await keys.create_key({"alias": "ann", "max_budget": 1}, by="test")
        demand = Demand("m", prompt_tokens=10, max_tokens=100, prompt_nanos=100, completion_nanos=500)
        async with VirtualKeys(store, AdmissionSettings(budget_nanos=2 * NANO)) as access:
            (await access.admit(made.token, demand)).settle(Spent(10, 20, 11_000, model="m"))
            await access.flush()
            await access.admit(made.token, demand)
            await access.total.tell()
            found = await shown(budgets(settings=AdmissionSettings(budget_nanos=2 * NANO)))
        ann, gateway = ("key", "none", "ann"), ("gateway", "all", "all")
        assert found["neev_budget_used_usd"] == {ann: 11_000 / NANO, gateway: 11_000 / NANO}
        assert found["neev_budget_reserved_usd"] == {ann: 51_000 / NANO, gateway: 51_000 / NANO}
        assert found["neev_budget_limit_usd"] == {ann: 1, gateway: 2}

    async def test_reading_the_gateways_spend_charges_nothing(self, store, budgets):
        await Keys(store).create_key({}, by="test")
        for _ in range(2):
            found = await shown(budgets())
            assert found["neev_budget_used_usd"][("gateway", "all", "all")] == 0

    async def test_keys_beyond_the_cap_are_left_out(self, store, budgets):
        keys = Keys(store)
        for _ in range(4):
            await keys.create_key({"max_budget": 1}, by="test")
        sums = Sums(Caps(key=3))
        found = await shown(budgets(sums))
        assert len(found["neev_budget_limit_usd"]) == 3
        assert sums.counters(families.LABEL_OVERFLOWS)[("key",)] == 1

    async def test_no_more_owners_are_read_than_allowed(self, store, budgets):
        keys = Keys(store)
        for _ in range(4):
            await keys.create_key({"max_budget": 1}, by="test")
        found = await shown(budgets(most=2))
        assert len(found["neev_budget_limit_usd"]) == 2

    async def test_while_the_store_is_away_the_last_ones_are_kept(self, store, valkey, tmp_path):
        await Keys(store).create_key({"alias": "ann", "max_budget": 3}, by="test")
        quick = Store(parse_address(valkey.url), Timing(call=0.1, probe=0.2))
        reader = Budgets(quick, AdmissionSettings(), Sums(), most_owners=10)
        try:
            await reader.refresh()
            before = reader.values()
            quick._only.drop()
            valkey.process.send_signal(19)  # SIGSTOP
            try:
                reader._seen_at -= 2  # it was some time ago
                began = time.monotonic()
                await reader.refresh()
                assert time.monotonic() - began < 5
            finally:
                valkey.process.send_signal(18)
            after = reader.values()
            assert (
                after[families.BUDGET_LIMIT] == before[families.BUDGET_LIMIT] == {("key", "none", "ann"): 3}
            )
            assert after[families.BUDGET_READ_AGE][()] >= 2
        finally:
            await reader.close()

    async def test_of_a_store_that_was_never_seen_nothing_is_shown(self):
        reader = Budgets(Store.from_url("redis://127.0.0.1:1"), AdmissionSettings(), Sums(), most_owners=10)
        assert await shown(reader) == {}


class TestAdmission:
    async def measured(self, valkey, recorder, made, demands):
        async with (
            MeasuredStore(parse_address(valkey.url), recorder) as own,
            VirtualKeys(own) as virtual,
        ):
            watch_admission(recorder, own, virtual)
            access = MeasuredAccess(virtual, recorder)
            for demand in demands:
                try:
                    (await access.admit(made.token, demand)).settle(Spent(1, 1, 1, model="m"))
                except LimitError:
                    await access.authenticate(made.token)
            await virtual.flush()
        return recorder.take()

    @pytest.mark.parametrize(
        ("limits", "scope", "limit"),
        [
            ({"rpm_limit": 1}, "key", "requests"),
            ({"tpm_limit": 1}, "key", "tokens"),
            ({"max_budget": 0}, "key", "budget"),
            ({"rpm_limit": 1}, "team", "requests"),
            ({"max_budget": 0}, "team", "budget"),
        ],
    )
    async def test_a_refusal_says_which_limit_and_whose(self, store, valkey, recorder, limits, scope, limit):
        keys = Keys(store)
        if scope == "team":
            await keys.create_team(limits, team_id="t1", by="test")
            made = await keys.create_key({}, team="t1", by="test")
        else:
            made = await keys.create_key(limits, by="test")
        demand = Demand("m", prompt_tokens=1, max_tokens=1, prompt_nanos=1, completion_nanos=1)
        taken = await self.measured(valkey, recorder, made, [demand] * 2)
        rows = taken.counts["neev_limit_rejections_total"]
        team = "t1" if scope == "team" else "none"
        assert [labels for labels, _ in rows] == [(limit, scope, team, made.key.id)]
        assert "refused" in {labels[0] for labels, _ in taken.buckets["neev_admission_seconds"]}

    async def test_parallel_calls_beyond_the_limit(self, store, valkey, recorder):
        made = await Keys(store).create_key({"max_parallel_requests": 1}, by="test")
        async with VirtualKeys(store) as virtual:
            access = MeasuredAccess(virtual, recorder)
            await access.admit(made.token, Demand("m"))
            with pytest.raises(LimitError):
                await access.admit(made.token, Demand("m"))
        ((labels, _),) = recorder.take().counts["neev_limit_rejections_total"]
        assert labels == ("parallel", "key", "none", made.key.id)

    async def test_calls_of_the_store_are_timed_by_what_they_are_for(self, store, valkey, recorder):
        made = await Keys(store).create_key({"rpm_limit": 1}, by="test")
        taken = await self.measured(valkey, recorder, made, [Demand("m")] * 2)
        counted = {labels[0]: sum(cell[:-1]) for labels, cell in taken.buckets["neev_store_call_seconds"]}
        assert counted["admit"] == 2
        assert counted["authenticate"] == 1
        assert counted["settle"] == 1

    async def test_a_store_that_is_away_is_counted_by_what_is_wrong(self, valkey, recorder):
        timing = Timing(call=0.1, probe=5)
        async with MeasuredStore(parse_address("redis://127.0.0.1:1"), recorder) as gone:
            with pytest.raises(ServerError):
                await gone.call("x", "PING")
        async with MeasuredStore(parse_address(valkey.url), recorder, timing) as frozen:
            await frozen.call("x", "PING")
            valkey.process.send_signal(19)
            try:
                with pytest.raises(ServerError):
                    await frozen.call("x", "PING")
            finally:
                valkey.process.send_signal(18)
        async with MeasuredStore(parse_address(valkey.url), recorder) as refusing:
            with pytest.raises(ServerError):
                await refusing.call("x", "NOSUCHCOMMAND")
        assert dict(recorder.take().counts["neev_store_errors_total"]) == {
            ("connection",): 1,
            ("timeout",): 1,
            ("refused",): 1,
        }

    async def test_a_store_that_cannot_say_is_an_error_and_not_a_refusal(self, recorder):
        async with MeasuredStore(parse_address("redis://127.0.0.1:1"), recorder) as gone:
            access = MeasuredAccess(VirtualKeys(gone), recorder)
            with pytest.raises(ServerError):
                await access.admit("sk-neev-kabcdefghijkl2." + "A" * 43, Demand("m"))
        ((labels, _),) = recorder.take().buckets["neev_admission_seconds"]
        assert labels == ("error",)
