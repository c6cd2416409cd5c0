"""The command line in this process, on a real Valkey that is empty for each test."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass

import pytest

from neev_provider import cli
from neev_provider.admission import Demand, Spent
from neev_provider.admission.virtual import VirtualKeys
from neev_provider.errors import NeevError
from neev_provider.store import Store
from tests.admission.conftest import PATIENT
from tests.store.servers import server


@dataclass
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        assert self.code == 0, self.err
        return json.loads(self.out)

    @property
    def token(self) -> str:
        (line,) = [line for line in self.out.splitlines() if line.startswith("sk-neev-")]
        return line


@pytest.fixture(scope="module")
def _valkey_of_module(tmp_path_factory):
    running = server(tmp_path_factory.mktemp("valkey"), "--appendonly", "yes")
    yield running
    running.stop()


@pytest.fixture
def valkey(_valkey_of_module):
    """An empty Valkey that keeps what it is told."""
    _valkey_of_module.client().flushall()
    return _valkey_of_module


@pytest.fixture
def neev(valkey, monkeypatch, capfd, tmp_path):
    """Runs `neev-gateway` with some words; the store is `valkey`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEEV_STORE", valkey.url)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["neev-gateway", *words])
        capfd.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as exit_:
            code = exit_.code or 0
        return Done(code, *capfd.readouterr())

    return run


class Calls:
    """What a gateway does with keys, without a gateway."""

    def __init__(self, url: str) -> None:
        self.url = url

    def refusal(self, token: str, model: str = "m") -> str | None:
        """The code with which a call is refused; None if it is let in."""
        try:
            self.charge(token, Spent(), model)
        except NeevError as error:
            return error.code
        return None

    def charge(self, token: str, spent: Spent, model: str = "m") -> None:
        async def call() -> None:
            async with Store.from_url(self.url, timing=PATIENT) as store, VirtualKeys(store) as access:
                grant = await access.admit(
                    token, Demand(model, prompt_tokens=1, prompt_nanos=1, completion_nanos=1)
                )
                grant.settle(spent)
                await access.flush()

        asyncio.run(call())


@pytest.fixture
def calls(valkey):
    return Calls(valkey.url)
