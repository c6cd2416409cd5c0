"""One gateway for all clients, that retries nothing itself, so that what is counted are the clients' own attempts."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request

import pytest
import yaml

from tests.proxy.serving import ROOT, Served, serving
from tests.system.clients.matrix import PROGRAMS, Client

RETRY_AFTER = 3  # seconds; more than any of the clients waits of its own accord
PROMPTS = {
    "chat": "one two three",
    "stream": "alpha beta gamma",
    "slow_stream": "x-neev-echo: rate=3\nalpha beta gamma",
    "tool": "What is the weather in Pune?",
    "broken_stream": "x-neev-fault: error-after=2\nalpha beta gamma delta",
    "broken_once": "x-neev-fault: error-after=2,times=1,id=broken-once\nalpha beta gamma delta",
    "retried": "x-neev-fault: status=503,times=1,id=retried\nback again",
    "waited": f"x-neev-fault: status=429,retry-after={RETRY_AFTER},times=1,id=waited\nback later",
    "gave_up": "x-neev-fault: status=503,id=gave-up\nnever",
}


@pytest.fixture(scope="session")
def gateway(tmp_path_factory):
    directory = tmp_path_factory.mktemp("clients")
    config = yaml.safe_load((ROOT / "proxy_config.yaml").read_text())
    config["router_settings"]["num_retries"] = 0
    file = directory / "proxy_config.yaml"
    file.write_text(yaml.safe_dump(config))
    with serving(directory, "--engine", "echo", config=file) as running:
        yield running


def emulator(gateway: Served, method: str, path: str) -> bytes:
    request = urllib.request.Request(gateway.emulator_url + path, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read()


def environment(gateway: Served, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "OPENAI_BASE_URL": gateway.base_url,
        "OPENAI_API_KEY": gateway.key,
        # Otherwise LiteLLM asks the internet for prices first, and waits for it.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        **more,
    }


class Sighting:
    """What one client printed; the attempts that the emulator saw meanwhile; the budget refusals in the gateway's log."""

    def __init__(self, seen: dict, requests: list[dict], over_budget: int):
        self.seen = seen
        self.requests = requests
        self.over_budget = over_budget

    def attempts(self, case: str) -> list[dict]:
        """Return the emulator's requests that belong to `case`, in the order of arrival."""
        prompt = json.dumps(PROMPTS[case])[1:-1]
        return [one for one in self.requests if prompt in json.dumps(one["body"])]


def budget_refusals(gateway: Served) -> int:
    return gateway.log().count('"error":"budget_exceeded"')


@pytest.fixture(scope="session")
def poor_key(gateway) -> str:
    """A key whose budget pays for no call at all."""
    body = json.dumps({"key_alias": "poor", "max_budget": 1e-7, "budget_duration": "30d"}).encode()
    request = urllib.request.Request(gateway.root_url + "/key/generate", body, gateway.headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)["key"]


@pytest.fixture(scope="session")
def saw(gateway, poor_key):
    """Return a function that runs a client's program once and tells what it saw."""
    known: dict[str, Sighting] = {}

    def run(client: Client) -> Sighting:
        if client.name not in known:
            emulator(gateway, "DELETE", "/_emulator")
            refused = budget_refusals(gateway)
            done = subprocess.run(
                [ROOT / client.interpreter, PROGRAMS / client.program],
                env=environment(gateway, NEEV_TEST_PROMPTS=json.dumps(PROMPTS), NEEV_TEST_POOR_KEY=poor_key),
                capture_output=True,
                text=True,
                timeout=110,
            )
            assert done.returncode == 0, done.stderr
            requests = json.loads(emulator(gateway, "GET", "/_emulator/requests"))["requests"]
            refused = budget_refusals(gateway) - refused
            known[client.name] = Sighting(json.loads(done.stdout), requests, refused)
        return known[client.name]

    return run
