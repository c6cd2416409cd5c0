"""What needs a gateway of its own: keys taken over from it by LiteLLM's command, and its store away."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from litellm.proxy.client.cli import cli

from tests.admin.conftest import Admin
from tests.gateway.conftest import own_config
from tests.proxy.serving import serving


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    words = ("--no-litellm", "--engine", "echo", "--store", "embedded", "--upstream", "emulator")
    with serving(folder, *words, config=own_config(folder)) as running:
        yield Admin(running)


def test_litellms_command_takes_keys_over(admin, source, tmp_path):
    for number in range(101):  # more than one of its pages
        source.post("/key/generate", key_alias=f"moved {number}", models=["house"])
    spender = source.post("/key/generate", key_alias="has spent", max_budget=1)
    assert source.chat(spender["key"]).status_code == 200
    deadline = time.monotonic() + 10
    while source.get("/key/info", key=spender["token"])["info"]["spend"] == 0:
        assert time.monotonic() < deadline
    env = {
        "LITELLM_PROXY_URL": admin.served.root_url,
        "LITELLM_PROXY_API_KEY": admin.served.key,
        "HOME": str(tmp_path),
    }
    words = ("--source-base-url", source.served.root_url, "--source-api-key", source.served.key)
    output = CliRunner().invoke(cli, ["keys", "import", *words], env=env).output
    assert "Successfully imported: 101" in output
    # What it has spent cannot be set, so it is not taken over silently with a budget that begins anew.
    assert "Failed to import key has spent" in output
    (moved,) = admin.get("/key/list", key_alias="moved 100", return_full_object="true")["keys"]
    assert moved["models"] == ["house"]


def test_while_the_store_is_away_everyone_is_told_within_its_bound(source):
    key = source.post("/key/generate")["key"]
    (valkey,) = [pid for pid in source.served.descendants() if is_valkey(pid)]
    os.kill(valkey, signal.SIGSTOP)
    try:
        for method, path, words in (
            ("GET", "/key/list", {}),
            ("GET", "/key/info", {"key": key}),
            ("POST", "/key/generate", {}),
            ("POST", "/team/new", {}),
            ("GET", "/spend/daily", {}),
        ):
            answer = source.send(method, path, **words)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
            assert int(answer.headers["retry-after"]) > 0
        assert source.refused("GET", "/key/list", key="nonsense")[:2] == (401, "invalid_api_key")
    finally:
        os.kill(valkey, signal.SIGCONT)
    deadline = time.monotonic() + 10
    while source.send("GET", "/key/list").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_valkey(pid: int) -> bool:
    return b"valkey-server" in Path(f"/proc/{pid}/cmdline").read_bytes()
