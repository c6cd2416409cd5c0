"""Several processes' worth of clients on one real Valkey: nothing beyond a limit, nothing counted twice or lost."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import pytest

from neev_provider.admission import Demand, Spent
from neev_provider.admission.keys import Keys
from neev_provider.admission.rules import AdmissionSettings, Clock
from neev_provider.admission.settling import Settle
from neev_provider.admission.spend import read_spend
from neev_provider.admission.sweeping import sweep
from neev_provider.admission.tokens import new_key_id, new_token
from neev_provider.admission.virtual import VirtualGrant, VirtualKeys
from neev_provider.errors import LimitError, RequestError
from neev_provider.store import Store
from tests.admission.conftest import NOON, PATIENT
from tests.store.servers import cluster

ONE = Demand("m", prompt_tokens=10, max_tokens=10, output_cap=100, prompt_nanos=100, completion_nanos=300)
COST = 10 * 100 + 10 * 300
USED = Spent(prompt_tokens=10, completion_tokens=10, cost_nanos=COST, model="vendor/m")


async def accesses(stack, url, number, clock, **settings):
    opened = []
    for _ in range(number):
        store = await stack.enter_async_context(Store.from_url(url, timing=PATIENT))
        access = VirtualKeys(store, AdmissionSettings(clock=clock, **settings))
        stack.push_async_callback(access.close)
        opened.append(access)
    return opened


@pytest.fixture(params=["one server", "a cluster of three"])
def url(request, tmp_path):
    if request.param == "one server":
        yield request.getfixturevalue("valkey").url
        return
    nodes = cluster(tmp_path)
    yield f"redis+cluster://127.0.0.1:{nodes[1].port},127.0.0.1:{nodes[0].port}"
    for node in nodes:
        node.stop()


@pytest.mark.xdist_group("cluster")
async def test_400_calls_on_a_budget_for_137_of_them(url):
    """Of one key and, for another, of its team: through four clients at once."""
    clock = Clock(NOON)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(Store.from_url(url, timing=PATIENT))
        keys = Keys(store, clock=clock)
        budget = {"max_budget": f"{137 * COST / 1e9:.9f}"}
        alone = [(await keys.create_key(budget, by="test")).token]
        await keys.create_team(budget, team_id="t", by="test")
        of_team = [(await keys.create_key(team="t", by="test")).token for _ in range(5)]
        clients = await accesses(stack, url, 4, clock)
        for tokens in (alone, of_team):
            outcomes = await asyncio.gather(
                *(clients[number % 4].admit(tokens[number % len(tokens)], ONE) for number in range(400)),
                return_exceptions=True,
            )
            refusals = [outcome for outcome in outcomes if isinstance(outcome, LimitError)]
            grants = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
            assert (len(grants), len(refusals)) == (137, 263)
            assert {error.code for error in refusals} == {"budget_exceeded"}
            for grant in grants:
                grant.settle(USED)
            await asyncio.gather(*(client.flush() for client in clients))
        for client in clients:
            await client.total.tell()
        day = datetime.fromtimestamp(NOON / 1000, UTC)
        spent = await read_spend(store, day, day)
        assert sum(entry.cost_nanos for entry in spent) == 2 * 137 * COST
        assert sum(entry.requests for entry in spent) == 2 * 137
        team = await keys.team("t")
        assert (team.spend_nanos, team.held_nanos, team.in_flight) == (137 * COST, 0, 0)
        assert sum(key.spend_nanos for key in await keys.list_keys(team="t")) == 137 * COST


class TestTheLastSixtySeconds:
    @pytest.mark.parametrize("limit", [1, 7, 1000])
    async def test_never_more_requests_than_the_limit_in_any_minute(self, keys, access, clock, limit):
        token = (await keys.create_key({"rpm_limit": limit}, by="test")).token
        admitted = []
        step = 7_310 if limit < 1000 else 9_730
        for _ in range(40):
            clock.moved += step
            burst = await asyncio.gather(
                *(access.admit(token, ONE) for _ in range(limit // 3 + 1)), return_exceptions=True
            )
            assert {type(outcome) for outcome in burst} <= {VirtualGrant, LimitError}
            admitted += [clock.moved for outcome in burst if isinstance(outcome, VirtualGrant)]
        worst = max(sum(1 for at in admitted if begun <= at < begun + 60_000) for begun in admitted)
        assert worst <= limit
        if limit == 1:
            assert len(admitted) >= 4  # one for each window of 61 s in 292 s

    async def test_a_limit_of_100_000_is_as_exact(self, keys, access, clock, valkey):
        made = await keys.create_key({"rpm_limit": 100_000}, by="test")
        token, account = made.token, f"neev:{{{made.key.id}}}:use:{made.key.id}"
        grant = await access.admit(token, ONE)
        # As if this second's one request had been so many.
        valkey.client().eval(
            "local a = {cmsgpack.unpack(redis.call('HGET', KEYS[1], 'a'))}; a[8] = tonumber(ARGV[2]); "
            "redis.call('HSET', KEYS[1], 'a', cmsgpack.pack(unpack(a)), ARGV[1], a[8] * 1e10)",
            1,
            account,
            f"b{clock.moved // 1000 % 61}",
            99_999,
        )
        clock.moved += 59_999
        last = await access.admit(token, ONE)
        assert last.headers[b"x-ratelimit-remaining-requests"] == b"0"
        with pytest.raises(LimitError) as refused:
            await access.admit(token, ONE)
        # The second in which the many came began 40 ms before this test's clock was set.
        assert refused.value.retry_after == pytest.approx(61 - 59.999 - clock.moved % 1 - NOON % 1000 / 1000)
        clock.moved += round(refused.value.retry_after * 1000)
        assert (await access.admit(token, ONE)).headers[b"x-ratelimit-remaining-requests"] == b"99998"
        assert grant.headers[b"x-ratelimit-limit-requests"] == b"100000"

    async def test_tokens_are_put_right_in_the_second_in_which_they_were_taken(self, keys, access, clock):
        token = (await keys.create_key({"tpm_limit": 100}, by="test")).token
        grant = await access.admit(token, ONE)  # takes 20
        clock.moved += 30_000
        grant.settle(Spent(prompt_tokens=50, completion_tokens=40, cost_nanos=1, model="m"))
        await access.flush()
        with pytest.raises(LimitError) as refused:
            await access.admit(token, ONE)
        assert refused.value.retry_after == 31
        clock.moved += 31_000
        await access.admit(token, ONE)

    async def test_what_another_team_of_that_name_took_is_not_given_back(self, keys, access, clock):
        limits = {"tpm_limit": 100}
        await keys.create_team(limits, team_id="again", by="test")
        old = (await keys.create_key(team="again", by="test")).token
        grants = [await access.admit(old, ONE) for _ in range(4)]  # each takes 20
        await keys.delete_team("again", with_keys=True, by="test")
        await keys.create_team(limits, team_id="again", by="test")
        new = (await keys.create_key(team="again", by="test")).token
        await access.admit(new, ONE)
        for grant in grants:
            grant.settle(Spent(prompt_tokens=0, completion_tokens=0, cost_nanos=0, model=""))
        await access.flush()
        last = await access.admit(new, ONE)
        assert last.headers[b"x-ratelimit-remaining-tokens"] == b"60"

    async def test_a_request_larger_than_the_limit_is_never_worth_repeating(self, keys, access):
        token = (await keys.create_key({"tpm_limit": 19}, by="test")).token
        with pytest.raises(LimitError, match="needs 20 tokens, and this key may use 19 a minute") as refused:
            await access.admit(token, ONE)
        assert refused.value.retry_after is None

    @pytest.mark.parametrize("seconds", [1, 59, 60, 61, 62, 200])
    async def test_a_clock_that_goes_back_opens_no_second_window(self, keys, access, clock, seconds):
        token = (await keys.create_key({"rpm_limit": 1}, by="test")).token
        await access.admit(token, ONE)
        clock.moved -= seconds * 1000
        with pytest.raises(LimitError):
            await access.admit(token, ONE)


class TestParallelCalls:
    async def test_are_exact_over_several_clients(self, keys, valkey, clock):
        token = (await keys.create_key({"max_parallel_requests": 3}, by="test")).token
        async with AsyncExitStack() as stack:
            clients = await accesses(stack, valkey.url, 3, clock)
            tried = await asyncio.gather(
                *(client.admit(token, ONE) for client in clients for _ in range(10)), return_exceptions=True
            )
            grants = [grant for grant in tried if not isinstance(grant, Exception)]
            assert len(grants) == 3
            grants[0].settle(USED)
            await grants[0]._access.flush()
            grants.append(await clients[0].admit(token, ONE))
            for grant in grants[1:]:
                grant.settle(USED)

    async def test_the_next_call_of_the_same_process_finds_the_place_free(self, keys, access):
        """Settling is not waited for, and yet written before."""
        token = (await keys.create_key({"max_parallel_requests": 1}, by="test")).token
        for _ in range(50):
            grant = await access.admit(token, ONE)
            grant.settle(USED)
            await asyncio.sleep(0)

    async def test_a_lease_of_a_process_that_died_expires_and_its_prompt_is_charged(
        self, keys, valkey, clock
    ):
        made = await keys.create_key({"max_parallel_requests": 1}, by="test")
        async with AsyncExitStack() as stack:
            dead, alive = await accesses(stack, valkey.url, 2, clock)
            grant = await dead.admit(made.token, ONE)
            clock.moved += 89_999
            with pytest.raises(LimitError, match="may have 1 requests in flight"):
                await alive.admit(made.token, ONE)
            clock.moved += 1
            await alive.admit(made.token, ONE)
            assert alive.expired == 1
            key = await keys.key(made.key.id)
            assert (key.spend_nanos, key.in_flight) == (1000, 1)
            # It was not dead after all: the difference is charged.
            grant.settle(USED)
            await dead.flush()
            assert (await keys.key(made.key.id)).spend_nanos == COST

    async def test_a_living_process_keeps_its_lease(self, keys, access, clock):
        token = (await keys.create_key({"max_parallel_requests": 1}, by="test")).token
        await access.admit(token, ONE)
        for _ in range(5):
            clock.moved += 80_000
            await access._leases.renew()
        with pytest.raises(LimitError):
            await access.admit(token, ONE)


class TestBudgets:
    async def test_the_last_request_gets_what_is_left(self, keys, access):
        token = (
            await keys.create_key({"max_budget": f"{(COST + 1000 + 299 + 4 * 300) / 1e9:.9f}"}, by="test")
        ).token
        await access.admit(token, ONE)
        grant = await access.admit(token, ONE)
        assert grant.max_tokens == 4
        assert grant.headers[b"x-neev-max-tokens-clamped"] == b"4"
        with pytest.raises(LimitError, match="is reserved"):
            await access.admit(token, ONE)

    async def test_exactly_enough_is_enough(self, keys, access):
        for budget, fits in ((1300, True), (1299, False)):
            token = (await keys.create_key({"max_budget": f"{budget / 1e9:.9f}"}, by="test")).token
            if fits:
                assert (await access.admit(token, ONE)).max_tokens == 1
            else:
                with pytest.raises(LimitError):
                    await access.admit(token, ONE)

    async def test_a_call_over_the_edge_of_the_month_is_charged_to_the_month_in_which_it_began(
        self, keys, access, clock
    ):
        clock.moved = int(datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp() * 1000)
        made = await keys.create_key({"max_budget": "0.000005", "budget_duration": "1mo"}, by="test")
        grant = await access.admit(made.token, ONE)
        with pytest.raises(LimitError) as refused:
            await access.admit(made.token, Demand("m", 50, 1, prompt_nanos=100, completion_nanos=0))
        assert "2027-01-01 00:00:00 UTC" in refused.value.message or "reserved" in refused.value.message
        clock.moved += 1000
        fresh = await access.admit(made.token, ONE)
        grant.settle(USED)
        await access.flush()
        key = await keys.key(made.key.id)
        assert (key.spend_nanos, key.held_nanos) == (0, COST)
        fresh.settle(USED)
        await access.flush()
        assert (await keys.key(made.key.id)).spend_nanos == COST
        assert key.budget_reset_at == datetime(2027, 2, 1, tzinfo=UTC)

    async def test_changing_the_duration_forgets_nothing_that_is_in_flight(self, keys, access):
        made = await keys.create_key({"max_budget": 1, "budget_duration": "30d"}, by="test")
        grants = [await access.admit(made.token, ONE) for _ in range(3)]
        for duration in ("24h", "1mo", None):
            await keys.update_key(made.key.id, {"budget_duration": duration}, by="test")
        for grant in grants:
            grant.settle(USED)
        await access.flush()
        key = await keys.key(made.key.id)
        assert (key.spend_nanos, key.held_nanos) == (3 * COST, 0)

    @pytest.mark.parametrize("ends", ["settled", "expired"])
    @pytest.mark.parametrize("who", ["team", "key"])
    async def test_what_is_made_anew_under_a_name_owes_and_holds_nothing_for_calls_before(
        self, keys, access, clock, who, ends
    ):
        limits = {"max_budget": "0.01", "max_parallel_requests": 1}
        token = new_token(new_key_id("again"))

        async def make():
            await keys.create_team(limits if who == "team" else {}, team_id="again", by="test")
            key = await keys.create_key(limits if who == "key" else {}, team="again", token=token, by="test")
            return key.key.id

        await make()
        old = await access.admit(token, ONE)
        await keys.delete_team("again", with_keys=True, by="test")
        key_id = await make()
        new = await access.admit(token, ONE)
        if ends == "settled":
            old.settle(USED)
            await access.flush()
        else:
            access._leases.release(old._settle.lease)
            clock.moved += 60_000
            await access._leases.renew()
            clock.moved += 60_000
            assert await sweep(access._store, clock) == (1, 10 * 100)
        for subject in (await keys.team("again"), await keys.key(key_id)):
            assert (subject.spend_nanos, subject.held_nanos, subject.in_flight) == (0, COST, 1)
        with pytest.raises(LimitError, match="in flight at once"):
            await access.admit(token, ONE)
        new.settle(USED)
        await access.flush()
        for subject in (await keys.team("again"), await keys.key(key_id)):
            assert (subject.spend_nanos, subject.held_nanos, subject.in_flight) == (COST, 0, 0)

    @pytest.mark.parametrize("who", ["team", "key"])
    async def test_nor_does_it_owe_for_a_call_that_had_expired_before(self, keys, access, clock, who):
        token = new_token(new_key_id("again"))

        async def make_key():
            return (await keys.create_key(team="again", token=token, by="test")).key.id

        await keys.create_team(team_id="again", by="test")
        key_id = await make_key()
        old = await access.admit(token, ONE)
        clock.moved += 120_000
        assert await sweep(access._store, clock) == (1, 10 * 100)
        if who == "team":
            await keys.delete_team("again", with_keys=True, by="test")
            await keys.create_team(team_id="again", by="test")
        else:
            await keys.revoke_key(key_id, by="test")
        await make_key()
        old.settle(USED)
        await access.flush()
        assert (await keys.key(key_id)).spend_nanos == 0
        assert (await keys.team("again")).spend_nanos == (0 if who == "team" else COST)

    @pytest.mark.parametrize("days", [0, 2])
    async def test_a_call_that_the_store_has_forgotten_is_charged_to_its_own_window(
        self, keys, access, clock, days
    ):
        await keys.create_team({"budget_duration": "1mo"}, team_id="t", by="test")
        key = (await keys.create_key({"budget_duration": "24h"}, team="t", by="test")).key
        at = clock.moved + 1000
        clock.moved += days * 86_400_000 + 2000
        access._settler.add(
            Settle(access._settler.process, 0, "t", "lost", key.id, at, cost_nanos=7, model="m")
        )
        await access.flush()
        assert (await keys.key(key.id)).spend_nanos == (0 if days else 7)
        assert (await keys.team("t")).spend_nanos == 7

    async def test_and_not_to_an_account_that_was_made_since(self, keys, access, clock):
        token = new_token(new_key_id(None))
        key = (await keys.create_key(token=token, by="test")).key
        at = clock.moved
        await keys.revoke_key(key.id, by="test")
        clock.moved += 120_000
        await keys.create_key(token=token, by="test")
        for number, moment in enumerate((at, clock.moved)):
            lost = Settle(
                access._settler.process, 0, key.id, f"lost{number}", key.id, moment, cost_nanos=7, model="m"
            )
            access._settler.add(lost)
        await access.flush()
        assert (await keys.key(key.id)).spend_nanos == 7

    async def test_the_refusal_names_whose_budget_it_is(self, keys, access):
        await keys.create_team({"max_budget": "0.000004"}, team_id="t", by="test")
        token = (await keys.create_key({"max_budget": 5}, team="t", by="test")).token
        (await access.admit(token, ONE)).settle(USED)
        await access.flush()
        with pytest.raises(LimitError) as refused:
            await access.admit(token, ONE)
        assert (
            refused.value.message == "This key's team's budget of $0.000004 is used up: $0.000004 are spent."
        )
        assert refused.value.retry_after is None

    @pytest.mark.parametrize(
        ("duration", "anew"), [(None, ""), ("30d", " It begins anew at ")], ids=["in all", "by the month"]
    )
    async def test_a_budget_that_is_not_used_up_is_not_said_to_be(self, keys, access, duration, anew):
        limits = {"max_budget": "0.000000001", "budget_duration": duration}
        token = (await keys.create_key({k: v for k, v in limits.items() if v}, by="test")).token
        with pytest.raises(LimitError) as refused:
            await access.admit(token, ONE)
        said, more, _ = refused.value.message.partition(" It begins anew at ")
        assert said == (
            "This key's budget of $0.000000001 does not cover this request: $0.00 are spent, "
            "and it may cost more than the $0.000000001 that are left."
        )
        assert more == anew

    async def test_an_unpriced_model_is_refused_to_whoever_has_a_budget(self, keys, access):
        unpriced = Demand("m", 1, 1)
        await keys.create_team({"max_budget": 5}, team_id="t", by="test")
        token = (await keys.create_key(team="t", by="test")).token
        with pytest.raises(RequestError) as refused:
            await access.admit(token, unpriced)
        assert (refused.value.status, refused.value.code) == (403, "model_unpriced")
        free = await access.admit((await keys.create_key(by="test")).token, unpriced)
        assert free.max_tokens is None

    async def test_the_gateways_own_budget_counts_what_others_hold(self, keys, valkey, clock):
        token = (await keys.create_key(by="test")).token
        async with AsyncExitStack() as stack:
            one, two = await accesses(stack, valkey.url, 2, clock, budget_nanos=2 * COST)
            for access in (one, two):
                await access.total.tell()
            grant = await one.admit(token, ONE)
            await one.total.tell()
            await two.total.tell()
            await two.admit(token, ONE)
            with pytest.raises(LimitError, match="This gateway's budget is used up"):
                await two.admit(token, ONE)
            grant.settle(Spent())
            await one.flush()
            await one.total.tell()
            await two.total.tell()
            await two.admit(token, ONE)
