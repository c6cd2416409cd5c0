"""Keys, limits and budgets in a LiteLLM process: admitted once, settled once, to the nano-USD."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest

from neev_provider.admission.keys import Keys
from neev_provider.store import Store
from tests.litellm_admission.conftest import MASTER, OWN_KEY, started

CHAT = "/v1/chat/completions"
NANOS = 10**9
COST = 5 * 100 + 10 * 500  # nano-USD of `chat()`: gpt-oss-120b's price


def prompt(*, echo: str = "tokens=10,prompt-tokens=5", fault: str = "") -> str:
    return "\n".join([*[f"x-neev-fault: {fault}"] * bool(fault), f"x-neev-echo: {echo}", "x"])


def chat(*, echo: str = "tokens=10,prompt-tokens=5", fault: str = "", **fields) -> dict:
    content = prompt(echo=echo, fault=fault)
    return {
        "model": "gpt-oss-120b",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 10,
        **fields,
    }


async def call(http, token: str | None, body: dict, path: str = CHAT) -> tuple[int, dict, dict]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with http.post(path, json=body, headers=headers) as response:
        text = (await response.read()).decode("latin-1")
        names = {name.lower(): value for name, value in response.headers.items()}
        return response.status, names, json.loads(text) if text.startswith("{") else {"text": text}


async def settled(keys, key_id: str, spend_nanos: int = 0):
    """Wait until a key has spent this much and nothing is in flight."""
    info = None
    try:
        async with asyncio.timeout(15):
            while True:
                info = await keys.key(key_id)
                if info.spend_nanos >= spend_nanos and info.held_nanos == 0 and info.in_flight == 0:
                    return info
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not settled at {spend_nanos}: {info}") from None


class TestSpend:
    async def test_a_whole_answer_is_charged_to_the_nano_usd(self, http, keys):
        made = await keys.create_key({"max_budget": 1}, by="test")
        status, _, answer = await call(http, made.token, chat())
        assert status == 200, answer
        assert (await settled(keys, made.key.id, COST)).spend_nanos == COST

    async def test_a_stream_is_charged_to_the_nano_usd(self, http, keys):
        made = await keys.create_key({"max_budget": 1}, by="test")
        status, _, answer = await call(http, made.token, chat(stream=True))
        assert status == 200, answer
        assert (await settled(keys, made.key.id, COST)).spend_nanos == COST

    async def test_messages_and_responses_are_charged_like_chat(self, http, keys):
        made = await keys.create_key({"max_budget": 1}, by="test")
        messages = chat() | {"model": "gpt-oss-120b"}
        spent = 0
        for stream in (False, True):
            status, _, answer = await call(http, made.token, messages | {"stream": stream}, "/v1/messages")
            assert status == 200, answer
            spent += COST
            assert (await settled(keys, made.key.id, spent)).spend_nanos == spent
            body = {"model": "gpt-oss-120b", "input": prompt(), "max_output_tokens": 10, "stream": stream}
            status, _, answer = await call(http, made.token, body, "/v1/responses")
            assert status == 200, answer
            spent += COST
            assert (await settled(keys, made.key.id, spent)).spend_nanos == spent

    async def test_speech_is_charged_by_its_characters(self, http, keys):
        made = await keys.create_key({"max_budget": 1}, by="test")
        body = {"model": "voice", "input": "hello", "voice": "alloy"}
        status, _, answer = await call(http, made.token, body, "/v1/audio/speech")
        assert status == 200, answer
        assert (await settled(keys, made.key.id, 5 * 15_000)).spend_nanos == 5 * 15_000

    async def test_a_fallback_is_charged_once_at_the_price_of_who_answered(self, http, keys):
        made = await keys.create_key({"max_budget": 1, "rpm_limit": 1}, by="test")
        status, _, answer = await call(
            http, made.token, chat(model="shaky", fault="status=503,times=1,id=fallback")
        )
        assert status == 200, answer
        assert (await settled(keys, made.key.id, COST)).spend_nanos == COST

    async def test_a_call_that_fails_costs_nothing(self, http, keys):
        made = await keys.create_key({"max_budget": 1}, by="test")
        status, _, _ = await call(http, made.token, chat(fault="status=400"))
        assert status >= 400
        assert (await settled(keys, made.key.id)).spend_nanos == 0

    async def test_several_models_are_refused_before_anything_is_counted(self, http, keys, litellm):
        made = await keys.create_key({"rpm_limit": 1}, by="test")
        for more in ({}, {"fastest_response": True}):
            body = chat(model="gpt-oss-120b,gpt-oss-20b", **more)
            status, _, answer = await call(http, made.token, body)
            assert (status, answer["error"]["param"]) == (400, "model"), answer
        assert not litellm.emulator.requests()
        assert (await call(http, made.token, chat()))[0] == 200

    async def test_several_prompts_are_refused_before_anything_is_counted(self, http, keys):
        made = await keys.create_key({"max_budget": 1, "rpm_limit": 1}, by="test")
        body = {"model": "gpt-oss-120b", "prompt": ["x", "y"], "max_tokens": 10}
        for _ in range(2):
            status, _, answer = await call(http, made.token, body, "/v1/completions")
            assert (status, answer["error"]["param"]) == (400, "prompt"), answer
        assert (await settled(keys, made.key.id)).spend_nanos == 0
        status, _, answer = await call(http, made.token, body | {"prompt": [prompt()]}, "/v1/completions")
        assert status == 200, answer
        assert (await settled(keys, made.key.id, COST)).spend_nanos == COST

    async def test_an_aborted_stream_is_charged_at_least_its_prompt_and_lets_go_of_its_place(
        self, http, keys
    ):
        made = await keys.create_key({"max_budget": 1, "max_parallel_requests": 1}, by="test")
        body = chat(echo="tokens=400,prompt-tokens=5", fault="stall-after=20", stream=True, max_tokens=400)
        headers = {"Authorization": f"Bearer {made.token}"}
        async with http.post(CHAT, json=body, headers=headers) as response:
            assert response.status == 200
            await response.content.readline()
        spent = (await settled(keys, made.key.id, 1)).spend_nanos
        assert 0 < spent <= 100 * 100 + 400 * 500

    async def test_a_call_abandoned_before_its_answer_is_settled_and_lets_go_of_its_place(self, http, keys):
        made = await keys.create_key({"max_budget": 1, "max_parallel_requests": 1}, by="test")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await call(http, made.token, chat(fault="slow-first-byte=2"))
        spent = (await settled(keys, made.key.id, 1)).spend_nanos
        assert 0 < spent <= 100 * 100 + 10 * 500

    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_call_abandoned_between_its_retries_is_not_tried_again(self, http, keys, litellm, stream):
        made = await keys.create_key({"max_parallel_requests": 1}, by="test")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await call(http, made.token, chat(fault="status=503", num_retries=9, stream=stream))
        await settled(keys, made.key.id)
        tried = len(litellm.emulator.requests())
        assert tried
        await asyncio.sleep(3)
        assert len(litellm.emulator.requests()) == tried

    @pytest.mark.parametrize("way", ["body", "header"])
    async def test_a_client_cannot_ask_for_many_retries(self, http, keys, way):
        made = await keys.create_key({}, by="test")
        headers = {"Authorization": f"Bearer {made.token}"}
        if way == "header":
            headers["x-litellm-num-retries"] = "30"
        body = chat(fault="status=503,times=1", **({"num_retries": 30} if way == "body" else {}))
        async with http.post(CHAT, json=body, headers=headers) as response:
            answer = await response.json()
            assert (response.status, answer["error"]["param"]) == (400, "num_retries"), answer

    async def test_what_is_charged_is_what_the_emulator_counted(self, http, keys, litellm):
        made = await keys.create_key({"max_budget": 1}, by="test")
        litellm.emulator.clear()
        answers = await asyncio.gather(
            *(
                call(
                    http,
                    made.token,
                    chat(echo=f"tokens={n},prompt-tokens={n + 1}", max_tokens=n, stream=n % 2 == 0),
                )
                for n in range(1, 31)
            )
        )
        assert {status for status, _, _ in answers} == {200}
        expected = sum((n + 1) * 100 + n * 500 for n in range(1, 31))
        assert (await settled(keys, made.key.id, expected)).spend_nanos == expected


class TestLimits:
    async def test_a_used_up_budget_is_a_429_and_max_tokens_is_lowered_before(self, http, keys):
        made = await keys.create_key({"max_budget": 30_000 / NANOS}, by="test")
        status, headers, answer = await call(http, made.token, chat(echo="prompt-tokens=5", max_tokens=5000))
        assert status == 200, answer
        most = int(headers["x-neev-max-tokens-clamped"])
        assert answer["usage"]["completion_tokens"] <= most < 60
        await settled(keys, made.key.id, 1)
        small = await keys.create_key({"max_budget": 1 / NANOS}, by="test")
        status, _, answer = await call(http, small.token, chat())
        assert (status, answer["error"]["type"]) == (429, "insufficient_quota")
        assert "budget_exceeded" in answer["error"]["message"]

    @pytest.mark.parametrize(
        "asked",
        [
            {"model": "dear-after"},
            {"model": "shaky", "fallbacks": ["minimax-m3"]},
            {"model": "shaky", "fallbacks": [{"model": "minimax-m3", "max_tokens": 5000}]},
            {"model": "shaky", "fallbacks": [{"shaky": [{"model": "minimax-m3", "max_tokens": 5000}]}]},
            {"model": "shaky", "fallbacks": ["gpt-oss-20b", "minimax-m3"]},
        ],
    )
    async def test_a_budget_covers_the_dearest_fallback(self, http, keys, asked):
        budget = 300_000
        made = await keys.create_key({"max_budget": budget / NANOS}, by="test")
        # The first fallback of two is tried three times.
        times = 4 if len(asked.get("fallbacks", ())) == 2 else 1
        fault = f"status=503,times={times},id={id(asked)}"
        body = chat(echo="prompt-tokens=5,tokens=3000", fault=fault, max_tokens=900, **asked)
        status, headers, answer = await call(http, made.token, body)
        assert (status, answer["model"]) == (200, "minimax-m3"), answer
        assert int(headers["x-neev-max-tokens-clamped"]) < 150
        assert 0 < (await settled(keys, made.key.id, 1)).spend_nanos <= budget

    @pytest.mark.parametrize(
        "asked",
        [{"model": "unpriced-after"}, {"fallbacks": ["kimi-k3"]}, {"fallbacks": [{"model": "kimi-k3"}]}],
    )
    async def test_a_fallback_without_a_price_is_closed_to_a_budget(self, http, keys, asked):
        limited = await keys.create_key({"max_budget": 1}, by="test")
        status, _, answer = await call(http, limited.token, chat(**asked))
        assert status == 403, answer
        assert "model_unpriced" in answer["error"]["message"]
        free = await keys.create_key({}, by="test")
        assert (await call(http, free.token, chat(**asked)))[0] == 200

    async def test_requests_a_minute_are_limited_and_the_client_is_told(self, http, keys):
        made = await keys.create_key({"rpm_limit": 1}, by="test")
        status, headers, _ = await call(http, made.token, chat())
        assert status == 200
        assert headers["x-ratelimit-limit-requests"] == "1"
        assert headers["x-ratelimit-remaining-requests"] == "0"
        status, headers, answer = await call(http, made.token, chat())
        assert status == 429
        assert "rate_limit_exceeded" in answer["error"]["message"]
        assert 0 < int(headers["retry-after"]) <= 61

    async def test_no_more_are_in_flight_than_allowed(self, http, keys, litellm):
        made = await keys.create_key({"max_parallel_requests": 3}, by="test")
        body = chat(fault="slow-first-byte=1.5")
        answers = await asyncio.gather(*(call(http, made.token, body) for _ in range(8)))
        assert sorted(status for status, _, _ in answers) == [200] * 3 + [429] * 5
        await settled(keys, made.key.id)

    async def test_only_the_keys_models_may_be_called(self, http, keys):
        made = await keys.create_key({"models": ["minimax-m3"]}, by="test")
        for path in (CHAT, "/engines/gpt-oss-120b/chat/completions"):
            body = chat() | ({} if path == CHAT else {"model": "minimax-m3"})
            status, _, answer = await call(http, made.token, body, path)
            assert status in {401, 403}, answer
        assert (await call(http, made.token, chat(model="minimax-m3")))[0] == 200
        async with http.get("/v1/models", headers={"Authorization": f"Bearer {made.token}"}) as response:
            assert [model["id"] for model in (await response.json())["data"]] == ["minimax-m3"]

    async def test_nor_are_others_fallen_back_to(self, http, keys, litellm):
        for models, expected in ((["shaky"], 502), (["shaky", "gpt-oss-120b"], 200)):
            made = await keys.create_key({"models": models}, by="test")
            fault = f"status=503,times=1,id=access-{expected}"
            status, _, answer = await call(http, made.token, chat(model="shaky", fault=fault))
            assert status == expected, answer

    async def test_a_teams_limit_holds_over_its_keys(self, http, keys):
        team = await keys.create_team({"rpm_limit": 1}, by="test")
        tokens = [(await keys.create_key({}, team=team.id, by="test")).token for _ in range(2)]
        assert [(await call(http, token, chat()))[0] for token in tokens] == [200, 429]

    async def test_an_unpriced_model_is_refused_for_a_key_with_a_budget_only(self, http, keys):
        limited = await keys.create_key({"max_budget": 1}, by="test")
        status, _, answer = await call(http, limited.token, chat(model="kimi-k3"))
        assert status == 403
        assert "model_unpriced" in answer["error"]["message"]
        free = await keys.create_key({}, by="test")
        assert (await call(http, free.token, chat(model="kimi-k3")))[0] == 200

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/v1/messages", chat(model="nope")),
            ("/v1/responses", {"model": "nope", "input": "x"}),
        ],
    )
    async def test_a_model_that_is_not_there_is_that_for_a_key_with_a_budget_too(
        self, http, keys, path, body
    ):
        made = await keys.create_key({"max_budget": 1}, by="test")
        status, _, answer = await call(http, made.token, body, path)
        assert status == 404, answer
        assert "model_not_found" in str(answer)

    async def test_a_response_that_would_go_on_from_another_is_refused(self, http, keys):
        made = await keys.create_key({}, by="test")
        body = {"model": "gpt-oss-120b", "input": "one two three"}
        status, _, first = await call(http, made.token, body, "/v1/responses")
        assert status == 200, first
        following = {**body, "previous_response_id": first["id"]}
        status, _, answer = await call(http, made.token, following, "/v1/responses")
        assert status == 400, answer
        assert "previous_response_id cannot be honoured" in answer["error"]["message"]
        status, _, answer = await call(
            http, made.token, {**body, "previous_response_id": None}, "/v1/responses"
        )
        assert status == 200, answer

    async def test_an_entry_without_prices_is_charged_by_the_catalog(self, http, keys):
        costs = []
        for model in ("gpt-oss-20b", "bare"):
            made = await keys.create_key({"max_budget": 1}, by="test")
            status, _, answer = await call(http, made.token, chat(model=model))
            assert status == 200, answer
            costs.append((await settled(keys, made.key.id)).spend_nanos)
        assert costs[0] == costs[1] > 0

    async def test_embeddings_of_a_chat_model_are_refused_and_cost_nothing(self, http, keys):
        made = await keys.create_key({"max_budget": 1}, by="test")
        status, _, answer = await call(
            http, made.token, {"model": "gpt-oss-120b", "input": "x"}, "/v1/embeddings"
        )
        assert status == 400, answer
        assert (await settled(keys, made.key.id)).spend_nanos == 0


class TestKeys:
    async def test_a_stranger_is_a_401(self, http, keys):
        for token in (None, "nonsense", "sk-neev-none.x", "sk-" + "x" * 40):
            status, _, answer = await call(http, token, chat())
            assert status == 401, answer
            assert "invalid_api_key" in answer["error"]["message"]

    async def test_a_revoked_key_is_refused_on_the_next_request(self, http, keys):
        made = await keys.create_key({}, by="test")
        assert (await call(http, made.token, chat()))[0] == 200
        await keys.revoke_key(made.key.id, by="test")
        assert (await call(http, made.token, chat()))[0] == 401

    async def test_a_blocked_and_an_expired_key_say_so(self, http, keys):
        blocked = await keys.create_key({"blocked": True}, by="test")
        expired = await keys.create_key({"expires": datetime.now(UTC) + timedelta(seconds=0.5)}, by="test")
        await asyncio.sleep(0.6)
        assert "key_blocked" in (await call(http, blocked.token, chat()))[2]["error"]["message"]
        assert "expired_api_key" in (await call(http, expired.token, chat()))[2]["error"]["message"]

    @pytest.mark.parametrize("token", [MASTER, OWN_KEY])
    async def test_the_master_key_and_the_configurations_keys_call_models(self, http, keys, token):
        status, _, answer = await call(http, token, chat())
        assert status == 200, answer

    @pytest.mark.parametrize("field", ["api_key", "extra_headers"])
    async def test_a_fallback_cannot_choose_account_or_headers(self, http, keys, field):
        made = await keys.create_key({}, by="test")
        target = {"model": "gpt-oss-20b", field: "sk-nc-other"}
        for chain in ([target], [{"gpt-oss-120b": [target]}]):
            status, _, answer = await call(http, made.token, chat(fallbacks=chain))
            assert (status, answer["error"]["param"]) == (400, field), answer

    async def test_only_the_master_key_administers(self, http, keys):
        made = await keys.create_key({}, by="test")
        for token, allowed in ((made.token, False), (MASTER, True)):
            async with http.get("/config/yaml", headers={"Authorization": f"Bearer {token}"}) as response:
                assert (response.status not in {401, 403}) is allowed


class TestWithoutAStore:
    async def test_the_master_key_and_the_configurations_keys_are_known_and_no_other(
        self, tmp_path, emulator
    ):
        running = started(tmp_path, emulator, None)
        litellm = await asyncio.to_thread(next, running)
        try:
            async with aiohttp.ClientSession(litellm.root_url) as http:
                assert (await call(http, MASTER, chat()))[0] == 200
                assert (await call(http, OWN_KEY, chat()))[0] == 200
                assert (await call(http, "sk-neev-none.x", chat()))[0] == 401
        finally:
            await asyncio.to_thread(running.close)


async def persist(http: aiohttp.ClientSession, token: str) -> int:
    """Call as clients do, who try again when the store did not answer in time: a LiteLLM that was just started is busy."""
    for _ in range(5):
        status, _, _ = await call(http, token, chat())
        if status != 503:
            break
        await asyncio.sleep(1.0)
    return status


class TestStopping:
    async def test_what_was_answered_just_before_is_charged(self, tmp_path, emulator, store_server):
        running = started(tmp_path, emulator, store_server.url)
        litellm = await asyncio.to_thread(next, running)
        async with Store.from_url(store_server.url) as store:
            keys = Keys(store)
            made = await keys.create_key({"max_budget": 1}, by="test")
            async with aiohttp.ClientSession(litellm.root_url) as http:
                answers = await asyncio.gather(*(persist(http, made.token) for _ in range(20)))
            await asyncio.to_thread(running.close)
            assert set(answers) == {200}, litellm.log.read_text()
            assert (await keys.key(made.key.id)).spend_nanos == 20 * COST
