"""A request that one process hands over to another: counted once, one place, charged once; and no ticket forged."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from neev_provider.admission import Demand, Spent
from neev_provider.admission.rules import AdmissionSettings
from neev_provider.admission.static import StaticKeys
from neev_provider.admission.terms import Principal
from neev_provider.admission.virtual import VirtualKeys
from neev_provider.errors import LimitError

ONE = Demand("m", prompt_tokens=10, max_tokens=10, output_cap=100, prompt_nanos=100, completion_nanos=300)
COST = 10 * 100 + 10 * 300
USED = Spent(prompt_tokens=10, completion_tokens=10, cost_nanos=COST, model="vendor/m")
MASTER = "sk-" + "m" * 40
LIMITS = {"rpm_limit": 2, "tpm_limit": 40, "max_parallel_requests": 1, "max_budget": f"{2 * COST / 1e9:.9f}"}


@pytest.fixture
async def processes(store, clock):
    """The gateway's, LiteLLM's, and one with another master key."""
    async with AsyncExitStack() as stack:
        opened = []
        for master in (MASTER, MASTER, MASTER + "x"):
            access = VirtualKeys(store, AdmissionSettings(clock=clock), master_key=master)
            stack.push_async_callback(access.close)
            opened.append(access)
        yield opened


@pytest.fixture(params=["key", "team"])
async def made(request, keys):
    """A key whose own limits, or whose team's, are `LIMITS`."""
    if request.param == "key":
        return await keys.create_key(LIMITS, by="test")
    await keys.create_team(LIMITS, team_id="t", by="test")
    return await keys.create_key(team="t", by="test")


async def limit_of(access, token, **more) -> str:
    with pytest.raises(LimitError) as caught:
        await access.admit(token, ONE, **more)
    return caught.value.limit


async def test_it_is_counted_once_and_charged_once(processes, made, keys):
    gateway, litellm, _ = processes
    for _ in range(2):
        first = await gateway.admit(made.token, ONE)
        second = await litellm.admit(made.token, ONE, ticket=first.ticket)
        assert await limit_of(gateway, made.token) == "parallel"
        first.settle(Spent())
        await gateway.flush()
        assert await limit_of(gateway, made.token) == "parallel"  # the other has the place
        second.settle(USED)
        await litellm.flush()
    assert await limit_of(gateway, made.token) == "requests"
    info = await keys.key(made.key.id)
    assert (info.spend_nanos, info.held_nanos, info.in_flight) == (2 * COST, 0, 0)


async def test_after_a_minute_it_counts_where_it_is(processes, made, clock):
    gateway, litellm, _ = processes
    first = await gateway.admit(made.token, ONE)
    clock.moved += 65_000
    second = await litellm.admit(made.token, ONE, ticket=first.ticket)
    second.settle(USED)
    await litellm.flush()
    (await gateway.admit(made.token, ONE)).settle(Spent())
    await gateway.flush()
    assert await limit_of(gateway, made.token) == "requests"


async def test_one_that_is_refused_has_ended_and_stays_counted(processes, made, keys):
    gateway, litellm, _ = processes
    first = await gateway.admit(made.token, ONE)
    dear = Demand("m", prompt_tokens=10, max_tokens=1, output_cap=1, prompt_nanos=10**6, completion_nanos=1)
    with pytest.raises(LimitError) as caught:
        await litellm.admit(made.token, dear, ticket=first.ticket)
    assert caught.value.limit == "budget"
    info = await keys.key(made.key.id)
    assert (info.held_nanos, info.in_flight) == (0, 0)
    first.settle(Spent())
    (await gateway.admit(made.token, ONE)).settle(Spent())
    await gateway.flush()
    assert await limit_of(gateway, made.token) == "requests"


async def test_a_ticket_is_good_once(processes, made):
    gateway, litellm, _ = processes
    first = await gateway.admit(made.token, ONE)
    await litellm.admit(made.token, ONE, ticket=first.ticket)
    assert await limit_of(litellm, made.token, ticket=first.ticket) == "parallel"


async def test_no_other_ticket_is_good(processes, made, keys):
    gateway, litellm, stranger = processes
    first = await gateway.admit(made.token, ONE)
    lease, _, proof = first.ticket.rpartition(".")
    worse = "0" if proof[-1] != "0" else "1"
    own = await stranger.admit((await keys.create_key(by="test")).token, ONE)
    for forged in (
        "", ".", "x", lease, f"{lease}.", f"{lease}.{'0' * 64}", first.ticket[:-1] + worse, f".{proof}",
        first.ticket + " ", "ä" * 80, "\udc80.x", own.ticket, stranger.ticket(first._settle),
    ):  # fmt: skip
        assert await limit_of(litellm, made.token, ticket=forged) == "parallel", forged


async def test_a_ticket_is_good_for_its_own_key_alone(processes, keys):
    gateway, litellm, _ = processes
    await keys.create_team(LIMITS, team_id="t", by="test")
    one, other = [await keys.create_key(team="t", by="test") for _ in range(2)]
    first = await gateway.admit(one.token, ONE)
    assert await limit_of(litellm, other.token, ticket=first.ticket) == "parallel"


async def test_without_a_master_key_or_a_store_there_is_none(store, clock, keys):
    made = await keys.create_key(by="test")
    async with VirtualKeys(store, AdmissionSettings(clock=clock)) as access:
        assert (await access.admit(made.token, ONE)).ticket is None
        await access.admit(made.token, ONE, ticket="x.y")
    assert (await StaticKeys({"sk-x": Principal("x")}).admit("sk-x", ONE)).ticket is None
