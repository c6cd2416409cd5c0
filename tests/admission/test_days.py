"""What was spent on a day is in that day's report, whatever happened around it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime

from neev_provider.admission import Demand, Spent
from neev_provider.admission.rules import AdmissionSettings
from neev_provider.admission.settling import replay
from neev_provider.admission.spend import read_spend
from neev_provider.admission.virtual import VirtualKeys

ONE = Demand("m", prompt_tokens=1, prompt_nanos=1, completion_nanos=1)
MIDNIGHT = 1_780_012_800_000  # 2026-05-29 00:00:00 UTC, in milliseconds


async def report(store, at: int) -> dict[str, int]:
    day = datetime.fromtimestamp(at / 1000, UTC)
    return {entry.key_id: entry.cost_nanos for entry in await read_spend(store, day, day)}


async def test_of_a_request_just_before_midnight_is_in_the_day_before(keys, store, clock):
    clock.moved = MIDNIGHT - 1
    made = await keys.create_key(by="test")
    async with VirtualKeys(store, AdmissionSettings(clock=clock)) as access:
        grant = await access.admit(made.token, ONE)
        clock.moved = MIDNIGHT + 5_000
        grant.settle(Spent(cost_nanos=7, model="m"))
    assert await report(store, MIDNIGHT - 1) == {made.key.id: 7}
    assert await report(store, MIDNIGHT) == {}


async def test_of_the_only_request_just_after_midnight_is_in_the_new_day(keys, store, clock):
    clock.moved = MIDNIGHT - 1
    made = await keys.create_key(by="test")
    async with VirtualKeys(store, AdmissionSettings(clock=clock)) as access:
        (await access.admit(made.token, ONE)).settle(Spent(cost_nanos=7, model="m"))
        await access.total.tell()
        clock.moved = MIDNIGHT
        (await access.admit(made.token, ONE)).settle(Spent(cost_nanos=8, model="m"))
    assert await report(store, MIDNIGHT - 1) == {made.key.id: 7}
    assert await report(store, MIDNIGHT) == {made.key.id: 8}


async def test_that_was_replayed_is_in_the_report_of_its_day(keys, store, clock):
    made = await keys.create_key(by="test")
    line = {"process": "p", "number": 1, "tag": made.key.id, "lease": "l", "key_id": made.key.id, "at": MIDNIGHT,
            "cost_nanos": 9, "model": "m"}  # fmt: skip
    assert await replay(store, json.dumps(line)) == 9
    assert await report(store, MIDNIGHT) == {made.key.id: 9}


async def test_is_there_without_the_process_having_ended_well(keys, store, clock):
    made = await keys.create_key(by="test")
    access = VirtualKeys(store, AdmissionSettings(clock=clock))
    await access.start()
    (await access.admit(made.token, ONE)).settle(Spent(cost_nanos=7, model="m"))
    await access.flush()
    while not await report(store, clock.moved):
        await asyncio.sleep(0.01)
    assert await report(store, clock.moved) == {made.key.id: 7}
    await access.close()
