"""`neev-gateway serve`: what it says, what it contacts, how it stops, what it costs in LiteLLM's books."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from neev_provider.catalog import Catalog
from neev_provider.config import load_config
from neev_provider.gateway.serve import welcome
from tests.proxy.serving import ROOT, exists, serving


def post(served, path: str, body: dict, **headers: str):
    request = urllib.request.Request(
        served.root_url + path, data=json.dumps(body).encode(), headers={**served.headers, **headers}
    )
    return urllib.request.urlopen(request, timeout=60)


def test_says_how_to_call_it(served):
    for words in (served.base_url, served.key, "curl http", "from openai import OpenAI", "minimax-m3"):
        assert words in served.output


def test_what_is_to_be_pasted_is_not_broken_into_lines(served):
    lines = served.output.splitlines()
    assert f'  -H "Authorization: Bearer {served.key}" -H "Content-Type: application/json" \\' in lines
    assert f'client = OpenAI(base_url="{served.base_url}", api_key="{served.key}")' in lines


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--host", "256.1.1.1"], "error: --host: 256.1.1.1: is no address of this machine ("),
        (["--host", "ö..b"], "error: --host: ö..b: is no address of this machine (not a name)"),
        (["--host", "192.0.2.1"], "error: --host: 192.0.2.1: is no address of this machine ("),
        (
            ["--host", "127.0.0.1"],
            "cannot be listened on (Address already in use). Choose another with --port.\n",
        ),
    ],
)
def test_an_address_that_cannot_be_had_is_told_in_one_line(tmp_path, words, says):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "neev_provider", "serve", *words),
                *("--port", str(taken.getsockname()[1]), "--state", str(tmp_path)),
            ],
            cwd=ROOT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


class TestTheWelcome:
    @pytest.fixture
    def config(self, tmp_path):
        def load(*, may_call: bool):
            text = (ROOT / "proxy_config.yaml").read_text()
            file = tmp_path / "proxy_config.yaml"
            file.write_text(text.replace("may_call_models: true", f"may_call_models: {may_call}".lower()))
            return load_config(file, {"NEEV_API_KEY": "sk-nc-x", "LITELLM_MASTER_KEY": "sk-x"})

        return load

    def test_offers_no_keys_that_cannot_be_made(self, config):
        said = welcome("http://gateway/v1", "sk-master", config(may_call=True), None)
        assert "Bearer sk-master" in said
        assert "keys create" not in said

    def test_makes_a_key_for_the_call_if_the_master_key_may_not(self, config):
        said = welcome("http://gateway/v1", "sk-master", config(may_call=False), "neev-gateway keys create")
        assert "export KEY=$(neev-gateway keys create -q)" in said
        assert "Bearer $KEY" in said
        assert "Bearer sk-master" not in said
        assert 'api_key=os.environ["KEY"]' in said

    @pytest.mark.parametrize("may_call", [True, False])
    def test_says_where_a_key_stands_that_is_no_variables(self, config, may_call):
        loaded = config(may_call=may_call)
        said = welcome("http://gateway/v1", None, loaded, "neev-gateway keys create")
        place = f"general_settings.master_key of {loaded.path}"
        assert re.search(rf"^A\w+ key +{re.escape(place)}$", said, re.MULTILINE)
        assert (f"export KEY=...  # {place}\n" in said) == may_call
        assert said.count("export KEY=") == 1
        assert "Bearer $KEY" in said

    def test_shows_no_key_of_the_file_and_no_variable_that_is_not_set(self, tmp_path):
        written = "sk-" + "w" * 40
        text = (ROOT / "proxy_config.yaml").read_text()
        file = tmp_path / "own.yaml"
        file.write_text(text.replace("os.environ/LITELLM_MASTER_KEY", written))
        with serving(tmp_path, "--no-litellm", "--engine", "echo", "--store", "none", config=file) as served:
            assert f"general_settings.master_key of {file}" in served.output
            assert written not in served.output
            assert "LITELLM_MASTER_KEY" not in served.output

    def test_names_a_command_that_can_be_run(self, echoing):
        (line,) = [line for line in echoing.output.splitlines() if line.startswith("A key for somebody: ")]
        words = [*shlex.split(line.removeprefix("A key for somebody: ")), "--json"]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert json.loads(done.stdout)["alias"] == "NAME", done
        listed = subprocess.run(
            [words[0], "keys", "list", "--state", str(echoing.state)],
            cwd=ROOT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert "NAME" in listed.stdout


def test_more_stop_strings_than_four_are_refused_and_not_cut(echoing):
    body = {"model": "gpt-oss-120b", "stop": list("abcde"), "messages": [{"role": "user", "content": "x"}]}
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(echoing, "/v1/chat/completions", body)
    with caught.value as error:
        assert error.code == 400
        assert json.load(error)["error"]["param"] == "stop"


def test_says_what_it_started(served):
    assert "engine local" in served.output
    assert "LiteLLM" in served.output


def test_nothing_of_litellms_own_reaches_upstream(echoing):
    body = {
        "model": "gpt-oss-120b",
        "stream": True,
        "messages": [{"role": "user", "content": "Hi"}],
        "seed": 7,
    }
    urllib.request.urlopen(
        urllib.request.Request(echoing.emulator_url + "/_emulator/requests", method="DELETE")
    ).close()
    post(echoing, "/v1/chat/completions", body).read()
    with urllib.request.urlopen(echoing.emulator_url + "/_emulator/requests") as response:
        sent = [r["body"] for r in json.load(response)["requests"] if r["path"].endswith("/completions")]
    assert sent == [{**body, "stream_options": {"include_usage": True}}]


def test_contacts_nothing_but_loopback(served):
    with post(served, "/v1/chat/completions", {"model": "llama-3.1-8b-instant", "stream": True, "max_tokens": 3,
                                               "messages": [{"role": "user", "content": "Hi"}]}) as response:  # fmt: skip
        assert response.read().strip().endswith(b"[DONE]")
    assert served.refused_connections() == ""


def test_the_key_is_kept_for_the_next_start_and_only_its_owner_can_read_it(served):
    file = served.state / "master_key"
    assert file.read_text().strip() == served.key
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_key_stands_in_no_command_line_and_no_log(served):
    for pid in served.descendants():
        assert served.key.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    for log in (served.state / "log").iterdir():
        assert served.key not in log.read_text()


@pytest.mark.parametrize(
    "model", [m for m in Catalog.load() if m.modality == "chat" and m.price], ids=lambda model: model.id
)
def test_no_priced_model_is_free(served, echoing, model):
    """On the fast path and through LiteLLM."""
    body = {"model": model.id, "max_tokens": 2, "messages": [{"role": "user", "content": "Hi"}]}
    for gateway, header in ((served, "x-neev-cost-usd"), (echoing, "x-litellm-response-cost")):
        with post(gateway, "/v1/chat/completions", body) as response:
            usage = json.load(response)["usage"]
            cost = float(response.headers[header])
        nanos = (
            usage["prompt_tokens"] * model.price.prompt_nanos
            + usage["completion_tokens"] * model.price.completion_nanos
        )
        assert nanos > 0
        assert round(cost * 1e9) == nanos


class TestStopping:
    def test_ends_cleanly_leaves_no_process_and_starts_again_with_the_same_key(self, tmp_path):
        keys = []
        for number in (signal.SIGINT, signal.SIGTERM):
            with serving(tmp_path, "--engine", "echo") as running:
                below = running.descendants()
                assert len(below) >= 2
                assert running.stop(number) == 0
                assert not any(exists(pid) for pid in below)
                keys.append(running.key)
        assert keys[0] == keys[1]

    def test_a_litellm_that_dies_is_started_again_and_the_fast_path_does_not_notice(self, tmp_path):
        def status(path: str, body: dict) -> int:
            try:
                with post(running, path, body) as response:
                    return response.status
            except urllib.error.HTTPError as error:
                with error:
                    return error.code

        chat = {"model": "gpt-oss-120b", "messages": [{"role": "user", "content": "Hi"}]}
        messages = {**chat, "max_tokens": 5}
        with serving(tmp_path, "--engine", "echo") as running:
            assert status("/v1/messages", messages) == 200
            (victim,) = [
                p
                for p in running.descendants()
                if b"litellm_server" in Path(f"/proc/{p}/cmdline").read_bytes()
            ]
            os.kill(victim, signal.SIGKILL)
            seen = []
            deadline = time.monotonic() + 60
            while not seen or seen[-1] != 200:
                assert time.monotonic() < deadline, "LiteLLM did not come back"
                assert status("/v1/chat/completions", chat) == 200
                seen.append(status("/v1/messages", messages))
                time.sleep(0.1)
            assert set(seen) == {503, 200}


@pytest.mark.parametrize(
    ("fault", "status"),
    [("status=400", 400), ("status=401", 502), ("retry-after=3", 429), ("status=503", 502)],
)
def test_a_fault_of_upstream_reaches_the_client_as_an_openai_error(echoing, fault, status):
    body = {
        "model": "gpt-oss-120b",
        "num_retries": 0,
        "messages": [{"role": "user", "content": f"x-neev-fault: {fault}\nhello"}],
    }
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(echoing, "/v1/chat/completions", body)
    with caught.value as error:
        assert error.code == status
        assert set(json.load(error)["error"]) >= {"message", "type", "param", "code"}


class TestLiteLLMAlone:
    def test_litellm_alone_serves_the_same_file(self, tmp_path, emulator):
        """`litellm --config proxy_config.yaml`, without our command."""
        import subprocess
        import sys
        import time

        from tests.proxy.serving import free_port

        port = free_port()
        environ = {**os.environ, "NEEV_API_KEY": emulator.api_key, "NEEV_BASE_URL": emulator.base_url,
                   "LITELLM_MASTER_KEY": "sk-" + "m4ster-k3y-" * 5}  # fmt: skip
        process = subprocess.Popen(
            [os.path.join(os.path.dirname(sys.executable), "litellm"), "--config", "proxy_config.yaml",
             "--host", "127.0.0.1", "--port", str(port)],
            cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/liveliness", timeout=1):
                        break
                except OSError:
                    assert time.monotonic() < deadline
                    assert process.poll() is None
                    time.sleep(0.2)
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/v1/chat/completions",
                data=json.dumps(
                    {"model": "gpt-oss-20b", "messages": [{"role": "user", "content": "a b c"}]}
                ).encode(),
                headers={
                    "Authorization": f"Bearer {environ['LITELLM_MASTER_KEY']}",
                    "Content-Type": "application/json",
                },
            )
            with urllib.request.urlopen(request, timeout=30) as response:
                assert json.load(response)["choices"][0]["message"]["content"] == "a b c"
        finally:
            process.terminate()
            process.wait(30)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [401, 402, 403])
def test_trouble_with_our_account_is_a_502_and_never_retried(echoing, status, stream):
    urllib.request.urlopen(
        urllib.request.Request(echoing.emulator_url + "/_emulator/requests", method="DELETE")
    ).close()
    body = {
        "model": "gpt-oss-20b",
        "stream": stream,
        "messages": [{"role": "user", "content": f"x-neev-fault: status={status}\nx"}],
    }
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(echoing, "/v1/chat/completions", body)
    with caught.value as error:
        assert error.code == 502
        assert "your key" in json.load(error)["error"]["message"]
    with urllib.request.urlopen(echoing.emulator_url + "/_emulator/requests") as response:
        assert len([r for r in json.load(response)["requests"] if r["path"].endswith("/completions")]) == 1


class TestTheProxysDoor:
    """Bad input is refused by the contract's words, before LiteLLM routes and retries it."""

    def refused(self, echoing, body, path: str = "/v1/chat/completions") -> tuple[int, dict, float]:
        began = time.monotonic()
        with pytest.raises(urllib.error.HTTPError) as caught:
            post(echoing, path, body)
        with caught.value as error:
            return error.code, json.load(error)["error"], time.monotonic() - began

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"messages": []}, "messages"),
            ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
            ({"messages": ["x"]}, "messages[0]"),
            ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
            ({"temperature": 3}, "temperature"),
            ({"n": 129}, "n"),
            ({"stop": list("abcde")}, "stop"),
            ({"api_key": "sk-nc-chosen-by-the-client"}, "api_key"),
            ({"extra_headers": {"x": "y"}}, "extra_headers"),
        ],
    )
    def test_chat(self, echoing, fields, param):
        body = {"model": "gpt-oss-120b", "messages": [{"role": "user", "content": "x"}], **fields}
        status, error, seconds = self.refused(echoing, body)
        assert (status, error["param"]) == (400, param)
        assert "Traceback" not in error["message"]
        assert "sk-nc-chosen" not in str(error)
        assert seconds < 2  # not retried

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"model": "gpt-oss-120b"}, "model"),
            ({"input": ""}, "input"),
            ({"speed": 9}, "speed"),
            ({"response_format": "wav"}, "response_format"),
            ({"api_key": "sk-nc-chosen-by-the-client"}, "api_key"),
        ],
    )
    def test_speech(self, echoing, fields, param):
        body = {"model": "tts-1", "voice": "alloy", "input": "x", **fields}
        status, error, _ = self.refused(echoing, body, "/v1/audio/speech")
        assert (status, error["param"]) == (400, param)
