"""Runs `neev-gateway serve` as a user does: a process of its own, cut off the network, its output read."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
READY = "Ctrl-C stops everything"
LITELLM_READY = "all its other routes are served too"


@dataclass
class Served:
    """A running `serve`."""

    process: subprocess.Popen[bytes]
    root_url: str
    key: str
    output: str
    seconds: float
    state: Path
    connections: Path
    output_file: Path

    def log(self) -> str:
        """What was written after the welcome, which shows the key: the gateway's log, so far as its lines are whole."""
        written = self.output_file.read_text().partition(READY)[2]
        return written[: written.rfind("\n") + 1]

    @property
    def base_url(self) -> str:
        return self.root_url + "/v1"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}

    @property
    def emulator_url(self) -> str:
        return re.search(r"emulator\s+(http://\S+)", self.output)[1]

    def refused_connections(self) -> str:
        return self.connections.read_text() if self.connections.exists() else ""

    def descendants(self) -> set[int]:
        return descendants(self.process.pid)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


def free_port() -> int:
    """Return a free port below the range that the kernel gives to outgoing connections."""
    while True:
        port = random.randrange(10_000, 20_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@contextlib.contextmanager
def serving(
    tmp_path: Path, *words: str, config: Path | None = None, environ: dict[str, str] | None = None
) -> Iterator[Served]:
    port = free_port()
    tmp_path.mkdir(exist_ok=True)
    connections = tmp_path / "connections"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NEEV_", "LITELLM_"))}
    started = time.monotonic()
    output = tmp_path / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [
                *(
                    sys.executable,
                    "-m",
                    "neev_provider",
                    "serve",
                    "--port",
                    str(port),
                    "--metrics-port",
                    "0",
                ),  # unless `words` say otherwise
                *(
                    "--state",
                    str(tmp_path / "state"),
                    "--config",
                    str(config or ROOT / "proxy_config.yaml"),
                    *words,
                ),
            ],
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={
                **clean,
                "PYTHONPATH": str(Path(__file__).parent / "offline"),
                "NEEV_TEST_CONNECTIONS": str(connections),
                "PYTHONUNBUFFERED": "1",
                **(environ or {}),
            },
        )
    try:
        waits_for = [READY] if "--no-litellm" in words else [READY, LITELLM_READY]
        while not all(said in (text := output.read_text()) for said in waits_for):
            if process.poll() is not None or time.monotonic() - started > 100:
                raise AssertionError(f"serve is not ready (exit code {process.returncode}):\n{text}")
            time.sleep(0.05)
        key = re.search(r"API key\s+(\S+)", text)[1]
        yield Served(
            process,
            f"http://127.0.0.1:{port}",
            key,
            text,
            time.monotonic() - started,
            tmp_path / "state",
            connections,
            output,
        )
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def descendants(pid: int) -> set[int]:
    """Return all processes below `pid`."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found and child not in found}:
        found |= more
    return found - {pid}


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
