"""A real LiteLLM behind the gateway, an emulator behind that: what arrives is what the fast path would have said."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

# One process has the real LiteLLM: it takes seconds to start.
pytestmark = pytest.mark.xdist_group("litellm_real")

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
LEAKS = (
    "litellm",
    "Exception - ",
    "model group",
    "Traceback",
    "fallback",
    "127.0.0.1",
    "sk-",
    "site-packages",
)


def said(fault: str = "") -> str:
    return (f"x-neev-fault: {fault}\n" if fault else "") + "a b c d"


def body_for(path: str, fault: str = "", *, model: str = "house", **fields):
    if path == RESPONSES:
        return {"model": model, "input": said(fault), **fields}
    return {
        "model": model,
        "max_tokens": 50,
        "messages": [{"role": "user", "content": said(fault)}],
        **fields,
    }


async def ask(client, path, *, method="POST", **more):
    async with client.request(method, path, **more) as response:
        try:
            body = await response.read()
        except aiohttp.ClientPayloadError:
            body = b"broken off"
        return response.status, response.headers, body


async def error(client, path, **more):
    """Ask, and return status, headers and the error of the contract."""
    status, headers, body = await ask(client, path, **more)
    assert headers["content-type"] == "application/json", body
    assert headers["x-request-id"]
    answer = json.loads(body)
    assert set(answer) == {"error"}
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert not [leak for leak in LEAKS if leak in answer["error"]["message"]], body
    return status, headers, answer["error"]


FAULTS = [
    "status=400", "status=401", "status=402", "status=403", "status=404", "status=408", "status=413", "status=422", "status=429",
    "retry-after=7", "status=500", "status=502", "status=503", "status=504", "context-length", "html", "bad-json", "empty-body",
    "redirect", "reset", "status=400;shape=string", "status=400;shape=reason", "status=429;shape=flat", "status=500;shape=html",
]  # fmt: skip


class TestTheSameFault:
    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
    @pytest.mark.parametrize("fault", FAULTS)
    async def test_is_the_same_error_on_both_paths(self, real, fast, fault, stream):
        body = body_for(CHAT, fault, stream=stream)
        (status, headers, through), (own_status, own_headers, own) = await asyncio.gather(
            error(real, CHAT, json=body), error(fast, CHAT, json=body)
        )
        assert (status, through) == (own_status, own)
        assert headers.get("retry-after") == own_headers.get("retry-after")
        assert (headers["x-neev-path"], own_headers.get("x-neev-path")) == ("litellm", None)

    @pytest.mark.parametrize(
        "fault", ["status=400", "status=401", "retry-after=7", "status=503", "context-length", "html"]
    )
    async def test_has_the_same_code_for_anthropics_clients(self, real, fast, fault):
        (status, headers, through), (own_status, own_headers, own) = await asyncio.gather(
            error(real, MESSAGES, json=body_for(MESSAGES, fault)),
            error(fast, CHAT, json=body_for(CHAT, fault)),
        )
        assert (status, through["code"], through["type"]) == (own_status, own["code"], own["type"])
        assert through["message"] == own["message"]
        assert headers.get("retry-after") == own_headers.get("retry-after")

    @pytest.mark.parametrize(
        "fault", ["status=400", "status=401", "retry-after=7", "status=503", "context-length", "html"]
    )
    async def test_and_for_responses(self, real, fast, fault):
        (status, headers, through), (own_status, own_headers, own) = await asyncio.gather(
            error(real, RESPONSES, json=body_for(RESPONSES, fault)),
            error(fast, CHAT, json=body_for(CHAT, fault)),
        )
        assert (status, through) == (own_status, own)
        assert headers.get("retry-after") == own_headers.get("retry-after")

    @pytest.mark.parametrize("fault", ["error-after=2", "cut-after=2"])
    async def test_is_the_same_event_after_the_first_byte(self, real, fast, fault):
        # At a pace: what has been received when a connection breaks may not have been read.
        body = body_for(CHAT, f"{fault}\nx-neev-echo: rate=50", stream=True)
        events = []
        for client in (real, fast):
            status, _, answer = await ask(client, CHAT, json=body)
            assert status == 200
            assert b"[DONE]" not in answer
            events.append(json.loads(answer.split(b"data: ")[-1]))
        assert events[0] == events[1]
        assert events[0]["error"]["type"] == "upstream_error"

    @pytest.mark.parametrize("path", [MESSAGES, RESPONSES])
    async def test_is_an_event_without_litellms_words_elsewhere(self, real, path):
        _, _, answer = await ask(real, path, json=body_for(path, "error-after=2", stream=True))
        last = json.loads(
            [part for part in answer.split(b"data: ") if b'"error"' in part][-1].partition(b"\n\n")[0]
        )
        found = last["error"] if path == MESSAGES else last["response"]["error"]
        assert found["code"] == "upstream_error"
        assert not [leak for leak in LEAKS if leak in found["message"]]


class TestOtherProviders:
    """The same upstream, called by LiteLLM's own OpenAI client: nothing of ours helps with the code."""

    @pytest.mark.parametrize(
        ("fault", "status", "code"),
        [
            ("status=400", 400, "invalid_request"), ("status=401", 502, "upstream_auth_error"), ("status=403", 502, "upstream_auth_error"),
            ("status=404", 404, "model_not_found"), ("status=429", 429, "upstream_rate_limited"), ("status=500", 502, "upstream_error"),
            ("status=503", 502, "upstream_error"), ("context-length", 400, "context_length_exceeded"), ("html", 502, "upstream_error"),
            ("bad-json", 502, "upstream_error"),
        ],
    )  # fmt: skip
    async def test_have_the_contracts_errors(self, real, fault, status, code):
        got, _, found = await error(real, CHAT, json=body_for(CHAT, fault, model="other"))
        assert (got, found["code"]) == (status, code)

    async def test_when_to_retry_is_kept(self, real):
        _, headers, _ = await error(real, CHAT, json=body_for(CHAT, "retry-after=7", model="other"))
        assert headers["retry-after"] == "7"

    async def test_that_cannot_be_reached(self, real):
        status, _, found = await error(real, CHAT, json=body_for(CHAT, model="dead"))
        assert (status, found["type"]) == (502, "upstream_error")


class TestFallbacksThatLeaveNeevAI:
    @pytest.mark.parametrize("stream", [False, True])
    async def test_are_answered_by_litellm_under_the_fallbacks_name(self, fast, emulator, stream):
        emulator.set_fault("status=503", model="gpt-oss-20b")
        status, headers, answer = await ask(fast, CHAT, json=body_for(CHAT, model="shaky", stream=stream))
        assert (status, headers["x-neev-path"]) == (200, "litellm")
        assert b"a" in answer
        assert [request["model"] for request in emulator.requests()][-1] == "gpt-oss-120b"


class TestWhatLiteLLMWouldTakeFromAURL:
    async def test_a_models_name_in_the_query_does_not_win(self, real, emulator):
        status, headers, _ = await ask(real, CHAT + "?model=dead", json=body_for(CHAT))
        assert status == 200
        assert headers["x-neev-model"] == "gpt-oss-120b"

    async def test_azures_clients_are_served(self, real):
        path = "/openai/deployments/house/chat/completions?api-version=2024-06-01"
        body = {"messages": [{"role": "user", "content": "a b"}]}
        status, _, answer = await ask(real, path, json=body)
        assert (status, json.loads(answer)["choices"][0]["message"]["content"]) == (200, "a b")

    @pytest.mark.parametrize(
        "path", ["/user/new", "/health/services", "/config/update", "/v1/model/info", "/global/spend"]
    )
    async def test_nothing_of_its_administration_is_there(self, real, path):
        for method in ("GET", "POST"):
            status, _, found = await error(real, path, method=method)
            assert (status, found["code"]) == (404, "unknown_url")


class TestControlHeaders:
    async def test_a_clients_timeout_counts(self, real):
        headers = {"X-LiteLLM-Timeout": "0.3"}
        status, _, found = await error(real, CHAT, json=body_for(CHAT, "slow-first-byte=5"), headers=headers)
        assert (status, found["code"]) == (504, "upstream_timeout")

    async def test_so_does_one_in_the_body(self, real):
        status, _, found = await error(real, CHAT, json=body_for(CHAT, "slow-first-byte=5", timeout=0.3))
        assert (status, found["code"]) == (504, "upstream_timeout")


class TestWrongValuesOfLiteLLMsRoutes:
    """LiteLLM takes a bound that is no number for none, and drops it: what is wrong must be said."""

    COMMON = [
        ("temperature", 3), ("temperature", "hot"), ("top_p", -1), ("top_p", "x"), ("stream", "yes"),
    ]  # fmt: skip
    WRONG = {
        "/v1/completions": [
            ("max_tokens", "many"), ("max_tokens", -3), ("max_tokens", 0), ("max_tokens", 1.5), ("max_tokens", True),
            ("n", 0), ("n", "two"), ("stop", 5), ("stop", ["a", "b", "c", "d", "e"]), ("presence_penalty", 9),
            ("frequency_penalty", "x"), *COMMON,
        ],
        MESSAGES: [
            ("max_tokens", -3), ("max_tokens", "many"), ("max_tokens", 0), ("stop_sequences", "x"),
            ("stop_sequences", [5]), ("stop_sequences", ["a", "b", "c", "d", "e"]), *COMMON,
        ],
        RESPONSES: [("max_output_tokens", "many"), ("max_output_tokens", -3), *COMMON],
    }  # fmt: skip

    @staticmethod
    def body(path, model="house", **fields):
        body = {"model": model, "prompt": "a b"} if path == "/v1/completions" else body_for(path, model=model)
        return {**body, **fields}

    @pytest.mark.parametrize("path", WRONG)
    async def test_are_refused_by_name(self, real, emulator, path):
        before = len(emulator.requests())
        for field, value in self.WRONG[path]:
            status, _, found = await error(real, path, json=self.body(path, **{field: value}))
            assert (status, found["type"]) == (400, "invalid_request_error"), (field, value, found)
            assert found["message"].startswith((f"{field} must be ", f"{field}[0] must be ")), found
            # Anthropic's form of an error, which LiteLLM gives its clients, has no place for it.
            assert path == MESSAGES or found["param"] == field
        assert len(emulator.requests()) == before

    @pytest.mark.parametrize("absent", [{}, {"max_tokens": None}])
    async def test_anthropics_bound_is_required(self, real, absent):
        body = {name: value for name, value in self.body(MESSAGES).items() if name != "max_tokens"}
        status, _, found = await error(real, MESSAGES, json={**body, **absent})
        assert (status, found["code"], found["param"]) == (400, "missing_required_parameter", None)
        assert found["message"] == "max_tokens is required: it must be an integer from 1 to 2147483647."

    @pytest.mark.parametrize("path", WRONG)
    async def test_right_ones_and_null_are_served(self, real, path):
        right = {"temperature": 0.5, "top_p": None, "stream": False}
        more = {
            "/v1/completions": {"max_tokens": None, "n": 1, "stop": ["x"]},
            MESSAGES: {"stop_sequences": ["x"]},
        }
        status, _, answer = await ask(real, path, json=self.body(path, **right, **more.get(path, {})))
        assert status == 200, answer

    async def test_other_providers_models_have_their_own_rules(self, real):
        status, _, answer = await ask(
            real, MESSAGES, json=self.body(MESSAGES, model="other", stop_sequences=["a", "b", "c", "d", "e"])
        )
        assert b"stop_sequences must be" not in answer, (status, answer)


COMPLETION_ROUTES = [
    "/v1/completions",
    "/completions",
    "/engines/house/completions",
    "/openai/deployments/house/completions",
]


class TestWhatAChatModelCannotDo:
    """LiteLLM makes a message of each prompt, and drops or passes on the rest: the answer would not be what was asked."""

    @pytest.mark.parametrize("path", COMPLETION_ROUTES)
    async def test_several_prompts_are_refused(self, real, emulator, path):
        # Where the path names the model, it is the one that is called.
        names = [{"model": "house"}] if "house" not in path else [{}, {"model": "other"}]
        for prompt in (["x", "y"], [1, 2], [[1, 2], [3]], [[1, 2]], [], ["x", 5]):
            for name in names:
                status, _, found = await error(real, path, json={"prompt": prompt, **name})
                assert (status, found["type"], found["param"]) == (400, "invalid_request_error", "prompt")
                assert "one prompt" in found["message"]
        assert not emulator.requests()

    @pytest.mark.parametrize("path", [path for path in COMPLETION_ROUTES if "house" in path])
    async def test_one_is_served_where_the_path_names_the_model(self, real, path):
        status, _, answer = await ask(real, path, json={"prompt": "a b"})
        assert (status, json.loads(answer)["choices"][0]["text"]) == (200, "a b")
        path = path.replace("/completions", CHAT.removeprefix("/v1"))
        body = {name: value for name, value in body_for(CHAT).items() if name != "model"}
        status, _, answer = await ask(real, path, json=body)
        assert status == 200, answer
        status, _, found = await error(real, path, json=body | {"temperature": 9})
        assert (status, found["param"]) == (400, "temperature")

    @pytest.mark.parametrize(
        ("field", "value"),
        [("best_of", 3), ("echo", True), ("suffix", "end"), ("logprobs", 2), ("logprobs", 0)],
    )
    async def test_so_are_fields_without_a_meaning_for_it(self, real, emulator, field, value):
        status, _, found = await error(
            real, "/v1/completions", json={"model": "house", "prompt": "x", field: value}
        )
        assert (status, found["code"], found["param"]) == (400, "unsupported_parameter", field)
        assert not emulator.requests()

    async def test_one_prompt_in_an_array_and_fields_that_ask_for_nothing_are_served(self, real):
        idle = {"best_of": 2, "n": 2, "echo": False, "suffix": "", "logprobs": None}
        status, _, answer = await ask(
            real, "/v1/completions", json={"model": "house", "prompt": ["a b"], **idle}
        )
        assert status == 200, answer
        choices = json.loads(answer)["choices"]
        assert [(choice["index"], choice["text"]) for choice in choices] == [(0, "a b"), (1, "a b")]

    async def test_other_providers_models_have_their_own_rules(self, real, emulator):
        status, _, answer = await ask(
            real, "/v1/completions", json={"model": "other", "prompt": ["x", "y"], "echo": True}
        )
        assert b"NeevAI" not in answer, (status, answer)


JSON_ROUTES = [
    "/v1/embeddings",
    "/v1/rerank",
    "/v1/moderations",
    "/v1/images/generations",
    "/v1/completions",
    MESSAGES,
    RESPONSES,
]


class TestNoInputGivesA5xx:
    @pytest.mark.parametrize("path", JSON_ROUTES)
    async def test_of_any_json_route(self, real, path):
        fields = (
            "input",
            "prompt",
            "messages",
            "query",
            "documents",
            "max_tokens",
            "temperature",
            "tools",
            "stream",
        )
        bodies = [
            {},
            {"model": "house"},
            {"model": "nope"},
            {"model": ["house"]},
            {"model": None},
            {"model": {}},
            {"model": ""},
        ]
        bodies += [
            {"model": "house", **dict.fromkeys(fields, value)}
            for value in (5, "x", [], [5], {}, {"a": 1}, None, True)
        ]
        found = await asyncio.gather(*(ask(real, path, json=body) for body in bodies))
        bad = [
            (body, status, answer[:300])
            for body, (status, _, answer) in zip(bodies, found, strict=True)
            if status >= 500
        ]
        assert not bad

    @pytest.mark.parametrize(
        "path", ["/v1/embeddings", "/v1/rerank", "/v1/moderations", "/v1/images/generations"]
    )
    async def test_and_an_endpoint_that_a_model_does_not_serve_is_said_so(self, real, path):
        body = {"model": "house", "input": "x", "prompt": "x", "query": "x", "documents": ["x"]}
        status, _, found = await error(real, path, json=body)
        assert (status, found["code"], found["param"]) == (400, "invalid_value", "model")

    @pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/images/edits"])
    async def test_of_a_form(self, real, path):
        for fields in (
            {},
            {"model": "house"},
            {"model": "nope"},
            {"model": "house", "api_base": "http://evil.example"},
        ):
            form = aiohttp.FormData(fields)
            form.add_field(
                "file" if "audio" in path else "image", b"ID3", filename="a.mp3", content_type="audio/mpeg"
            )
            form.add_field("prompt", "x")
            status, _, found = await error(real, path, data=form)
            assert 400 <= status < 500, found
            if "api_base" in fields:
                assert (found["code"], found["param"]) == ("unsupported_parameter", "api_base")

    @pytest.mark.parametrize("method", ["GET", "DELETE"])
    async def test_of_an_unknown_response(self, real, method):
        status, _, found = await error(real, RESPONSES + "/resp_abc", method=method)
        assert (status, found["message"]) == (400, "No response with this id is known here.")


class TestAnswers:
    async def test_say_which_way_they_came_and_nothing_of_the_inside(self, real):
        status, headers, _ = await ask(
            real, MESSAGES, json=body_for(MESSAGES), headers={"X-Request-Id": "mine"}
        )
        assert status == 200
        assert (headers["x-neev-path"], headers["x-request-id"]) == ("litellm", "mine")
        assert headers["x-litellm-call-id"]
        assert not [
            name
            for name in headers
            if name.lower().startswith(("llm_provider", "x-litellm-key", "x-litellm-model-id"))
        ]

    async def test_are_streamed_for_anthropics_clients(self, real):
        status, headers, answer = await ask(real, MESSAGES, json=body_for(MESSAGES, stream=True))
        assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert b"event: message_stop" in answer

    async def test_a_price_is_told(self, real):
        _, headers, _ = await ask(real, CHAT, json=body_for(CHAT, model="gpt-oss-120b"))
        assert float(headers["x-neev-cost-usd"]) > 0


class TestAClientThatLeaves:
    @pytest.mark.parametrize("path", [CHAT, MESSAGES])
    async def test_ends_the_stream_upstream_too(self, real, emulator, path):
        text = "x-neev-echo: rate=5\n" + "word " * 500
        slow = {**body_for(path, stream=True), "messages": [{"role": "user", "content": text}]}
        async with real.post(path, json=slow) as response:
            assert await response.content.readany()
            await self.until(emulator, lambda ending: ending == "open")
            response.close()
        await self.until(emulator, lambda ending: ending != "open")
        assert emulator.stats()["streams"]["aborted_by_client"] == 1

    @staticmethod
    async def until(emulator, wanted) -> None:
        async with asyncio.timeout(5):
            while True:
                requests = await asyncio.to_thread(emulator.requests)
                if requests and wanted(requests[-1]["ending"]):
                    return
                await asyncio.sleep(0.02)
