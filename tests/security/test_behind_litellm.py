"""The whole product, LiteLLM too, with secrets that can be recognised: where do they turn up, and whom can a client have called?

The upstream repeats its caller's key in everything that it says. The tests run in their order: the last ones break things.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from neev_provider.admission.keys import Keys
from neev_provider.contract import CLIENT_FORBIDDEN_FIELDS, LITELLM_ONLY_FIELDS
from neev_provider.store import Store
from tests.faults.house import config
from tests.proxy.serving import Served, exists, free_port, serving
from tests.security.trap import Parrot, Trap, parrot, trap
from tests.store.servers import Server, server

CHAT, SPEECH, MESSAGES, RESPONSES = (
    "/v1/chat/completions",
    "/v1/audio/speech",
    "/v1/messages",
    "/v1/responses",
)
CANARY = "c4n4ry"
NEEV_KEY = f"sk-nc-{CANARY}-upstream-0123456789"
MASTER_KEY = f"sk-{CANARY}-master-0123456789-0123456789-0123456789"
PASSWORD = f"{CANARY}-redis-password"
STRANGER = f"sk-neev-kabcdefghijkmn.{CANARY}" + "A" * (43 - len(CANARY))


@dataclass
class Whole:
    served: Served
    upstream: Parrot
    trap: Trap
    store: Server
    metrics: str
    key: str
    told: list[str] = field(default_factory=list)

    def ask(
        self, path: str, body: object = None, *, key: str | None = None, method: str = "POST", **headers: str
    ):
        """Ask, and keep what was answered."""
        given = {"Authorization": f"Bearer {key or self.key}"} | {
            n.replace("_", "-"): v for n, v in headers.items()
        }
        try:
            answer = requests.request(
                method,
                self.served.root_url + path,
                json=body,
                headers=given,
                timeout=60,
                allow_redirects=False,
            )
        except requests.RequestException as error:  # a stream that was broken off
            self.told.append(type(error).__name__)
            return None
        self.told.append(f"{answer.status_code} {answer.headers} {answer.text}")
        return answer


async def _new_key(url: str) -> str:
    async with Store.from_url(url) as store:
        return (await Keys(store).create_key({"max_budget": 100}, by="test")).token


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    with ExitStack() as stack:
        store = server(folder / "store", password=PASSWORD)
        stack.callback(store.stop)
        upstream, snare = stack.enter_context(parrot()), stack.enter_context(trap())
        port = free_port()
        environ = {"NEEV_API_KEY": NEEV_KEY, "LITELLM_MASTER_KEY": MASTER_KEY, "NEEV_STORE": store.url}
        words = ("--upstream", upstream.url, "--metrics-port", str(port), "--log-level", "debug", "--verbose")
        served = stack.enter_context(
            serving(folder / "serve", *words, config=config(folder), environ=environ)
        )
        key = asyncio.run(_new_key(store.url))
        yield Whole(served, upstream, snare, store, f"http://127.0.0.1:{port}/metrics", key)


def body_for(path: str, text: str = "x", **fields: object) -> dict:
    messages = [{"role": "user", "content": text}]
    return {
        CHAT: {"model": "house", "messages": messages, "max_tokens": 5},
        SPEECH: {"model": "tts-1", "voice": "alloy", "input": text},
        MESSAGES: {"model": "house", "messages": messages, "max_tokens": 5},
        RESPONSES: {"model": "house", "input": text},
    }[path] | fields


def image(url: str) -> list[dict]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


class TestWhomAClientCanHaveCalled:
    """Nobody but the configured upstream (SSRF), on the fast path and through LiteLLM."""

    @pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES, "/v1/embeddings"])
    def test_no_field_that_names_a_host_reaches_it(self, whole, path):
        model = {"model": "house", "input": "x"} if path == "/v1/embeddings" else body_for(path)
        hosts = (
            "api_base",
            "base_url",
            "endpoint_url",
            "deployment_url",
            "slack_webhook_url",
            "user_config",
            "headers",
        )
        for name in hosts:
            url = whole.trap.url
            value = {
                "model_list": [
                    {"model_name": "house", "litellm_params": {"model": "openai/x", "api_base": url}}
                ]
            }
            answer = whole.ask(path, {**model, name: value if name == "user_config" else url})
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)
        assert whole.trap.callers == []

    def test_nor_does_any_field_that_is_forbidden(self, whole):
        for name in sorted(CLIENT_FORBIDDEN_FIELDS):
            answer = whole.ask(CHAT, body_for(CHAT, **{name: whole.trap.url}))
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_parameter"), (
                name
            )
        assert whole.trap.callers == []

    def test_nor_one_that_hides_in_what_litellm_alone_understands(self, whole):
        url = whole.trap.url
        inner = {"api_base": url, "base_url": url, "api_key": "x", "user_config": {"model_list": []}}
        names = (
            "extra_body",
            "metadata",
            "litellm_metadata",
            "spend_logs_metadata",
            "prompt_variables",
            "cache",
        )
        for name in names:
            assert name in LITELLM_ONLY_FIELDS
            for value in (inner, {"a": inner}, [inner], json.dumps(inner)):
                whole.ask(CHAT, body_for(CHAT, **{name: value}))
                whole.ask(MESSAGES, body_for(MESSAGES, **{name: value}))
        whole.ask(CHAT, body_for(CHAT, fallbacks=[{"model": "openai/x", **inner}]))
        whole.ask(CHAT, body_for(CHAT, fallbacks=["openai/gpt-4o"], mock_testing_fallbacks=True))
        whole.ask(
            CHAT,
            body_for(CHAT, guardrails=[{"x": {"extra_body": inner}}], prompt_id=url, vector_store_ids=[url]),
        )
        assert whole.trap.callers == []
        assert whole.served.refused_connections() == ""

    def test_nor_what_a_message_points_at(self, whole):
        url = whole.trap.url + "/x.png"
        whole.ask(CHAT, body_for(CHAT, messages=image(url)))
        whole.ask(CHAT, body_for(CHAT, messages=image(url), metadata={"through": "litellm"}))
        source = {"type": "url", "url": url}
        for kind in ("image", "document"):
            messages = [{"role": "user", "content": [{"type": kind, "source": source}]}]
            whole.ask(MESSAGES, body_for(MESSAGES, messages=messages))
        for part in ({"type": "input_image", "image_url": url}, {"type": "input_file", "file_url": url}):
            whole.ask(RESPONSES, {"model": "house", "input": [{"role": "user", "content": [part]}]})
        for tool in ({"type": "mcp", "server_label": "a", "server_url": url, "require_approval": "never"},):
            whole.ask(RESPONSES, body_for(RESPONSES, tools=[tool]))
        assert whole.trap.callers == []

    def test_nor_a_model_that_names_a_provider(self, whole):
        for model in (
            "openai/gpt-4o",
            "ollama/x",
            f"openai/{whole.trap.url}",
            f"huggingface/{whole.trap.url}",
            "*",
        ):
            for path in (CHAT, MESSAGES, RESPONSES):
                assert 400 <= whole.ask(path, body_for(path, model=model)).status_code < 500
        assert whole.trap.callers == []
        assert whole.served.refused_connections() == ""

    def test_nor_a_header(self, whole):
        host = whole.trap.url.removeprefix("http://")
        names = (
            *(
                "Host",
                "X-Forwarded-Host",
                "X-Forwarded-For",
                "X-Forwarded-Proto",
                "X-Original-URL",
                "X-Rewrite-URL",
            ),
            *(
                "Forwarded",
                "api-base",
                "x-litellm-api-base",
                "x-api-base",
                "x-pass-api-base",
                "x-mcp-servers",
            ),
            *("openai-organization", "x-litellm-spend-logs-metadata", "Referer", "Origin", "x-neev-upstream"),
        )
        for path in (CHAT, MESSAGES):
            for name in names:
                whole.ask(path, body_for(path), **{name: f"host={host}" if name == "Forwarded" else host})
        assert whole.trap.callers == []

    def test_what_reaches_the_upstream_is_our_key_and_none_of_the_clients(self, whole):
        whole.upstream.seen.clear()
        for path in (CHAT, MESSAGES):
            whole.ask(path, body_for(path), x_secret="mine", cookie="a=b", x_api_key=whole.key)
        assert len(whole.upstream.seen) == 2
        for headers in whole.upstream.seen:
            assert headers.get("Authorization", headers.get("authorization")) == f"Bearer {NEEV_KEY}"
            assert whole.key not in str(headers)
            assert not {name.lower() for name in headers} & {"x-secret", "cookie", "x-forwarded-for"}


WAYS = ("400", "401", "402", "403", "404", "409", "413", "422", "429", "500", "502", "503", "504", "302", "204", "text",
        "html", "200-error", "stream-error", "stream-broken", "ok")  # fmt: skip


class TestWhereSecretsTurnUp:
    """Nowhere: not the upstream's key, the master key, the store's password, nor a client's."""

    def test_on_every_way_in_which_a_call_can_fail(self, whole):
        for way in WAYS:
            for path in (CHAT, SPEECH, MESSAGES, RESPONSES):
                for fields in ({}, {"stream": True}) if path != SPEECH else ({},):
                    whole.ask(path, body_for(path, f"parrot: {way}", **fields))
            whole.ask(CHAT, body_for(CHAT, f"parrot: {way}", metadata={"through": "litellm"}))

    def test_when_a_client_puts_a_key_where_none_belongs(self, whole):
        for key in (whole.key, STRANGER, MASTER_KEY):
            for path in (
                f"/v1/models/{key}",
                f"/{key}",
                f"/key/{key}/regenerate",
                f"/v1/models?key={key}",
                f"/v1/responses/{key}",
            ):
                for method in ("GET", "POST"):
                    whole.ask(path, None if method == "GET" else {}, method=method)
            for path in (CHAT, MESSAGES):
                whole.ask(path, body_for(path, model=key))
                whole.ask(path, body_for(path, user=key, metadata={"user_id": key}))
                whole.ask(path, body_for(path, **{key: key}))
            whole.ask(
                "/v1/models",
                method="GET",
                x_request_id=key,
                user_agent=key,
                referer=key,
                litellm_changed_by=key,
            )
        for key in (
            STRANGER,
            STRANGER[:-1] + "B",
            MASTER_KEY + "x",
            f"Bearer {MASTER_KEY}",
            PASSWORD,
            NEEV_KEY,
        ):
            for path in (CHAT, MESSAGES, "/key/generate"):
                whole.ask(path, {}, key=key)
            whole.ask("/key/info", method="GET", key=key)

    def test_when_the_operator_names_keys(self, whole):
        for path in ("/key/block", "/key/unblock", "/key/update"):
            whole.ask(path, {"key": whole.key}, key=MASTER_KEY)
            whole.ask(path, {"key": STRANGER}, key=MASTER_KEY)
        whole.ask(f"/key/info?key={whole.key}", method="GET", key=MASTER_KEY)
        whole.ask("/key/delete", {"keys": [STRANGER, NEEV_KEY]}, key=MASTER_KEY)
        whole.ask("/key/generate", {"key": STRANGER, "key_alias": PASSWORD[:5]}, key=MASTER_KEY)

    def test_when_a_process_dies_and_where_it_leaves_no_core_file(self, whole):
        for pid in (os.getpid(), *whole.served.descendants()):
            if pid != os.getpid():
                assert re.search(r"Max core file size +0 +0", Path(f"/proc/{pid}/limits").read_text())
        (worker,) = [
            p
            for p in whole.served.descendants()
            if b"gateway.worker" in Path(f"/proc/{p}/cmdline").read_bytes()
        ]
        os.kill(worker, signal.SIGSEGV)
        deadline = time.monotonic() + 30
        while exists(worker) or not _is_up(whole):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def test_when_the_store_is_away(self, whole):
        whole.store.stop(signal.SIGKILL)
        for path in (CHAT, MESSAGES):
            answer = whole.ask(path, body_for(path))
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
        whole.ask("/key/list", method="GET", key=MASTER_KEY)

    def test_so_far_and_when_all_has_ended(self, whole):
        metrics = requests.get(whole.metrics, timeout=10).text
        commands = b"".join(
            Path(f"/proc/{pid}/cmdline").read_bytes() for pid in whole.served.descendants() if exists(pid)
        ).decode()
        assert whole.served.stop(signal.SIGTERM) == 0
        places = {
            "an answer": "\n".join(whole.told),
            "the log": whole.served.output_file.read_text(),
            "the metrics": metrics,
            "a command line": commands,
            "the store's log": (whole.store.folder / "log").read_text(errors="replace"),
            **{
                str(file): file.read_bytes().decode("latin-1")
                for file in whole.served.state.rglob("*")
                if file.is_file()
            },
        }
        assert len(places["an answer"]) > 100_000
        assert "neev_requests_total" in places["the metrics"]
        assert places["the log"].count("/v1/messages") > 100
        secret = whole.key.partition(".")[2]
        found = {
            f"{name} in {place}": text[max(0, text.find(value) - 300) : text.find(value) + 80]
            for place, text in places.items()
            for name, value in (("a canary", CANARY), ("a client's secret", secret))
            if value in text
        }
        assert not found, "\n".join(f"{place}: {text}" for place, text in found.items())


def _is_up(whole: Whole) -> bool:
    try:
        return requests.get(whole.served.root_url + "/healthz", timeout=5).ok
    except requests.RequestException:
        return False
