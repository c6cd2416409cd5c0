"""Virtual keys on the running gateway: several processes, one store, and every nano-USD accounted for."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from neev_provider.admission.keys import Keys
from neev_provider.admission.spend import read_spend
from neev_provider.store import Store
from tests.gateway.conftest import own_config
from tests.proxy.serving import serving

CHAT = "/v1/chat/completions"
NANOS = 10**9


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    words = ("--no-litellm", "--engine", "echo", "--workers", "2", "--store", "embedded")
    with serving(folder, *words, config=own_config(folder)) as running:
        yield running


@pytest.fixture
async def keys(served):
    async with Store.from_url((served.state / "run" / "store").read_text().strip()) as store:
        yield Keys(store)


def chat(*, echo: str = "tokens=10,prompt-tokens=5", fault: str = "", **fields) -> dict:
    lines = [f"x-neev-fault: {fault}"] * bool(fault) + [f"x-neev-echo: {echo}"]
    message = {"role": "user", "content": "\n".join([*lines, "x"])}
    return {"model": "house", "messages": [message], "max_tokens": 10, **fields}


async def call(served, token: str, body: dict, session=None) -> tuple[int, dict, dict]:
    """Ask on a connection of its own, so that any of the processes may answer."""
    async with (
        aiohttp.ClientSession(served.root_url) as own,
        own.post(CHAT, json=body, headers={"Authorization": f"Bearer {token}"}) as response,
    ):
        text = await response.text()
        headers = {name.lower(): value for name, value in response.headers.items()}
        return response.status, headers, json.loads(text) if text.startswith("{") else {}


async def settled(keys: Keys, key_id: str, spend_nanos: int):
    """Wait until all settles of a key are written."""
    async with asyncio.timeout(10):
        while True:
            info = await keys.key(key_id)
            if info.spend_nanos >= spend_nanos and info.held_nanos == 0 and info.in_flight == 0:
                return info
            await asyncio.sleep(0.02)


def is_valkey(pid: int) -> bool:
    return b"valkey-server" in Path(f"/proc/{pid}/cmdline").read_bytes()


COST = 5 * 100 + 10 * 500  # nano-USD of `chat()`: gpt-oss-120b's price


class TestBudgets:
    async def test_400_calls_against_a_budget_for_some_never_spend_more(self, served, keys):
        budget = 137 * COST
        made = await keys.create_key({"max_budget": budget / NANOS}, by="test")
        answers = await asyncio.gather(*(call(served, made.token, chat()) for _ in range(400)))
        admitted = [(headers, body["usage"]) for status, headers, body in answers if status == 200]
        refused = [body["error"] for status, _, body in answers if status == 429]
        assert len(admitted) + len(refused) == 400
        assert {error["code"] for error in refused} == {"budget_exceeded"}
        spent = round(sum(float(headers["x-neev-cost-usd"]) for headers, _ in admitted) * NANOS)
        # Not each costs the same: near the budget's end max_tokens is lowered.
        assert spent == sum(
            usage["prompt_tokens"] * 100 + usage["completion_tokens"] * 500 for _, usage in admitted
        )
        info = await settled(keys, made.key.id, spent)
        assert info.spend_nanos == spent <= budget
        await self._is_in_the_rollup(keys, made.key.id, spent, len(admitted))

    async def _is_in_the_rollup(self, keys: Keys, key_id: str, nanos: int, requests: int) -> None:
        today = datetime.now(UTC)
        async with asyncio.timeout(
            10
        ):  # which owners spent something on a day is noted within a second or two
            while True:
                rows = await read_spend(keys._store, today - timedelta(days=1), today)
                of_key = [row for row in rows if row.key_id == key_id]
                if of_key:
                    break
                await asyncio.sleep(0.05)
        assert sum(row.cost_nanos for row in of_key) == nanos
        assert sum(row.requests for row in of_key) == requests

    async def test_near_its_end_max_tokens_is_lowered_and_the_client_told(self, served, keys):
        made = await keys.create_key({"max_budget": 30_000 / NANOS}, by="test")
        body = chat(echo="prompt-tokens=5") | {"max_tokens": 5000}
        status, headers, answer = await call(served, made.token, body)
        assert status == 200
        assert 0 < int(headers["x-neev-max-tokens-clamped"]) < 60
        assert answer["usage"]["completion_tokens"] <= int(headers["x-neev-max-tokens-clamped"])

    async def test_an_unpriced_model_is_refused_for_a_key_with_a_budget(self, served, keys):
        made = await keys.create_key({"max_budget": 1}, by="test")
        status, _, body = await call(served, made.token, chat() | {"model": "kimi-k3"})
        assert (status, body["error"]["code"]) == (403, "model_unpriced")

    async def test_a_stream_is_charged_to_the_nano_usd(self, served, keys):
        made = await keys.create_key({"max_budget": 1}, by="test")
        status, _, _ = await call(served, made.token, chat(stream=True))
        assert status == 200
        assert (await settled(keys, made.key.id, 1)).spend_nanos == COST

    @pytest.mark.parametrize("fault", ["status=400", "status=401", "html", "reset"])
    async def test_what_upstream_refused_is_not_charged(self, served, keys, fault):
        made = await keys.create_key({"max_budget": 1}, by="test")
        status, _, _ = await call(served, made.token, chat(fault=fault))
        assert status >= 400
        info = await settled(keys, made.key.id, 0)
        assert info.spend_nanos == 0

    async def test_a_client_that_leaves_a_stream_pays_for_what_it_got(self, served, keys):
        made = await keys.create_key({"max_budget": 1}, by="test")
        body = chat(echo="tokens=200,rate=50", stream=True, max_tokens=200)
        async with (
            aiohttp.ClientSession(served.root_url) as session,
            session.post(CHAT, json=body, headers={"Authorization": f"Bearer {made.token}"}) as response,
        ):
            await response.content.readany()
            response.close()
        info = await settled(keys, made.key.id, 1)
        assert 0 < info.spend_nanos < 200 * 500


class TestLimits:
    async def test_the_line_of_a_refused_request_names_its_key_and_of_a_strangers_none(self, served, keys):
        made = await keys.create_key({"rpm_limit": 1, "models": ["house"]}, by="test")
        blocked = await keys.create_key({"blocked": True}, by="test")
        stranger = made.token[:-4] + "AAAA"
        answered = [
            await call(served, made.token, chat()),
            await call(served, made.token, chat()),
            await call(served, made.token, chat() | {"model": "gpt-oss-20b"}),
            await call(served, blocked.token, chat()),
            await call(served, stranger, chat()),
        ]
        assert [status for status, _, _ in answered] == [200, 429, 403, 401, 401]
        found = [made.key.id] * 3 + [blocked.key.id, None]
        ids = [headers["x-request-id"] for _, headers, _ in answered]
        async with asyncio.timeout(5):
            while not all(each in served.log() for each in ids):
                await asyncio.sleep(0.05)
        lines = {}
        for line in served.log().splitlines():
            if line.startswith("{") and (entry := json.loads(line)).get("request_id") in ids:
                lines[entry["request_id"]] = entry
        assert [lines[each].get("key_id") for each in ids] == found

    async def test_requests_a_minute_hold_over_all_processes(self, served, keys):
        made = await keys.create_key({"rpm_limit": 20}, by="test")
        answers = await asyncio.gather(*(call(served, made.token, chat()) for _ in range(100)))
        assert [status for status, _, _ in answers].count(200) == 20
        (refusal,) = {answer["error"]["code"] for status, _, answer in answers if status != 200}
        assert refusal == "rate_limit_exceeded"
        headers = next(headers for status, headers, _ in answers if status == 200)
        assert headers["x-ratelimit-limit-requests"] == "20"
        assert all(int(headers["retry-after"]) > 0 for status, headers, _ in answers if status == 429)

    async def test_parallel_calls_hold_over_all_processes(self, served, keys):
        made = await keys.create_key({"max_parallel_requests": 3}, by="test")
        slow = chat(echo="tokens=10,first=1")
        answers = await asyncio.gather(*(call(served, made.token, slow) for _ in range(30)))
        assert [status for status, _, _ in answers].count(200) == 3

    async def test_a_teams_limit_holds_over_its_keys(self, served, keys):
        team = await keys.create_team({"rpm_limit": 10}, by="test")
        tokens = [(await keys.create_key({}, team=team.id, by="test")).token for _ in range(4)]
        answers = await asyncio.gather(*(call(served, tokens[n % 4], chat()) for n in range(60)))
        assert [status for status, _, _ in answers].count(200) == 10

    async def test_models_that_are_not_allowed_are_a_403_and_not_listed(self, served, keys):
        made = await keys.create_key({"models": ["house"]}, by="test")
        assert (await call(served, made.token, chat()))[0] == 200
        status, _, body = await call(served, made.token, chat() | {"model": "gpt-oss-20b"})
        assert (status, body["error"]["code"]) == (403, "model_not_allowed")
        async with (
            aiohttp.ClientSession(
                served.root_url, headers={"Authorization": f"Bearer {made.token}"}
            ) as session,
            session.get("/v1/models") as response,
        ):
            assert [model["id"] for model in (await response.json())["data"]] == ["house"]


@pytest.fixture(scope="module")
def with_litellm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("litellm")
    with serving(folder, "--engine", "echo", config=own_config(folder)) as running:
        yield running


class TestWhatLiteLLMServes:
    """Limits and budgets hold there too, by routes and by fields that lead there."""

    async def test_a_limited_key_is_served_charged_and_refused_when_its_budget_is_used_up(self, with_litellm):
        url = (with_litellm.state / "run" / "store").read_text().strip()
        async with Store.from_url(url) as store:
            made = await Keys(store).create_key({"max_budget": 20_000 / NANOS}, by="test")
            message = {"role": "user", "content": "x-neev-echo: tokens=10,prompt-tokens=5\nx"}
            messages = {"model": "gpt-oss-120b", "max_tokens": 10, "messages": [message]}
            spent, status = 0, 200
            async with aiohttp.ClientSession(
                with_litellm.root_url, headers={"Authorization": f"Bearer {made.token}"}
            ) as session:
                while status == 200:
                    async with session.post("/v1/messages", json=messages) as response:
                        status, body = response.status, await response.json()
                    if status == 200:
                        spent += body["usage"]["input_tokens"] * 100 + body["usage"]["output_tokens"] * 500
                    assert spent <= 20_000
                    assert (await settled(Keys(store), made.key.id, spent)).spend_nanos == spent
            assert (status, body["error"]["code"]) == (429, "budget_exceeded")
            assert spent > 10_000

    async def test_without_our_authentication_there_a_limited_key_is_not_let_through(self, tmp_path):
        file = own_config(tmp_path)
        text = file.read_text()
        assert "  custom_auth: neev_provider.custom_auth\n" in text
        file.write_text(text.replace("  custom_auth: neev_provider.custom_auth\n", "", 1))
        messages = {"model": "house", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
        foreign = chat() | {"model": "elsewhere"}
        with serving(tmp_path, "--engine", "echo", config=file) as running:
            async with Store.from_url((running.state / "run" / "store").read_text().strip()) as store:
                made = await Keys(store).create_key({"max_budget": 1}, by="test")
            ways = (("/v1/messages", messages), (CHAT, chat(mock_response="free")), (CHAT, foreign))
            for path, body in ways:
                async with (
                    aiohttp.ClientSession(running.root_url) as session,
                    session.post(
                        path, json=body, headers={"Authorization": f"Bearer {made.token}"}
                    ) as response,
                ):
                    error = (await response.json())["error"]
                    assert (response.status, error["code"]) == (403, "model_not_allowed")


class TestKeys:
    async def test_a_revoked_key_is_refused_by_every_process_at_once(self, served, keys):
        made = await keys.create_key({}, by="test")
        assert (await call(served, made.token, chat()))[0] == 200
        await keys.revoke_key(made.key.id, by="test")
        answers = await asyncio.gather(*(call(served, made.token, chat()) for _ in range(20)))
        assert {(status, body["error"]["code"]) for status, _, body in answers} == {(401, "invalid_api_key")}

    async def test_a_blocked_and_an_expired_key_say_so(self, served, keys):
        blocked = await keys.create_key({"blocked": True}, by="test")
        expired = await keys.create_key({"expires": datetime.now(UTC) + timedelta(seconds=0.5)}, by="test")
        await asyncio.sleep(0.6)
        assert (await call(served, blocked.token, chat()))[2]["error"]["code"] == "key_blocked"
        assert (await call(served, expired.token, chat()))[2]["error"]["code"] == "expired_api_key"

    async def test_a_stranger_learns_nothing_of_what_else_is_wrong(self, served):
        for token in (
            "sk-neev-none.x",
            "sk-neev-abc.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "nonsense",
        ):
            status, _, body = await call(served, token, {"model": "none"})
            assert (status, body["error"]["code"]) == (401, "invalid_api_key")


async def test_keys_and_spend_survive_a_restart_of_everything(tmp_path):
    words = ("--no-litellm", "--engine", "echo")
    with serving(tmp_path, *words, config=own_config(tmp_path)) as running:
        async with Store.from_url((running.state / "run" / "store").read_text().strip()) as store:
            made = await Keys(store).create_key({"max_budget": 1}, by="test")
            assert (await call(running, made.token, chat()))[0] == 200
            await settled(Keys(store), made.key.id, COST)
    with serving(tmp_path, *words, config=own_config(tmp_path)) as running:
        assert (await call(running, made.token, chat()))[0] == 200
        async with Store.from_url((running.state / "run" / "store").read_text().strip()) as store:
            assert (await settled(Keys(store), made.key.id, 2 * COST)).spend_nanos == 2 * COST


async def test_a_store_that_is_frozen_is_a_503_within_its_bound_and_back_at_once(tmp_path):
    with serving(tmp_path, "--no-litellm", "--engine", "echo", config=own_config(tmp_path)) as running:
        async with Store.from_url((running.state / "run" / "store").read_text().strip()) as store:
            made = await Keys(store).create_key({}, by="test")
        (valkey,) = [p for p in running.descendants() if is_valkey(p)]
        assert (await call(running, made.token, chat()))[0] == 200
        os.kill(valkey, signal.SIGSTOP)
        try:
            began = time.monotonic()
            answers = await asyncio.gather(*(call(running, made.token, chat()) for _ in range(20)))
            assert time.monotonic() - began < 10
            assert {(status, body["error"]["code"]) for status, _, body in answers} == {
                (503, "store_unavailable")
            }
            assert all("retry-after" in headers for _, headers, _ in answers)
        finally:
            os.kill(valkey, signal.SIGCONT)
        async with asyncio.timeout(10):
            while (await call(running, made.token, chat()))[0] != 200:
                await asyncio.sleep(0.05)
