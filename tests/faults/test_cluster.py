"""Two gateway processes on a Redis Cluster of three nodes: keys, budgets and limits hold as on one server."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime

import pytest

from neev_provider.admission.spend import read_spend
from tests.faults.house import COMPLETION, NANOS, PROMPT, chat, cost, running, visit
from tests.store.servers import cluster

COST = 5 * PROMPT + 10 * COMPLETION  # of `chat(max_tokens=10)`


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    started = cluster(tmp_path_factory.mktemp("cluster"))
    yield started
    for node in started:
        node.stop()


@pytest.fixture(scope="module")
def url(nodes):
    return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes[:2])


@pytest.fixture(scope="module")
def served(tmp_path_factory, url):
    with running(tmp_path_factory.mktemp("house"), environ={"NEEV_STORE": url}) as gateway:
        yield gateway


@pytest.fixture
async def house(served, url):
    async with visit(served, url) as opened:
        await opened.forget()
        yield opened


def ask(house, account, **fields):
    return house.ask(account, chat(max_tokens=10, **fields))


async def codes(house, account, number: int = 12) -> Counter:
    """Return what so many calls, over both processes, were answered with."""
    answers = await asyncio.gather(*(ask(house, account) for _ in range(number)))
    return Counter(
        status if status == 200 else json.loads(body)["error"]["code"] for status, _, body in answers
    )


async def test_a_keys_life(house):
    """Every change holds in both processes from the next call on."""
    account, keys = await house.account(), house.keys
    assert await codes(house, account) == {200: 12}
    await keys.update_key(account.key, {"models": ["gpt-oss-20b"]}, by="test")
    assert await codes(house, account) == {"model_not_allowed": 12}
    await keys.update_key(account.key, {"models": None}, by="test")
    assert await codes(house, account) == {200: 12}
    await keys.block_key(account.key, by="test")
    assert await codes(house, account) == {"key_blocked": 12}
    await keys.unblock_key(account.key, by="test")
    await keys.block_team(account.team, by="test")
    assert set(await codes(house, account)) == {"key_blocked"}
    await keys.unblock_team(account.team, by="test")
    rotated = await keys.rotate_key(account.key, by="test")
    assert await codes(house, account) == {"invalid_api_key": 12}
    account = type(account)(rotated.token, account.key, account.team)
    assert await codes(house, account) == {200: 12}
    await keys.revoke_key(account.key, by="test")
    assert await codes(house, account) == {"invalid_api_key": 12}


async def test_budgets_over_all_nodes_are_never_exceeded_and_all_adds_up(house, nodes):
    """Many owners, spread over the nodes, each with a budget for fewer calls than are made."""
    before = [sum(1 for _ in node.client().scan_iter("neev:*:use*")) for node in nodes]
    budget = 9 * COST
    accounts = [await house.account(max_budget=f"{budget / NANOS:.9f}") for _ in range(16)]
    after = [sum(1 for _ in node.client().scan_iter("neev:*:use*")) for node in nodes]
    assert all(now > then for then, now in zip(before, after, strict=True)), "a node has no owner"
    answers = await asyncio.gather(*(ask(house, account) for _ in range(14) for account in accounts))
    assert {status for status, _, _ in answers} == {200, 429}
    spent = 0
    for account in accounts:
        books = await house.closed_books(account)
        assert 0 < books.spend <= budget
        spent += books.spend
    assert spent == cost((await house.produced())["total"])
    today = datetime.now(UTC)
    rows = await read_spend(house.store, today, today)
    ours = {account.key for account in accounts}
    assert sum(row.cost_nanos for row in rows if row.key_id in ours) == spent
    assert sum(row.requests for row in rows if row.key_id in ours) == sum(
        status == 200 for status, _, _ in answers
    )


async def test_limits_hold_over_both_processes(house):
    by_minute = await house.account(rpm_limit=15)
    assert await codes(house, by_minute, 60) == {200: 15, "rate_limit_exceeded": 45}
    by_place = await house.account(max_parallel_requests=3)
    slow = [house.ask(by_place, chat("tokens=10,first=1.5")) for _ in range(30)]
    statuses = Counter(status for status, _, _ in await asyncio.gather(*slow))
    assert statuses == {200: 3, 429: 27}
    by_tokens = await house.account(tpm_limit=2000)
    counted = await codes(house, by_tokens, 150)
    assert set(counted) == {200, "rate_limit_exceeded"}
    assert counted[200] * 15 <= 2000


async def test_streams_are_charged_and_places_given_back_when_clients_leave(house):
    account = await house.account(max_parallel_requests=20)
    body = chat("tokens=200,rate=50", stream=True)
    tasks = [asyncio.create_task(house.stream(account, body)) for _ in range(20)]
    await house.until_produced(lambda stats: stats["streams"]["open"] == 20)
    for task in tasks[:10]:
        task.cancel()
    heard = await asyncio.gather(*tasks[10:])
    assert all(stream.is_done for stream in heard)
    books = await house.closed_books(account)
    assert (books.requests, books.estimated) == (20, 10)
    assert books.spend == books.prompt_tokens * PROMPT + books.completion_tokens * COMPLETION
    assert (await ask(house, account))[0] == 200
