"""One gateway of two processes with a store, asked over HTTP as operators and their tools do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from neev_provider.admission.audit import AuditEntry
from neev_provider.admission.keys import Keys
from neev_provider.store import Store
from tests.gateway.conftest import own_config
from tests.proxy.serving import Served, serving

CHAT = "/v1/chat/completions"


@dataclass
class Admin:
    """Asks a gateway; each time on a new connection, so that any of its processes may answer."""

    served: Served

    def send(self, method: str, path: str, *, key: str | None = "master", **words: Any) -> requests.Response:
        token = self.served.key if key == "master" else key
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= words.pop("headers", {})
        return requests.request(method, self.served.root_url + path, headers=headers, timeout=20, **words)

    def post(self, path: str, **fields: Any) -> Any:
        answer = self.send("POST", path, json=fields)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def get(self, path: str, **query: Any) -> Any:
        answer = self.send("GET", path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, method: str, path: str, **words: Any) -> tuple[int, str, str | None]:
        answer = self.send(method, path, **words)
        error = answer.json()["error"]
        return answer.status_code, error["code"], error["param"]

    def chat(self, key: str, *, tokens: int = 10, prompt: int = 5) -> requests.Response:
        text = f"x-neev-echo: tokens={tokens},prompt-tokens={prompt}\nx"
        message = {"role": "user", "content": text}
        return self.send(
            "POST", CHAT, key=key, json={"model": "house", "max_tokens": tokens, "messages": [message]}
        )

    def store_url(self) -> str:
        return (self.served.state / "run" / "store").read_text().strip()

    def audit(self) -> list[AuditEntry]:
        async def read() -> list[AuditEntry]:
            async with Store.from_url(self.store_url()) as store:
                return await Keys(store).audit()

        return asyncio.run(read())


@pytest.fixture(scope="session")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("admin")
    words = ("--no-litellm", "--engine", "echo", "--workers", "2", "--store", "embedded")
    with serving(folder, *words, "--upstream", "emulator", config=own_config(folder)) as running:
        yield Admin(running)


@pytest.fixture
def make_key(admin: Admin) -> Callable[..., dict[str, Any]]:
    return lambda **fields: admin.post("/key/generate", **fields)
