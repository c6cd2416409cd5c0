"""The commands beside a running gateway: they work on its store, and what they change holds for its next request."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import requests

from tests.proxy.serving import serving

HELLO = {"model": "gpt-oss-20b", "messages": [{"role": "user", "content": "Hello."}], "max_tokens": 5}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    words = ("--no-litellm", "--engine", "echo", "--workers", "2")
    with serving(tmp_path_factory.mktemp("gateway"), *words) as served:
        yield served


def neev(running, *words: str, **more) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NEEV_", "LITELLM_"))}
    done = subprocess.run(
        [sys.executable, "-m", "neev_provider", *words, "--state", str(running.state)],
        capture_output=True, text=True, timeout=60, cwd=running.state, env=clean, **more)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def call(running, token: str) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return requests.post(f"{running.base_url}/chat/completions", json=HELLO, headers=headers, timeout=30)


def test_a_key_is_good_at_once_and_revoked_at_once(running):
    token = neev(running, "keys", "create", "--alias", "alice", "--budget", "1", "-q").strip()
    costs = []
    for _ in range(4):
        answer = call(running, token)
        assert answer.status_code == 200
        costs.append(answer.headers["x-neev-cost-usd"])
    nanos = sum(int(cost.replace(".", "")) for cost in costs)
    assert json.loads(neev(running, "keys", "info", "alice", "--json"))["spend_nanos"] == nanos
    (row,) = json.loads(neev(running, "spend", "--by", "key", "--json"))["rows"]
    assert (row["key_alias"], row["requests"], row["spend_nanos"]) == ("alice", 4, nanos)
    neev(running, "keys", "revoke", "alice", "--yes")
    assert [call(running, token).status_code for _ in range(4)] == [401] * 4


def test_doctor_looks_at_its_store(running, tmp_path):
    findings = json.loads(neev(running, "doctor", "--json", "-c", f"{os.getcwd()}/proxy_config.yaml"))
    assert [finding["status"] for finding in findings if finding["part"] == "store"] == ["ok"]
