"""Rare ways in which a settle could be lost between a gateway and its store, each made to happen."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time

import msgspec
import pytest

from neev_provider.admission import Demand, Spent
from neev_provider.admission.keys import Keys
from neev_provider.admission.rules import AdmissionSettings, Clock
from neev_provider.admission.scripts import seen_name
from neev_provider.admission.settling import Settle, replay
from neev_provider.admission.sweeping import sweep
from neev_provider.admission.virtual import VirtualKeys
from neev_provider.errors import ServerError
from neev_provider.store import Store
from neev_provider.store.node import Timing, UnknownOutcomeError, unavailable
from tests import accounts
from tests.faults.house import PATIENT
from tests.store.servers import server

ONE = Demand("m", 10, 10, output_cap=100, prompt_nanos=100, completion_nanos=300)
USED = Spent(prompt_tokens=10, completion_tokens=10, cost_nanos=4000, model="vendor/m")
NOON = 1_780_000_000_000


@pytest.fixture(scope="module")
def valkey(tmp_path_factory):
    running = server(tmp_path_factory.mktemp("valkey"))
    yield running
    running.stop()


@pytest.fixture
async def store(valkey):
    valkey.client().flushall()
    async with Store.from_url(valkey.url, timing=PATIENT) as opened:
        yield opened


@pytest.fixture
def ledger_lines(caplog):
    caplog.set_level(logging.ERROR, "neev_provider.ledger")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "neev_provider.ledger"]


class Moody:
    """A store that has the writes of a settler fail as told, one word after the other, and then answers as it is.

    `lost` carries a write out and does not answer, `fault` carries it out and has ours fail, `refused` does neither.
    While it is `mute` it answers no reads.
    """

    def __init__(self, store: Store, *moods: str) -> None:
        self._store = store
        self._moods = iter(moods)
        self.mute = True
        self.reads = 0

    async def run(self, script, names, args):
        mood = next(self._moods, "")
        if mood == "refused":
            raise ServerError("internal_error", "The gateway's store refused a command.")
        answer = await self._store.run(script, names, args)
        if mood == "lost":
            raise unavailable(1.0, UnknownOutcomeError)
        if mood == "fault":
            raise TypeError("of our own")
        return answer

    async def call(self, name, *words):
        self.reads += 1
        if self.mute:
            raise unavailable(1.0)
        return await self._store.call(name, *words)


async def test_what_the_store_refused_is_replayed_though_later_settles_have_passed_it_by(store, ledger_lines):
    keys, access = Keys(store), VirtualKeys(store)
    made = await keys.create_key({"max_budget": 1}, by="test")
    grants = [await access.admit(made.token, ONE) for _ in range(5)]
    moody = access._settler._store = Moody(store, *["refused"] * 5)
    moody.mute = False
    for grant in grants[:3]:
        grant.settle(USED)
    async with asyncio.timeout(20):
        while access.lost < 3:
            await asyncio.sleep(0.05)
    for grant in grants[3:]:
        grant.settle(USED)
    await access.flush()
    assert (await keys.key(made.key.id)).spend_nanos == 2 * 4000
    assert [await replay(store, line) for line in ledger_lines()] == [4000] * 3
    assert [await replay(store, line) for line in ledger_lines()] == [None] * 3
    key = await keys.key(made.key.id)
    assert (key.spend_nanos, key.held_nanos, key.in_flight) == (5 * 4000, 0, 0)
    await access.close()


async def test_a_fault_of_our_own_leaves_lines_and_stops_no_later_settle(store, ledger_lines):
    keys, access = Keys(store), VirtualKeys(store)
    made = await keys.create_key({"max_budget": 1}, by="test")
    grants = [await access.admit(made.token, ONE) for _ in range(3)]
    nonsense: int = None  # type: ignore[assignment]  # which no store takes
    grants[0].settle(Spent(prompt_tokens=nonsense, cost_nanos=1, model="m"))
    grants[1].settle(USED)  # goes with it
    await access.flush()
    assert len(ledger_lines()) == access.lost == 2
    assert access.queued == 0
    grants[2].settle(USED)
    await access.flush()
    assert (await keys.key(made.key.id)).spend_nanos == 4000
    with pytest.raises(ValueError, match="not a settle"):
        await replay(store, ledger_lines()[0])
    assert [await replay(store, ledger_lines()[1]) for _ in range(2)] == [4000, None]
    await access.close()


@pytest.mark.parametrize("first", ["lost", "fault"])
class TestWhatTheStoreMayHaveCharged:
    """A write whose answer was lost, and then neither taken nor explained: nobody can tell yet whether it counted."""

    @pytest.fixture
    async def moody(self, store, first):
        keys, access = Keys(store), VirtualKeys(store)
        made = await keys.create_key({"max_budget": 1}, by="test")
        grants = [await access.admit(made.token, ONE) for _ in range(3)]
        moody = access._settler._store = Moody(store, first, *["refused"] * 5)
        grants[0].settle(USED)
        async with asyncio.timeout(20):
            while not moody.reads:
                await asyncio.sleep(0.05)
        assert (await keys.key(made.key.id)).spend_nanos == 4000
        yield moody, access, made.key.id, grants
        await access.close()

    async def test_waits_until_that_is_known_and_is_charged_once(self, store, moody, ledger_lines):
        moody, access, key_id, grants = moody
        assert access.queued == 1
        for grant in grants[1:]:
            grant.settle(USED)
        moody.mute = False
        await access.flush()
        for line in ledger_lines():
            await replay(store, line)
        key = await Keys(store).key(key_id)
        assert (key.spend_nanos, key.held_nanos, key.in_flight) == (3 * 4000, 0, 0)

    async def test_is_logged_by_a_process_that_ends_so_that_a_replay_asks(self, store, moody, ledger_lines):
        moody, access, key_id, grants = moody
        for grant in grants[1:]:
            grant.settle(USED)
        await access.close(grace=0)
        for line in 2 * ledger_lines():
            await replay(store, line)
        assert len(ledger_lines()) == 3
        key = await Keys(store).key(key_id)
        assert (key.spend_nanos, key.held_nanos, key.in_flight) == (3 * 4000, 0, 0)


class TestAStoreThatForgetsWhatItHadConfirmed:
    """As one may that was killed between two writes to its disk, or a replica that takes its primary's place."""

    @pytest.fixture
    async def forgetful(self, tmp_path):
        """A Valkey that knows after a restart what it knew when it was last told to save."""
        running = server(tmp_path)
        yield running
        running.stop()

    async def settled(self, access, token, number):
        for _ in range(number):
            (await access.admit(token, ONE)).settle(USED)
        await access.flush()

    @pytest.mark.parametrize("goes_on", [True, False], ids=["busy owner", "idle owner"])
    async def test_is_told_it_again(self, forgetful, goes_on):
        async with Store.from_url(forgetful.url, timing=Timing(call=5, probe=0.1)) as store:
            keys, access = Keys(store), VirtualKeys(store)
            await access.start()
            made = await keys.create_key({"max_budget": 1}, by="test")
            await self.settled(access, made.token, 3)
            running = await access.admit(made.token, ONE)
            forgetful.client().save()
            late = await access.admit(made.token, ONE)
            await self.settled(access, made.token, 70)  # more than go in one write
            forgetful.stop(signal.SIGKILL)
            forgetful.start()
            account = forgetful.client().eval(accounts.READ, 1, f"neev:{{{made.key.id}}}:use:{made.key.id}")
            assert account[accounts.SPENT] == 12_000
            if goes_on:
                await self.until_back(store)
                await self.settled(access, made.token, 1)
            number = 74 if goes_on else 73
            async with asyncio.timeout(20):
                while (await self.until_back(store)) and (
                    await keys.key(made.key.id)
                ).spend_nanos < number * 4000:
                    await asyncio.sleep(0.05)
            for grant in (running, late):
                grant.settle(USED)
            await access.flush()
            key = await keys.key(made.key.id)
            assert (key.spend_nanos, key.held_nanos, key.in_flight) == ((number + 2) * 4000, 0, 0)
            await access.close()

    async def until_back(self, store) -> bool:
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(ServerError):
                    return bool(await store.call("x", "PING"))
                await asyncio.sleep(0.05)


async def test_what_a_reader_found_expired_is_part_of_the_gateways_total(store):
    clock = Clock(NOON)
    keys = Keys(store, clock=clock)
    dead = VirtualKeys(store, AdmissionSettings(clock=clock))
    made = await keys.create_key({}, by="test")
    await dead.admit(made.token, ONE)
    clock.moved += 90_000
    assert (await keys.key(made.key.id)).spend_nanos == 1000
    assert await sweep(store, clock) == (1, 1000)
    assert await sweep(store, clock) == (0, 0)


class TestALineOfLongAgo:
    """What tells whether a line was charged is not kept for ever; what it tells no more must not be guessed."""

    @pytest.fixture
    async def line(self, store):
        made = await Keys(store).create_key(by="test")

        def of(days, number, *, sent):
            at = int((time.time() - days * 86_400) * 1000)
            settle = Settle("p", number, made.key.id, f"p-{number}", made.key.id, at, 3, 4, 500, model="m")
            settle.sent = sent
            return msgspec.json.encode(settle)

        return of

    async def test_is_charged_if_it_was_never_sent_or_the_number_tells_that_it_was_not_taken(
        self, store, valkey, line
    ):
        assert await replay(store, line(40, 1, sent=False)) == 500
        tag = msgspec.json.decode(line(40, 2, sent=True))["tag"]
        valkey.client().set(seen_name(tag, "p"), 2)
        assert await replay(store, line(40, 2, sent=True)) is None
        assert await replay(store, line(40, 3, sent=True)) == 500
        assert await replay(store, line(33, 4, sent=True)) == 500

    @pytest.mark.parametrize(("days", "sent"), [(36, True), (401, True), (401, False)])
    async def test_is_refused_if_nothing_tells_any_more(self, store, line, days, sent):
        with pytest.raises(ValueError, match="too old"):
            await replay(store, line(days, 5, sent=sent))


async def test_a_lease_that_expired_is_remembered_as_long_as_its_line_may_be_replayed(store, valkey):
    clock = Clock(NOON)
    dead = VirtualKeys(store, AdmissionSettings(clock=clock))
    made = await Keys(store, clock=clock).create_key(by="test")
    await dead.admit(made.token, ONE)
    clock.moved += 90_000
    await sweep(store, clock)
    (name,) = valkey.client().keys("neev:*:late:*")
    assert valkey.client().ttl(name) > 399 * 86_400


class TestAServerOfAClusterThatIsAway:
    """Holds some owners; the others' leases are looked after all the same, whatever the order."""

    @pytest.fixture
    async def owners(self, store):
        """Three keys of their own, by the order of their ids; the middle one's server can be taken away."""
        clock = Clock(NOON)
        keys, access = Keys(store, clock=clock), VirtualKeys(store, AdmissionSettings(clock=clock))
        made = [await keys.create_key(by="test") for _ in range(3)]
        for key in sorted(made, key=lambda each: each.key.id):
            await access.admit(key.token, ONE)
        ids = sorted(key.key.id for key in made)
        yield clock, access, ids
        await access.close()

    def partly_away(self, store, monkeypatch, away):
        run = store.run

        async def run_unless_away(script, names, args):
            if f"{{{away}}}" in names[0]:
                raise unavailable(1.0)
            return await run(script, names, args)

        monkeypatch.setattr(store, "run", run_unless_away)

    async def test_keeps_no_other_lease_from_being_renewed(self, store, owners, valkey, monkeypatch):
        clock, access, ids = owners
        before = {
            key_id: valkey.client().zrange(f"neev:{{{key_id}}}:due", 0, -1, withscores=True) for key_id in ids
        }
        clock.moved += 20_000
        self.partly_away(store, monkeypatch, ids[0])
        await access._leases.renew()
        after = {
            key_id: valkey.client().zrange(f"neev:{{{key_id}}}:due", 0, -1, withscores=True) for key_id in ids
        }
        assert [after[key_id][0][1] - before[key_id][0][1] for key_id in ids] == [0, 20_000, 20_000]

    async def test_keeps_no_other_lease_from_being_swept_and_told(self, store, owners, monkeypatch):
        clock, _, ids = owners
        clock.moved += 90_000
        monkeypatch.setattr("neev_provider.admission.sweeping._AT_ONCE", 2)
        self.partly_away(store, monkeypatch, ids[0])
        assert await sweep(store, clock) == (2, 2000)
        monkeypatch.undo()
        assert await sweep(store, clock) == (1, 1000)
