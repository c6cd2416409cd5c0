"""What the gateway itself answers: bytes passed through, the error table, streams, clients that leave."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import pytest

from tests.gateway.conftest import own_config
from tests.proxy.serving import ROOT, Served, free_port, serving

CHAT = "/v1/chat/completions"


def chat(text: str = "one two three", *, fault: str = "", echo: str = "", **fields) -> dict:
    lines = [f"x-neev-fault: {fault}"] * bool(fault) + [f"x-neev-echo: {echo}"] * bool(echo)
    message = {"role": "user", "content": "\n".join([*lines, text])}
    return {"model": "house", "messages": [message], **fields}


async def error_of(response: aiohttp.ClientResponse) -> tuple[int, str, str]:
    body = await response.json()
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"]
    assert response.headers["x-request-id"]
    return response.status, body["error"]["type"], body["error"]["code"]


class TestChat:
    async def test_an_answer_carries_the_name_that_the_client_asked_for(self, client):
        async with client.post(CHAT, json=chat()) as response:
            body = await response.json()
            assert body["model"] == "house"
            assert body["choices"][0]["message"]["content"] == "one two three"
            assert response.headers["x-neev-model"] == "gpt-oss-120b"
            assert response.headers["x-neev-path"] == "fast"

    async def test_the_cost_is_exact_to_the_nano_dollar(self, client):
        async with client.post(CHAT, json=chat(echo="tokens=7,prompt-tokens=1234")) as response:
            assert response.headers["x-neev-cost-usd"] == "0.000126900"  # 1234 x 100 + 7 x 500 nano-USD

    async def test_the_prefix_v1_may_be_left_out(self, client):
        async with client.post("/chat/completions", json=chat()) as response:
            assert response.status == 200

    @pytest.mark.parametrize("given", ["my-trace.1", "a" * 128])
    async def test_a_sane_request_id_is_kept(self, client, given):
        async with client.post(CHAT, json=chat(), headers={"x-request-id": given}) as response:
            assert response.headers["x-request-id"] == given

    @pytest.mark.parametrize("given", ["with blank", "ü", "a" * 129])
    async def test_an_odd_request_id_is_replaced(self, client, given):
        async with client.post(CHAT, json=chat(), headers={"x-request-id": given}) as response:
            assert response.headers["x-request-id"].startswith("req_")

    async def test_what_goes_up_is_adapted_and_else_untouched(self, client, emulator_control):
        message = [{"role": "developer", "content": "be brief"}, *chat()["messages"]]
        await client.post(
            CHAT, json=chat(max_completion_tokens=5, seed=3, unknown={"a": [1]}) | {"messages": message}
        )
        async with emulator_control.get("/_emulator/requests") as response:
            sent = (await response.json())["requests"][-1]["body"]
        assert sent["messages"][0]["role"] == "system"
        assert (sent["max_tokens"], sent["seed"], sent["unknown"]) == (5, 3, {"a": [1]})
        assert sent["model"] == "gpt-oss-120b"

    async def test_a_failing_model_falls_back(self, client, emulator_control):
        await emulator_control.put("/_emulator/faults", json={"fault": "status=503", "model": "gpt-oss-20b"})
        async with client.post(CHAT, json=chat() | {"model": "shaky"}) as response:
            assert response.status == 200
            assert response.headers["x-neev-model"] == "gpt-oss-120b"
            assert (await response.json())["model"] == "shaky"

    async def test_a_passing_fault_is_retried(self, client):
        async with client.post(CHAT, json=chat(fault="status=503,times=1,id=passing")) as response:
            assert response.status == 200


class TestErrors:
    @pytest.mark.parametrize(
        ("fault", "expected"),
        [
            ("status=400", (400, "invalid_request_error", "invalid_value")),
            ("context-length", (400, "invalid_request_error", "context_length_exceeded")),
            ("status=401", (502, "upstream_error", "upstream_auth_error")),
            ("status=402", (502, "upstream_error", "upstream_auth_error")),
            ("status=403", (502, "upstream_error", "upstream_auth_error")),
            ("html", (502, "upstream_error", "upstream_bad_response")),
            ("bad-json", (502, "upstream_error", "upstream_bad_response")),
            ("redirect", (502, "upstream_error", "upstream_bad_response")),
        ],
    )
    @pytest.mark.parametrize("stream", [False, True])
    async def test_upstreams_faults(self, client, fault, expected, stream):
        async with client.post(CHAT, json=chat(fault=fault, stream=stream)) as response:
            assert await error_of(response) == expected

    async def test_a_rate_limit_of_upstream_keeps_its_retry_after(self, client):
        async with client.post(CHAT, json=chat(fault="retry-after=90")) as response:
            assert await error_of(response) == (429, "rate_limit_error", "upstream_rate_limited")
            assert response.headers["retry-after"] == "90"

    @pytest.mark.parametrize(
        ("body", "param", "code"),
        [
            (b"", None, "invalid_json"),
            (b"{", None, "invalid_json"),
            (b"[]", None, "invalid_type"),
            (b"{}", "model", "missing_required_parameter"),
            (b'{"model": "house", "messages": []}', "messages", "invalid_value"),
            (
                b'{"model": "house", "messages": [{"role": "user"}]}',
                "messages[0].content",
                "missing_required_parameter",
            ),
            (json.dumps(chat(temperature=3)).encode(), "temperature", "invalid_value"),
            (json.dumps(chat(n=129)).encode(), "n", "invalid_value"),
            (json.dumps(chat(api_base="http://127.0.0.1")).encode(), "api_base", "unsupported_parameter"),
        ],
    )
    async def test_bad_input_names_the_field(self, client, body, param, code):
        async with client.post(CHAT, data=body, headers={"content-type": "application/json"}) as response:
            assert response.status == 400
            error = (await response.json())["error"]
            assert (error["param"], error["code"]) == (param, code)

    @pytest.mark.parametrize(
        ("method", "path", "expected"),
        [
            ("GET", "/v1/nothing", (404, "invalid_request_error", "unknown_url")),
            ("GET", "/", (404, "invalid_request_error", "unknown_url")),
            ("GET", "/v1/models/", (404, "invalid_request_error", "unknown_url")),
            ("GET", "/v1/models/nope", (404, "invalid_request_error", "model_not_found")),
            ("GET", "/v1/models/%2e%2e%2fetc", (404, "invalid_request_error", "model_not_found")),
            ("GET", CHAT, (405, "invalid_request_error", "method_not_allowed")),
            ("POST", "/v1/models", (405, "invalid_request_error", "method_not_allowed")),
            ("DELETE", "/v1/models/house", (405, "invalid_request_error", "method_not_allowed")),
        ],
    )
    async def test_paths_and_methods(self, client, method, path, expected):
        from yarl import URL

        async with client.request(method, URL(path, encoded=True)) as response:
            assert await error_of(response) == expected

    @pytest.mark.parametrize("model", ["nope", "elsewhere"])
    async def test_a_model_that_is_not_served_here(self, client, model):
        async with client.post(CHAT, json=chat() | {"model": model}) as response:
            assert await error_of(response) == (404, "invalid_request_error", "model_not_found")

    async def test_a_form_is_no_json(self, client):
        async with client.post(CHAT, data={"a": "b"}) as response:
            assert await error_of(response) == (415, "invalid_request_error", "unsupported_media_type")

    @pytest.mark.parametrize("chunked", [False, True])
    async def test_a_body_over_the_limit(self, client, chunked):
        async def parts():
            for _ in range(11):
                yield b" " * 1_000_000

        data = parts() if chunked else io.BytesIO(b" " * 10_000_001)
        async with client.post(CHAT, data=data, headers={"content-type": "application/json"}) as response:
            assert await error_of(response) == (413, "invalid_request_error", "request_too_large")

    @pytest.mark.parametrize("value", [None, "Bearer", "Bearer ", "Bearer wrong", "Basic abc", "Bearer ü"])
    async def test_without_a_good_key(self, gateway, value):
        headers = {} if value is None else {"Authorization": value}
        async with aiohttp.ClientSession(gateway.root_url, headers=headers) as session:
            async with session.post(CHAT, json=chat()) as response:
                assert await error_of(response) == (401, "invalid_request_error", "invalid_api_key")


async def events_of(response: aiohttp.ClientResponse) -> list[bytes]:
    assert response.status == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    return [event for event in (await response.read()).split(b"\n\n") if event]


def texts(events: list[bytes]) -> str:
    chunks = [json.loads(e.removeprefix(b"data: ")) for e in events if e.startswith(b"data: {")]
    return "".join(c["delta"].get("content") or "" for chunk in chunks for c in chunk["choices"])


class TestStreams:
    async def test_arrive_whole_with_the_clients_name_and_done(self, client):
        async with client.post(CHAT, json=chat(stream=True)) as response:
            events = await events_of(response)
        assert texts(events) == "one two three"
        assert events[-1] == b"data: [DONE]"
        assert all(b'"model":"house"' in event for event in events[:-1])

    @pytest.mark.parametrize("asked", [True, False])
    async def test_usage_is_shown_only_to_a_client_that_asked(self, client, asked):
        options = {"stream_options": {"include_usage": True}} if asked else {}
        async with client.post(CHAT, json=chat(stream=True, **options)) as response:
            events = await events_of(response)
        assert sum(b'"prompt_tokens"' in event for event in events) == int(asked)

    async def test_odd_events_survive_byte_for_byte(self, client, emulator_control, gateway):
        """The gateway's bytes are the emulator's, but for the ids and times that differ between two answers."""
        body = chat("grüße 日本語 ✓", fault="odd-chunks", stream=True, model="gpt-oss-120b")
        body["stream_options"] = {"include_usage": True}
        async with emulator_control.post(
            CHAT, json=body, headers={"authorization": "Bearer sk-nc-x"}
        ) as response:
            direct = await response.read()
        async with client.post(CHAT, json=body) as response:
            relayed = await response.read()

        def settled(data: bytes) -> bytes:
            import re

            return re.sub(rb'"(id|created)":("[^"]*"|\d+)', rb'"\1":0', data)

        assert settled(relayed) == settled(direct)

    @pytest.mark.parametrize("fault", ["cut-after=4", "error-after=4", "bad-json-chunk=3,cut-after=5"])
    async def test_a_fault_after_the_first_byte_is_an_error_event_and_no_done(self, client, fault):
        async with client.post(
            CHAT, json=chat(fault=fault, echo="tokens=10,rate=500", stream=True)
        ) as response:
            events = await events_of(response)
        assert b"data: [DONE]" not in events
        error = json.loads(events[-1].removeprefix(b"data: "))["error"]
        assert error["type"] == "upstream_error"

    async def test_chunks_are_passed_on_at_once(self, client):
        loop = asyncio.get_running_loop()
        async with client.post(CHAT, json=chat(echo="tokens=4,rate=4", stream=True)) as response:
            began = loop.time()
            first = await response.content.readuntil(b"\n\n")
            assert b"delta" in first
            assert loop.time() - began < 0.9  # the whole takes a second
            await response.read()

    async def test_upstream_is_cancelled_within_a_second_when_the_client_leaves(
        self, client, emulator_control
    ):
        response = await client.post(CHAT, json=chat(echo="tokens=1000,rate=20", stream=True))
        await response.content.readany()
        response.close()
        async with asyncio.timeout(1):
            while True:
                async with emulator_control.get("/_emulator/stats") as stats:
                    if (await stats.json())["streams"]["aborted_by_client"] == 1:
                        break
                await asyncio.sleep(0.02)

    async def test_two_hundred_aborted_streams_leave_nothing_open(self, client, emulator_control):
        async def abort() -> None:
            response = await client.post(CHAT, json=chat(echo="tokens=1000,rate=20", stream=True))
            await response.content.readany()
            response.close()

        for _ in range(4):
            await asyncio.gather(*(abort() for _ in range(50)))
        async with asyncio.timeout(5):
            while True:
                async with emulator_control.get("/_emulator/stats") as stats:
                    streams = (await stats.json())["streams"]
                if streams["aborted_by_client"] == 200 and streams["open"] == 0:
                    break
                await asyncio.sleep(0.05)


class TestModelsAndSpeech:
    async def test_the_list_holds_public_names_with_extras(self, client):
        async with client.get("/v1/models") as response:
            models = {model["id"]: model for model in (await response.json())["data"]}
        assert {"house", "gpt-oss-120b", "tts-1"} <= set(models)
        assert models["gpt-oss-20b"]["pricing"]["usd_per_million_input_tokens"] == 0.075
        assert models["glm-5-2"]["pricing"] is None

    @pytest.mark.parametrize("path", ["/v1/models/minimax-m2.7", "/models/minimax-m2%2E7"])
    async def test_one_is_retrieved_by_its_exact_id(self, client, path):
        from yarl import URL

        async with client.get(URL(path, encoded=True)) as response:
            assert (await response.json())["owned_by"] == "MiniMax"

    async def test_speech_is_relayed(self, client):
        async with client.post(
            "/v1/audio/speech", json={"model": "tts-1", "voice": "alloy", "input": "hello"}
        ) as r:
            assert r.status == 200
            assert r.headers["content-type"] == "audio/mpeg"
            assert len(await r.read()) > 0

    async def test_speech_without_audio_is_a_bad_gateway(self, client):
        body = {"model": "tts-1", "voice": "alloy", "input": "x-neev-fault: empty-audio\nhello"}
        async with client.post("/v1/audio/speech", json=body) as response:
            assert await error_of(response) == (502, "upstream_error", "upstream_bad_response")

    async def test_an_unknown_voice_is_refused_with_the_known_ones(self, client):
        body = {"model": "tts-1", "voice": "robot", "input": "hello"}
        async with client.post("/v1/audio/speech", json=body) as response:
            error = (await response.json())["error"]
        assert (response.status, error["param"]) == (400, "voice")
        assert "alloy" in error["message"]

    async def test_a_chat_model_does_not_speak(self, client):
        body = {"model": "house", "voice": "alloy", "input": "hello"}
        async with client.post("/v1/audio/speech", json=body) as response:
            assert await error_of(response) == (400, "invalid_request_error", "invalid_value")


def worker_pids(running: Served) -> set[int]:
    found = set()
    for pid in running.descendants():
        with contextlib.suppress(OSError):
            if b"gateway.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.add(pid)
    return found


class TestProcess:
    @pytest.mark.parametrize("module", ["worker", "serve"])
    def test_nothing_large_is_imported_that_is_not_needed(self, module):
        """The last two would be a fifth of its memory; aiohttp comes with the way to LiteLLM."""
        code = (
            f"import sys, neev_provider.gateway.{module}; "
            "print([name for name in ('litellm', 'aiohttp', 'redis') if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"

    def test_the_log_has_a_line_for_a_request_and_neither_key_nor_content(self, gateway):
        import urllib.request

        request = urllib.request.Request(
            gateway.root_url + CHAT,
            data=json.dumps(chat("canary-of-the-prompt")).encode(),
            headers={**gateway.headers, "x-request-id": "find-me"},
        )
        urllib.request.urlopen(request).close()
        deadline = time.monotonic() + 5
        while "find-me" not in (log := gateway.log()):
            assert time.monotonic() < deadline  # written when the request has ended, just after its last byte
        line = json.loads(next(line for line in log.splitlines() if "find-me" in line))
        assert (line["status"], line["model"], line["completion_tokens"]) == (200, "house", 1)
        assert (line["key_id"], line["path"], line["via"], line["cost_nanos"] > 0) == (
            "master",
            CHAT,
            "fast",
            True,
        )
        assert "canary" not in log
        assert gateway.key not in log

    def test_a_request_with_a_broken_head_is_a_400_and_the_next_is_served(self, gateway):
        host, _, port = gateway.root_url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nbroken\r\n\r\n")
            assert b" 400 " in connection.recv(1000)
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 200 " in connection.recv(1000)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    async def test_running_streams_finish_when_it_is_told_to_stop(self, tmp_path, number):
        with serving(tmp_path, "--no-litellm", "--engine", "echo", config=own_config(tmp_path)) as running:
            async with aiohttp.ClientSession(running.root_url, headers=running.headers) as session:
                body = chat(echo="tokens=30,rate=20", stream=True)
                async with session.post(CHAT, json=body) as response:
                    await response.content.readuntil(b"\n\n")
                    stopping = asyncio.create_task(asyncio.to_thread(running.stop, number))
                    events = (await response.read()).split(b"\n\n")
            assert events[-2] == b"data: [DONE]"
            assert await stopping == 0

    def test_it_serves_and_ends_well_though_nobody_reads_what_it_says(self, tmp_path):
        port = free_port()
        command = f"-m neev_provider serve --port {port} --metrics-port 0 --no-litellm --engine echo --config"
        words = [*command.split(), str(own_config(tmp_path)), "--state", str(tmp_path / "state")]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("NEEV_")}
        with subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            said = b"".join(iter(lambda: process.stdout.readline(), b"Ctrl-C stops everything.\n")).decode()
            process.stdout.close()
            key = re.search(r"API key +(.*)", said)[1]
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            for _ in range(3):
                connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"})
                answer = connection.getresponse()
                assert (answer.status, bool(answer.read())) == (200, True)
            connection.close()
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0

    async def test_workers_share_the_port_and_one_that_dies_is_replaced(self, tmp_path):
        config = own_config(tmp_path)
        with serving(
            tmp_path, "--no-litellm", "--engine", "echo", "--workers", "2", config=config
        ) as running:
            workers = worker_pids(running)
            assert len(workers) == 2
            victim = min(workers)
            os.kill(victim, signal.SIGKILL)
            async with asyncio.timeout(20):
                while True:
                    now = worker_pids(running)
                    if len(now) == 2 and victim not in now:
                        break
                    await asyncio.sleep(0.05)
