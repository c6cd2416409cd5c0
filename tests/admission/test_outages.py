"""The store frozen, restarted, emptied or away: what is settled is charged once, or logged so that it can be."""

from __future__ import annotations

import asyncio
import logging

import pytest

from neev_provider.admission import Demand, Spent
from neev_provider.admission.keys import Keys
from neev_provider.admission.rules import AdmissionSettings
from neev_provider.admission.scripts import RECORD
from neev_provider.admission.settling import replay
from neev_provider.admission.virtual import VirtualKeys
from neev_provider.errors import LimitError, RequestError, ServerError
from neev_provider.store import Store
from neev_provider.store.node import Timing, UnknownOutcomeError, unavailable
from tests.store.servers import server

ONE = Demand("m", 10, 10, output_cap=100, prompt_nanos=100, completion_nanos=300)
USED = Spent(prompt_tokens=10, completion_tokens=10, cost_nanos=4000, model="vendor/m")
QUICK = Timing(call=0.25, probe=0.1)


@pytest.fixture
def durable(tmp_path):
    """A Valkey of the test's own, which keeps every write."""
    running = server(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    yield running
    running.stop()


@pytest.fixture
async def quick(durable):
    async with Store.from_url(durable.url, timing=QUICK) as opened:
        yield opened


async def until(condition):
    while not await condition():
        await asyncio.sleep(0.05)


async def calm(store):
    async def answers():
        try:
            return await store.call("x", "PING")
        except ServerError:
            return False

    await until(answers)


async def test_settles_while_the_store_is_frozen_are_charged_once_when_it_is_back(durable, quick):
    keys, access = Keys(quick), VirtualKeys(quick)
    made = await keys.create_key({"max_budget": 1}, by="test")
    grants = [await access.admit(made.token, ONE) for _ in range(20)]
    durable.freeze()
    try:
        for grant in grants:
            grant.settle(USED)
            await asyncio.sleep(0.02)
        with pytest.raises(ServerError) as refused:
            await access.admit(made.token, ONE)
        assert (refused.value.status, refused.value.code) == (503, "store_unavailable")
        assert access.queued >= 20
    finally:
        durable.thaw()
    await access.flush()
    await calm(quick)
    key = await keys.key(made.key.id)
    assert (key.spend_nanos, key.held_nanos, key.in_flight) == (20 * 4000, 0, 0)
    await access.close()


async def test_a_restart_with_its_file_loses_nothing(durable, quick):
    keys, access = Keys(quick), VirtualKeys(quick)
    made = await keys.create_key({"max_budget": 1}, by="test")
    grants = [await access.admit(made.token, ONE) for _ in range(10)]
    grants[0].settle(USED)
    await access.flush()
    durable.stop()
    for grant in grants[1:]:
        grant.settle(USED)
    durable.start()
    await access.flush()
    await calm(quick)
    key = await keys.key(made.key.id)
    assert (key.spend_nanos, key.held_nanos, key.in_flight) == (40_000, 0, 0)
    await access.close()


async def test_what_an_emptied_store_has_forgotten_is_charged_to_the_day(durable, quick):
    keys, access = Keys(quick), VirtualKeys(quick)
    made = await keys.create_key({"max_budget": 1}, by="test")
    grant = await access.admit(made.token, ONE)
    durable.client().flushall()
    grant.settle(USED)
    await access.flush()
    (day,) = durable.client().keys("neev:*:day:*")
    assert durable.client().hgetall(day) == {f"{made.key.id} vendor/m".encode(): b"1 10 10 4000 0 0"}
    with pytest.raises(RequestError, match="not known"):
        await access.admit(made.token, ONE)
    await access.close()


async def test_what_cannot_be_written_is_logged_and_can_be_replayed_once(durable, quick, caplog):
    keys, access = Keys(quick), VirtualKeys(quick, AdmissionSettings(max_queued=3))
    made = await keys.create_key({"max_budget": 1}, by="test")
    grants = [await access.admit(made.token, ONE) for _ in range(5)]
    durable.stop()
    with caplog.at_level(logging.ERROR, "neev_provider.ledger"):
        for grant in grants:
            grant.settle(USED)
        await access.close(grace=0.1)
    lines = [record.getMessage() for record in caplog.records if record.name == "neev_provider.ledger"]
    assert len(lines) == access.lost == 5
    assert made.token not in caplog.text
    durable.start()
    await calm(quick)
    assert [await replay(quick, line) for line in lines] == [4000] * 5
    assert [await replay(quick, line) for line in lines] == [None] * 5
    key = await keys.key(made.key.id)
    assert (key.spend_nanos, key.held_nanos, key.in_flight) == (20_000, 0, 0)
    with pytest.raises(ValueError, match="not a settle"):
        await replay(quick, '{"event": 1}')


async def test_a_caller_that_leaves_while_it_is_let_in_leaves_nothing_behind(durable, quick):
    keys, access = Keys(quick), VirtualKeys(quick)
    other = await keys.create_key({"max_parallel_requests": 1}, by="test")
    leaving = asyncio.create_task(access.admit(other.token, ONE))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await access.flush()
    assert (await keys.key(other.key.id)).in_flight == 0
    await access.close()


async def test_an_admission_that_the_frozen_store_carried_out_after_all_is_given_back(durable, quick):
    keys, access = Keys(quick), VirtualKeys(quick)
    made = await keys.create_key({"max_budget": 1}, by="test")
    (await access.admit(made.token, ONE)).settle(USED)
    await access.flush()
    durable.freeze()
    outcomes = await asyncio.gather(
        *(access.admit(made.token, ONE) for _ in range(10)), return_exceptions=True
    )
    assert all(isinstance(outcome, ServerError) for outcome in outcomes)
    durable.thaw()
    await access.flush()
    await calm(quick)
    key = await keys.key(made.key.id)
    assert (key.spend_nanos, key.held_nanos, key.in_flight) == (4000, 0, 0)
    await access.close()


class GoneAfter:
    """A store that carries out one change of a record, answers it or not, and is away from then on."""

    def __init__(self, store, *, answers=True, looks=10**9):
        self._store = store
        self._answers = answers
        self._looks = looks  # that fail
        self._is_gone = False

    async def run(self, script, names, args):
        self._refuse_if_gone()
        answer = await self._store.run(script, names, args)
        if script is RECORD:
            self._is_gone = True
            if not self._answers:
                raise unavailable(1.0, UnknownOutcomeError)
        return answer

    async def call(self, name, *words):
        self._refuse_if_gone()
        return await self._store.call(name, *words)

    def _refuse_if_gone(self):
        if self._is_gone and self._looks > 0:
            self._looks -= 1
            raise unavailable(1.0)


class TestAStoreThatGoesAwayRightAfterAChange:
    async def test_keeps_no_new_secret_from_whom_it_is_for(self, quick):
        made = await Keys(GoneAfter(quick)).create_key({"alias": "bot", "max_budget": 1}, by="test")
        assert made.key == await Keys(quick).key(made.key.id)
        rotated = await Keys(GoneAfter(quick)).rotate_key(made.key.id, by="test")
        assert await Keys(quick).is_token(made.key.id, rotated.token)
        assert rotated.key == await Keys(quick).key(made.key.id)

    async def test_tells_of_every_other_change_that_it_is_done(self, quick):
        team = await Keys(GoneAfter(quick)).create_team({"alias": "red"}, by="test")
        assert team == await Keys(quick).team(team.id)
        team = await Keys(GoneAfter(quick)).update_team(team.id, {"alias": "blue"}, by="test")
        assert team == await Keys(quick).team(team.id)
        made = await Keys(quick).create_key({"alias": "bot"}, by="test")
        key = await Keys(GoneAfter(quick)).update_key(made.key.id, {"alias": "cat"}, by="test")
        assert key == await Keys(quick).key(made.key.id)
        await Keys(GoneAfter(quick)).revoke_key(key.id, by="test")
        await Keys(GoneAfter(quick)).delete_team(team.id, by="test")
        assert await Keys(quick).list_some(10) == []

    @pytest.mark.parametrize("change", ["create", "rotate"])
    async def test_and_does_not_answer_it_is_looked_at_whether_the_secret_is_in_force(self, quick, change):
        keys = Keys(GoneAfter(quick, answers=False, looks=2))
        if change == "create":
            made = await keys.create_key(by="test")
        else:
            made = await Keys(quick).create_key(by="test")
            made = await keys.rotate_key(made.key.id, by="test")
        assert await Keys(quick).is_token(made.key.id, made.token)

    async def test_and_stays_away_leaves_an_error_that_names_the_key(self, quick):
        with pytest.raises(ServerError, match=r"whether the key '.*' was made. If it is there later, rotate"):
            await Keys(GoneAfter(quick, answers=False)).create_key(by="test")
        (key,) = await Keys(quick).list_keys()
        with pytest.raises(
            ServerError, match=f"whether the key '{key.id}' has its new secret. Rotate it again"
        ):
            await Keys(GoneAfter(quick, answers=False)).rotate_key(key.id, by="test")

    async def test_a_write_that_was_not_carried_out_is_told_as_that(self, quick):
        class Lost(GoneAfter):
            async def run(self, script, names, args):
                if script is RECORD:
                    raise unavailable(1.0, UnknownOutcomeError)
                return await super().run(script, names, args)

        with pytest.raises(ServerError, match="Try again shortly"):
            await Keys(Lost(quick)).create_key(by="test")


class TestTheAllowPolicy:
    async def test_lets_known_keys_in_within_bounds_and_charges_them_later(self, durable, quick):
        keys = Keys(quick)
        access = VirtualKeys(quick, AdmissionSettings(on_store_outage="allow", outage_parallel=2))
        made = await keys.create_key({"max_budget": "0.00002", "models": ["m"]}, by="test")
        stranger = await keys.create_key(by="test")
        (await access.admit(made.token, ONE)).settle(USED)
        await access.flush()
        durable.freeze()
        try:
            grants = [await access.admit(made.token, ONE) for _ in range(2)]
            with pytest.raises(LimitError, match="lets in less"):
                await access.admit(made.token, ONE)
            with pytest.raises(RequestError, match="may not call"):
                await access.admit(made.token, Demand("other", 1, 1))
            with pytest.raises(ServerError):
                await access.admit(stranger.token, ONE)
            assert (await access.authenticate(made.token)).key_id == made.key.id
            for grant in grants:
                grant.settle(USED)
            for _ in range(2):
                (await access.admit(made.token, ONE)).settle(USED)
            with pytest.raises(LimitError, match="budget last seen"):
                await access.admit(made.token, ONE)
        finally:
            durable.thaw()
        await access.flush()
        await calm(quick)
        assert (await keys.key(made.key.id)).spend_nanos == 5 * 4000
        await access.close()

    async def test_a_call_that_outlives_its_outage_takes_no_place_in_the_next(self, durable, quick):
        access = VirtualKeys(quick, AdmissionSettings(on_store_outage="allow", outage_parallel=1))
        made = await Keys(quick).create_key(by="test")
        (await access.admit(made.token, ONE)).settle(USED)
        durable.freeze()
        outlives = await access.admit(made.token, ONE)
        durable.thaw()
        await calm(quick)
        (await access.admit(made.token, ONE)).settle(USED)
        durable.freeze()
        try:
            with pytest.raises(LimitError, match="lets in less"):
                await access.admit(made.token, ONE)
            outlives.settle(USED)
            (await access.admit(made.token, ONE)).settle(USED)
        finally:
            durable.thaw()
        await access.close()
