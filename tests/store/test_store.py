"""The store as a whole: bounded whatever its server does, and back when its server is back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time

import pytest

from neev_provider.errors import ConfigError, ServerError
from neev_provider.store import Script, Store, check_store
from neev_provider.store.address import Endpoint, parse_address
from neev_provider.store.client import slot_of
from neev_provider.store.node import Timing
from tests.store.servers import cluster, product, server

ECHO = Script.of("return {KEYS[1], ARGV[1]}")
QUICK = Timing(call=0.25, probe=0.1)


@pytest.fixture
def valkey(tmp_path):
    running = server(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    yield running
    running.stop()


async def back(store):
    """Wait until the store answers; bounded by the test's own limit."""
    while True:
        try:
            return await store.call("x", "PING")
        except ServerError:
            await asyncio.sleep(0.05)


class TestScripts:
    async def test_are_sent_whole_once_and_by_name_after(self, valkey):
        async with Store.from_url(valkey.url) as store:
            for _ in range(3):
                assert await store.run(ECHO, ("{a}x",), ("1",)) == [b"{a}x", b"1"]
            stats = valkey.client().info("commandstats")
            assert (stats["cmdstat_eval"]["calls"], stats["cmdstat_evalsha"]["calls"]) == (1, 3)

    async def test_are_sent_again_when_the_server_has_forgotten_them(self, valkey):
        async with Store.from_url(valkey.url) as store:
            await store.run(ECHO, ("a",), ("1",))
            valkey.client().script_flush()
            assert await store.run(ECHO, ("a",), ("2",)) == [b"a", b"2"]

    async def test_that_fail_are_our_fault_and_not_the_clients(self, valkey):
        async with Store.from_url(valkey.url) as store:
            with pytest.raises(ServerError) as refused:
                await store.run(Script.of("return nil + 1"), ("a",), ())
            assert (refused.value.status, refused.value.code) == (500, "internal_error")
            assert "nil" not in refused.value.message


class TestABusyProcess:
    async def test_connects_all_the_same(self, valkey):
        """As LiteLLM's does, whose first requests hold up the event loop; the server is not to blame."""

        async def hog():
            while True:
                time.sleep(0.08)  # noqa: ASYNC251 - that is the point
                await asyncio.sleep(0)

        async with Store.from_url(valkey.url, timing=Timing(call=0.25, probe=20)) as store:
            hogging = asyncio.create_task(hog())
            replies = await asyncio.gather(*(store.call("x", "PING") for _ in range(5)))
            hogging.cancel()
        assert replies == [b"PONG"] * 5


class TestAFrozenServer:
    async def test_holds_nobody_and_leaks_no_connection(self, valkey):
        async with Store.from_url(valkey.url, timing=QUICK) as store:
            await store.call("x", "PING")
            before = len(os.listdir("/proc/self/fd"))
            valkey.freeze()
            try:
                for _ in range(3):
                    begun = time.monotonic()
                    outcomes = await asyncio.gather(
                        *(store.call("x", "PING") for _ in range(200)), return_exceptions=True
                    )
                    assert {getattr(outcome, "code", None) for outcome in outcomes} == {"store_unavailable"}
                    assert time.monotonic() - begun < 10  # and not for as long as it is frozen
                assert not store.is_open
                with pytest.raises(ServerError) as refused:
                    await store.call("x", "PING")
                assert refused.value.retry_after == QUICK.probe
                assert len(os.listdir("/proc/self/fd")) <= before + 4  # of 600 calls
            finally:
                valkey.thaw()
            assert await back(store) == b"PONG"
            assert store.is_open

    async def test_answers_no_call_with_anothers_reply(self, valkey):
        async with Store.from_url(valkey.url, timing=QUICK) as store:
            await store.call("x", "SET", "x", "old")
            valkey.freeze()
            late = [asyncio.create_task(store.call("x", "GET", "x")) for _ in range(3)]
            await asyncio.wait(late)
            valkey.thaw()
            assert all(isinstance(task.exception(), ServerError) for task in late)
            await back(store)
            assert await store.call("y", "ECHO", "mine") == b"mine"


async def test_a_restarted_server_is_found_again(valkey):
    async with Store.from_url(valkey.url, timing=QUICK) as store:
        await store.call("x", "SET", "x", "kept")
        await store.run(ECHO, ("a",), ("1",))
        valkey.stop()
        with pytest.raises(ServerError):
            await store.call("x", "GET", "x")
        valkey.start()
        await back(store)
        assert await store.call("x", "GET", "x") == b"kept"
        assert await store.run(ECHO, ("a",), ("1",)) == [b"a", b"1"]


async def test_nobody_listening_fails_at_once(tmp_path):
    async with Store.from_url(f"unix://{tmp_path}/nothing.sock", timing=QUICK) as store:
        with pytest.raises(ServerError):
            await store.call("x", "PING")


@pytest.mark.xdist_group("cluster")
async def test_a_cluster_is_asked_where_a_name_lies_and_a_moved_slot_is_followed(tmp_path):
    nodes = cluster(tmp_path)
    try:
        async with Store.from_url(
            f"redis+cluster://127.0.0.1:{nodes[0].port}", timing=Timing(call=5)
        ) as store:
            for number in range(30):
                await store.run(ECHO, (f"{{{number}}}",), ("1",))
            for name in (
                "plain",
                "a{b}c",
                "a{b",
                "{}x",
                "{",
                "}{x}",
                "{a}{b}",
                "{a{b}}",
                "",
                "{é}",
                "x" * 300,
            ):
                assert slot_of(name) == nodes[0].client().execute_command("CLUSTER KEYSLOT", name), name
            assert len(await check_store(store)) == 3
            # Slot 0 is the first node's; give it to the second.
            ids = [node.client().execute_command("CLUSTER MYID").decode() for node in nodes]
            for node in nodes:
                node.client().execute_command("CLUSTER SETSLOT", 0, "NODE", ids[1])
            name = "{3560}"  # lies in slot 0
            assert nodes[0].client().execute_command("CLUSTER KEYSLOT", name) == 0
            await store.call(name, "SET", name, "1")
            assert nodes[1].client().get(name) == b"1"
            # And while it is on its way to the third, many ask for what has gone before.
            nodes[2].client().execute_command("CLUSTER SETSLOT", 0, "IMPORTING", ids[1])
            nodes[1].client().execute_command("CLUSTER SETSLOT", 0, "MIGRATING", ids[2])
            await store.run(ECHO, (name + "x",), ("the third knows the script now",))
            nodes[2].client().config_resetstat()
            replies = await asyncio.gather(*(store.run(ECHO, (name + "x",), (str(n),)) for n in range(50)))
            assert [int(value) for _, value in replies] == list(range(50))
            assert nodes[2].client().info("commandstats")["cmdstat_asking"]["calls"] == 50
    finally:
        for node in nodes:
            node.stop()


@pytest.mark.xdist_group("cluster")
async def test_a_cluster_that_does_not_tell_its_host_is_asked_where_it_was_found(tmp_path):
    nodes = cluster(tmp_path)
    try:
        for node in nodes:
            node.client().config_set("cluster-preferred-endpoint-type", "unknown-endpoint")
        async with Store.from_url(
            f"redis+cluster://127.0.0.1:{nodes[0].port}", timing=Timing(call=5)
        ) as store:
            for number in range(30):
                await store.run(ECHO, (f"{{{number}}}",), ("1",))
            store._slots = [Endpoint("127.0.0.1", nodes[0].port)] * 16_384  # so that it points to the others
            for number in range(30):
                await store.run(ECHO, (f"{{{number}}}",), ("1",))
    finally:
        for node in nodes:
            node.stop()


def primaries(node):
    """Return the ports of those who hold slots, as one node knows."""
    return {primary[1] for _, _, primary, *_ in node.client().execute_command("CLUSTER SLOTS")}


@pytest.mark.xdist_group("cluster")
async def test_many_calls_at_once_ask_a_cluster_for_its_slots_once(tmp_path):
    nodes = cluster(tmp_path)
    try:
        before = _asked_for_slots(nodes)
        async with Store.from_url(
            f"redis+cluster://127.0.0.1:{nodes[0].port}", timing=Timing(call=5)
        ) as store:
            names = [f"neev:{{{number}}}" for number in range(400)]
            await asyncio.gather(*(store.call(name, "SET", name, name) for name in names))
            assert await asyncio.gather(*(store.call(name, "GET", name) for name in names)) == [
                name.encode() for name in names
            ]
            assert len(await store.each_node("PING")) == 3
        assert _asked_for_slots(nodes) == before + 1
    finally:
        for node in nodes:
            node.stop()


def _asked_for_slots(nodes) -> int:
    stats = [node.client().info("commandstats") for node in nodes]
    return sum(each.get("cmdstat_cluster|slots", {"calls": 0})["calls"] for each in stats)


@pytest.mark.xdist_group("cluster")
async def test_a_node_that_has_left_its_cluster_is_missed_no_longer(tmp_path):
    nodes = cluster(tmp_path)
    try:
        async with Store.from_url(
            f"redis+cluster://127.0.0.1:{nodes[0].port}", timing=Timing(call=2, probe=0.1)
        ) as store:
            for number in range(30):
                await store.run(ECHO, (f"{{{number}}}",), ("1",))
            assert len(await store.each_node("PING")) == 3
            first, left = nodes[0], nodes[2]
            ids = [node.client().execute_command("CLUSTER MYID").decode() for node in nodes]
            with first.client().pipeline(transaction=False) as pipeline:
                for slot in range(2 * (16_384 // 3 + 1), 16_384):  # the third's
                    pipeline.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[2])
                    pipeline.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[0])
                pipeline.execute()
            async with asyncio.timeout(20):
                while any(left.port in primaries(node) for node in nodes):
                    await asyncio.sleep(0.05)
            epoch = store.epoch
            left.stop()
            while store.is_connected:
                await asyncio.sleep(0.01)
            async with asyncio.timeout(20):
                answered = 0
                while answered < 30 or not store.is_connected:
                    answered = 0
                    for number in range(30):
                        with contextlib.suppress(ServerError):
                            await store.run(ECHO, (f"{{{number}}}",), ("1",))
                            answered += 1
            assert len(await store.each_node("PING")) == 2
            assert store.epoch >= epoch
    finally:
        for node in nodes:
            node.stop()


class TestItsURL:
    @pytest.mark.parametrize(
        ("url", "kind", "endpoints"),
        [
            ("redis://host", "single", [Endpoint("host", 6379)]),
            ("valkey://host:7000/2", "single", [Endpoint("host", 7000)]),
            ("redis://[::1]:7000", "single", [Endpoint("::1", 7000)]),
            ("unix:///a/b.sock", "single", [Endpoint("/a/b.sock", 0)]),
            ("redis+sentinel://a,b:1/main/3", "sentinel", [Endpoint("a", 26379), Endpoint("b", 1)]),
            ("rediss+cluster://a:1,b", "cluster", [Endpoint("a", 1), Endpoint("b", 6379)]),
        ],
    )
    def test_forms(self, url, kind, endpoints):
        address = parse_address(url)
        assert (address.kind, list(address.endpoints)) == (kind, endpoints)
        assert (address.tls is not None) == url.startswith("rediss")

    def test_one_without_a_scheme_is_refused_as_that(self):
        with pytest.raises(
            ConfigError, match=r"--store: is not the URL of a store\. Use redis://host:6379, "
        ):
            parse_address("redis//host", source="--store")

    @pytest.mark.parametrize(
        "url",
        [
            "http://:pw-word@host",
            "redis://:pw-word@host:0",
            "redis://:pw-word@host:99999",
            "redis://:pw-word@host/x",
            "redis://:pw-word@host?what=1",
            "redis://:pw-word@a,b",
            "redis://:pw-word@host?ssl_ca_certs=x",
            "rediss://:pw-word@host?ssl_ca_certs=/nowhere.pem",
            "redis+sentinel://:pw-word@host",
            "redis+cluster://:pw-word@host/1",
            "unix://:pw-word@",
            "redis://:pw-word@[::1",
            "",
        ],
    )
    def test_wrong_ones_are_refused_without_being_quoted(self, url):
        with pytest.raises(ConfigError) as refused:
            parse_address(url, source="NEEV_STORE")
        assert str(refused.value).startswith("NEEV_STORE: ")
        assert "pw-word" not in str(refused.value)


class TestItsHealth:
    async def test_is_told(self, valkey):
        async with Store.from_url(valkey.url) as store:
            (health,) = await check_store(store)
        assert (health.product, health.version) == product()
        assert (health.append_only, health.keeps_data) == (True, True)
        assert health.policy == "noeviction"
        assert abs(health.clock_skew) < 5

    async def test_a_server_that_would_evict_budgets_is_refused(self, valkey):
        valkey.client().config_set("maxmemory-policy", "allkeys-lru")
        async with Store.from_url(valkey.url) as store:
            with pytest.raises(ConfigError, match="allkeys-lru, which would evict keys and budgets"):
                await check_store(store)

    @pytest.mark.parametrize("policy", ["volatile-ttl", "volatile-lru"])
    async def test_a_server_that_would_evict_what_has_an_end_is_refused_once_it_has_a_bound(
        self, valkey, policy
    ):
        valkey.client().config_set("maxmemory-policy", policy)
        async with Store.from_url(valkey.url) as store:
            assert [health.policy for health in await check_store(store)] == [policy]
            valkey.client().config_set("maxmemory", "1gb")
            with pytest.raises(ConfigError, match=f"{policy} and a maxmemory.* charge twice"):
                await check_store(store)
