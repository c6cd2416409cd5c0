"""`serve --store embedded`: a real Valkey that keeps what was written, for one gateway at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import redis

from tests.proxy.serving import ROOT, serving

WORDS = ("--no-litellm", "--engine", "echo", "--store", "embedded")


def connected(state) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(state / "store" / "valkey.sock"))


def test_what_is_written_survives_a_stop_and_evicts_nothing(tmp_path):
    with serving(tmp_path, *WORDS) as running:
        assert "embedded Valkey" in running.output
        with connected(running.state) as client:
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("appendonly") == {"appendonly": "yes"}
            client.set("kept", "1")
        assert running.stop(signal.SIGTERM) == 0
    with serving(tmp_path, *WORDS) as running, connected(running.state) as client:
        assert client.get("kept") == b"1"


def test_only_its_owner_can_connect(tmp_path):
    with serving(tmp_path, *WORDS) as running:
        assert oct(os.stat(running.state / "store").st_mode)[-3:] == "700"
        assert oct(os.stat(running.state / "store" / "valkey.sock").st_mode)[-3:] == "700"


def test_a_second_gateway_on_the_same_files_is_refused(tmp_path):
    with serving(tmp_path, *WORDS) as running:
        command = [sys.executable, "-m", "neev_provider", "serve", "--state", running.state, "--port", "4999"]
        done = subprocess.run(
            [*command, *WORDS, "--metrics-port", "0"], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 2
    assert "is in use by another neev-gateway. Stop that one, or use another --state." in done.stderr
