"""`neev-gateway serve` where there is no network: a namespace of its own with nothing but loopback in it.

A process that reaches for another host there finds no route, and the kernel counts it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.proxy.serving import ROOT, descendants, exists
from tests.system.starting import wait_until_ready

pytestmark = [pytest.mark.system, pytest.mark.timeout(200)]

BASE_URL = "http://127.0.0.1:4000/v1"  # the ports of a namespace are its own


def ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr.strip()} (needs root and CAP_SYS_ADMIN)"
    return done.stdout


@dataclass(frozen=True)
class Namespace:
    name: str

    def command(self, *words: str | Path) -> list[str]:
        return ["ip", "netns", "exec", self.name, *map(str, words)]

    def run(self, *words: str | Path) -> bytes:
        done = subprocess.run(self.command(*words), capture_output=True, timeout=100)
        assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")
        return done.stdout

    def interfaces(self) -> list[str]:
        return [link["ifname"] for link in json.loads(ip("-n", self.name, "-json", "link", "show"))]

    def attempts_to_leave(self) -> int:
        """Return how often the kernel was asked for a way to a host and had none."""
        names, values = [
            line.split()
            for line in self.run("cat", "/proc/net/snmp").decode().splitlines()
            if line.startswith("Ip:")
        ]
        version_6 = dict(line.split() for line in self.run("cat", "/proc/net/snmp6").decode().splitlines())
        return int(values[names.index("OutNoRoutes")]) + int(version_6.get("Ip6OutNoRoutes", 0))


@pytest.fixture(scope="module")
def namespace():
    name = f"neev-test-{os.getpid()}"
    ip("netns", "add", name)
    try:
        yield Namespace(name)
    finally:
        ip("netns", "delete", name)


@dataclass(frozen=True)
class Closed:
    """A `serve` in the namespace."""

    namespace: Namespace
    process: subprocess.Popen[bytes]
    output: Path
    key: str

    def curl(self, path: str, body: dict, *options: str | Path) -> bytes:
        return self.namespace.run(
            *("curl", "--silent", "--show-error", "--fail-with-body", "--no-buffer", *options),
            *("-H", f"Authorization: Bearer {self.key}", "-H", "Content-Type: application/json"),
            *("--data", json.dumps(body), BASE_URL + path),
        )


@pytest.fixture(scope="module")
def closed(namespace, tmp_path_factory):
    # While loopback is down even 127.0.0.1 has no route: the counter that the last test reads does count.
    before = namespace.attempts_to_leave()
    assert subprocess.run(namespace.command("curl", "--silent", BASE_URL)).returncode != 0
    assert namespace.attempts_to_leave() > before
    ip("-n", namespace.name, "link", "set", "lo", "up")
    assert namespace.interfaces() == ["lo"]

    directory = tmp_path_factory.mktemp("closed")
    output = directory / "output"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NEEV_", "LITELLM_"))}
    command = namespace.command(
        sys.executable, "-m", "neev_provider", "serve", "--state", directory / "state"
    )
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**clean, "PYTHONUNBUFFERED": "1"}, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        wait_until_ready(process, output)
        yield Closed(namespace, process, output, (directory / "state" / "master_key").read_text().strip())
    finally:
        end(process)


def end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def test_a_chat_is_answered(closed):
    body = {"model": "gpt-oss-120b", "max_tokens": 8, "messages": [{"role": "user", "content": "Say hello."}]}
    answer = json.loads(closed.curl("/chat/completions", body))
    assert answer["choices"][0]["message"]["content"].strip()


def test_a_stream_of_a_llama_model_is_answered_at_once(closed):
    """LiteLLM would download a tokenizer for it, and freeze until that fails."""
    body = {"model": "llama-3.1-8b-instant", "stream": True, "max_tokens": 8,
            "messages": [{"role": "user", "content": "Say hello."}]}  # fmt: skip
    stream = closed.curl("/chat/completions", body, "--max-time", "20").decode()
    events = [line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    deltas = [choice["delta"] for event in events[:-1] for choice in json.loads(event)["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas).strip()


def test_speech_is_answered_with_sound(closed, tmp_path):
    file = tmp_path / "hello.mp3"
    closed.curl("/audio/speech", {"model": "tts-1", "voice": "alloy", "input": "Hello."}, "--output", file)
    assert file.read_bytes()[:3] == b"ID3" or file.read_bytes()[0] == 0xFF
    assert file.stat().st_size > 1000


def test_stops_cleanly_after_trying_to_reach_nobody(closed):
    """The last one: it stops the server."""
    below = descendants(closed.process.pid)
    assert len(below) >= 2
    closed.process.send_signal(signal.SIGINT)
    assert closed.process.wait(30) == 0
    assert not any(exists(pid) for pid in below)
    assert ip("netns", "pids", closed.namespace.name).split() == []
    assert closed.namespace.attempts_to_leave() == 1  # the fixture's own
