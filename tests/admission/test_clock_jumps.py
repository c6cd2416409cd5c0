"""The store's clock jumps an hour, on or back, with calls in flight: limits, leases and budgets stay sane."""

from __future__ import annotations

import pytest

from neev_provider.admission import Demand, Spent
from neev_provider.errors import LimitError

HOUR = 3_600_000  # milliseconds
WINDOW = 61  # seconds that a limit may stay closed, whatever the clock does
ONE = Demand("m", prompt_tokens=10, max_tokens=10, output_cap=100, prompt_nanos=100, completion_nanos=300)
USED = Spent(prompt_tokens=10, completion_tokens=10, cost_nanos=4_000, model="m")


@pytest.fixture(params=[HOUR, -HOUR], ids=["an hour on", "an hour back"])
def jump(request):
    return request.param


async def test_a_call_in_flight_is_charged_once_and_its_place_given_back(keys, access, clock, jump):
    made = await keys.create_key({"max_budget": 1, "max_parallel_requests": 1}, by="test")
    grant = await access.admit(made.token, ONE)
    clock.moved += jump
    grant.settle(USED)
    await access.flush()
    key = await keys.key(made.key.id)
    assert (key.spend_nanos, key.held_nanos, key.in_flight) == (4_000, 0, 0)
    (await access.admit(made.token, ONE)).settle(USED)
    await access.flush()
    key = await keys.key(made.key.id)
    assert (key.spend_nanos, key.held_nanos, key.in_flight) == (8_000, 0, 0)


async def test_a_budget_that_is_for_ever_is_not_refilled(keys, access, clock, jump):
    token = (await keys.create_key({"max_budget": "0.000004"}, by="test")).token
    (await access.admit(token, ONE)).settle(USED)
    await access.flush()
    clock.moved += jump
    with pytest.raises(LimitError):
        await access.admit(token, ONE)


async def test_a_limit_is_never_closed_for_longer_than_a_window(keys, access, clock, jump):
    token = (await keys.create_key({"rpm_limit": 2}, by="test")).token
    for _ in range(2):
        (await access.admit(token, ONE)).settle(USED)
    await access.flush()
    clock.moved += jump
    if jump > 0:
        for _ in range(2):
            (await access.admit(token, ONE)).settle(USED)
    else:
        with pytest.raises(LimitError) as refused:
            await access.admit(token, ONE)
        assert 0 < refused.value.retry_after <= WINDOW
    await access.flush()
    clock.moved += WINDOW * 1000
    for _ in range(2):
        (await access.admit(token, ONE)).settle(USED)
    with pytest.raises(LimitError):
        await access.admit(token, ONE)


async def test_what_was_counted_before_a_jump_back_counts_for_a_minute_and_once(keys, access, clock):
    token = (await keys.create_key({"rpm_limit": 4}, by="test")).token
    for _ in range(2):
        await access.admit(token, ONE)
    clock.moved -= HOUR
    await access.admit(token, ONE)
    clock.moved += 30_000
    await access.admit(token, ONE)
    clock.moved += 2_000
    with pytest.raises(LimitError):
        await access.admit(token, ONE)
    clock.moved += 30_000  # 62 s after the jump: the three that had been counted then are over
    for _ in range(3):
        await access.admit(token, ONE)
    with pytest.raises(LimitError):
        await access.admit(token, ONE)


async def test_tokens_taken_before_a_jump_back_are_not_given_back_out_of_another_second(keys, access, clock):
    token = (await keys.create_key({"tpm_limit": 100}, by="test")).token
    before = await access.admit(token, ONE)  # takes 20
    clock.moved -= 61 * 60_000  # to a second that has the same bucket
    await access.admit(token, ONE)
    before.settle(Spent(prompt_tokens=0, completion_tokens=0, cost_nanos=0, model=""))
    await access.flush()
    last = await access.admit(token, ONE)
    assert last.headers[b"x-ratelimit-remaining-tokens"] == b"40"
