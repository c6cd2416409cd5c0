"""The clients, and what each of them shows its user: the tests hold it against the programs, docs/clients.md against this.

Data only. `programs/` has one program for each client, which prints what it saw as JSON.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[3]
PROGRAMS = Path(__file__).parent / "programs"
NODE_MODULES = PROGRAMS / "node" / "node_modules"
WIRES = {"chat": "/v1/chat/completions", "messages": "/v1/messages"}


@dataclass(frozen=True, slots=True)
class Client:
    """One client: how it is run, and the classes that its errors have.

    Attributes:
        name: Also the heading of its section in docs/clients.md.
        package: As its lock names it; `lock` is that file.
        interpreter: What runs `program`, from the project's folder.
        errors: Class by case; `exit 1` where the client is a command, `printed` where it ends with 0 all the same.
        calls: How often a call that fails for a passing reason is made in all; 0 where the client goes on for a minute.
        calls_over_budget: The same for a call that the key's budget does not pay for.
        tools: "no" where it calls none, "calls them" where it runs the tool and asks again itself.
    """

    name: str
    package: str
    lock: str
    interpreter: str
    program: str
    errors: dict[str, str]
    route: str = WIRES["chat"]
    calls: int = 3
    calls_over_budget: int = 1
    tools: str = "yes"
    statuses: dict[str, int] = field(default_factory=dict)

    @property
    def version(self) -> str:
        text = (ROOT / self.lock).read_text()
        if self.lock.endswith(".json"):
            return json.loads(text)["packages"][f"node_modules/{self.package}"]["version"]
        return re.search(rf"^{re.escape(self.package)}==(\S+)", text, re.MULTILINE)[1]


STATUSES = {"bad_request": 400, "wrong_key": 401, "over_budget": 429, "unknown_model": 404, "gave_up": 502}
NO_STATUS: dict[str, int] = {}
OPENAI = {
    "bad_request": "BadRequestError",
    "wrong_key": "AuthenticationError",
    "over_budget": "RateLimitError",
    "unknown_model": "NotFoundError",
    "gave_up": "InternalServerError",
    "broken_stream": "APIError",
}
NODE_LOCK = "tests/system/clients/programs/node/package-lock.json"
NODE = ".venv-frameworks/bin/node"

CLIENTS = (
    Client(
        "openai for Python",
        "openai",
        "requirements-clients.lock",
        ".venv-clients/bin/python",
        "openai_python.py",
        OPENAI,
        statuses=STATUSES,
    ),
    Client("openai for Node", "openai", NODE_LOCK, NODE, "node/openai_node.js", OPENAI, statuses=STATUSES),
    Client(
        "anthropic for Python",
        "anthropic",
        "requirements-clients.lock",
        ".venv-clients/bin/python",
        "anthropic_python.py",
        {**OPENAI, "broken_stream": "APIStatusError"},
        route=WIRES["messages"],
        statuses=STATUSES,
    ),
    Client(
        "LangChain",
        "langchain-openai",
        "requirements-frameworks.lock",
        ".venv-frameworks/bin/python",
        "langchain_client.py",
        {
            "bad_request": "OpenAIInvalidRequestError",
            "wrong_key": "OpenAIAuthenticationError",
            "over_budget": "OpenAIRateLimitError",
            "unknown_model": "OpenAIModelNotFoundError",
            "gave_up": "OpenAIAPIError",
            "broken_stream": "APIError",
        },
        statuses=STATUSES,
    ),
    Client(
        "pydantic-ai",
        "pydantic-ai-slim",
        "requirements-frameworks.lock",
        ".venv-frameworks/bin/python",
        "pydantic_ai_client.py",
        {
            "bad_request": "ModelRequestRejectedError",
            "wrong_key": "ModelAuthenticationError",
            "over_budget": "ModelQuotaExceededError",
            "unknown_model": "ModelNotFoundError",
            "gave_up": "ModelServerError",
            "broken_stream": "ModelAPIError",
        },
        tools="calls them",
        statuses=STATUSES,
    ),
    Client(
        "Vercel AI SDK",
        "ai",
        NODE_LOCK,
        NODE,
        "node/ai_sdk.js",
        {
            "bad_request": "APICallError",
            "wrong_key": "APICallError",
            "over_budget": "RetryError",
            "unknown_model": "APICallError",
            "gave_up": "RetryError",
            "broken_stream": "StreamProviderError",
        },
        # It obeys no `x-should-retry`.
        calls_over_budget=3,
        tools="calls them",
        statuses=STATUSES,
    ),
    Client(
        "LiteLLM SDK",
        "litellm",
        "requirements.lock",
        ".venv/bin/python",
        "litellm_client.py",
        {
            "bad_request": "BadRequestError",
            # LiteLLM's own mapping; its status says 401.
            "wrong_key": "BadRequestError",
            "over_budget": "RateLimitError",
            "unknown_model": "NotFoundError",
            "gave_up": "BadGatewayError",
            "broken_stream": "MidStreamFallbackError",
        },
        statuses=STATUSES,
    ),
    Client(
        "llm",
        "llm",
        "requirements-frameworks.lock",
        ".venv-frameworks/bin/python",
        "llm_client.py",
        dict.fromkeys(OPENAI, "exit 1"),
        tools="calls them",
        statuses=NO_STATUS,
    ),
    Client(
        "aider",
        "aider-chat",
        "requirements-aider.lock",
        ".venv-aider/bin/python",
        "aider_client.py",
        dict.fromkeys(("bad_request", "wrong_key", "unknown_model"), "printed"),
        calls=0,
        tools="no",
        statuses=NO_STATUS,
    ),
)


def table() -> str:
    """Return the table of docs/clients.md."""
    rows = [
        "| client | version | through | chat, stream | tools | bad request, wrong key, unknown model | budget used up | upstream stays down | stream breaks | attempts |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for client in CLIENTS:
        refused = ", ".join(
            dict.fromkeys(
                shown(client.errors[case]) for case in ("bad_request", "wrong_key", "unknown_model")
            )
        )
        poor = shown(client.errors["over_budget"]) if client.calls else "printed"
        down = shown(client.errors["gave_up"]) if client.calls else "prints it each time"
        broken = shown(client.errors["broken_stream"]) if client.calls else "prints it, asks again"
        attempts = str(client.calls) if client.calls else "for a minute"
        rows.append(
            f"| [{client.name}](#{client.name.lower().replace(' ', '-')}) | {client.version} | `{client.route}` | yes "
            f"| {client.tools} | {refused} | {poor} | {down} | {broken} | {attempts} |"
        )
    return "\n".join(rows)


def shown(error: str) -> str:
    """Return an error's class as code; what is no class stays prose."""
    return error if error in {"printed", "exit 1"} else f"`{error}`"
