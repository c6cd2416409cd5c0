"""Who is measured: each contestant is data. To add one, add an entry to `CONTESTANTS`.

In `command`, `environ` and the texts of `files`, these words stand for what the rig decides per run:
`{python}`, `{bin}` (its directory), `{dir}` (a fresh directory), `{port}` (where to listen), `{metrics_port}`
(another free one), `{upstream}` (base URL without `/v1`), `{key}` (a fresh master key), `{store}` (URL of a Valkey on
the rig's core), `{virtual_key}` (a key in it, of a team, with every limit and a budget).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from benchmarks.workload import MODEL
from neev_provider.gateway.environment import OFFLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["CONTESTANTS", "Contestant", "filled"]

_REPOSITORY: Final = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Contestant:
    """One server in front of the mock upstream.

    It is ready when it first gives the workload's answer with status 200, so no probe is described.

    Attributes:
        name: for `--only` and the table.
        what: one line for the report.
        command: program and arguments.
        environ: added to the rig's own small environment.
        files: file name in `{dir}` to a function that returns its text.
        headers: of every request; the bearer key by default.
        packages: distributions whose versions belong in the report.
        ready_seconds: how long it may take to become ready.
        without: what it does not do that others do.
        model: that is asked of it.
        many_keys: whether its requests take turns with many keys.
        version: command that prints its version, if it is no Python package.
    """

    name: str
    what: str
    command: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Callable[[], str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=lambda: {"authorization": "Bearer {key}"})
    packages: tuple[str, ...] = ()
    ready_seconds: float = 120.0
    without: str = ""
    model: str = MODEL
    many_keys: bool = False
    version: tuple[str, ...] = ()

    @property
    def needs_store(self) -> bool:
        """Whether it uses the rig's store."""
        return any("{store}" in word for word in self.command)


def filled(text: str, words: Mapping[str, str]) -> str:
    """Return `text` with each `{word}` replaced; other braces stay, because JSON and YAML are full of them."""
    for word, value in words.items():
        text = text.replace("{" + word + "}", value)
    return text


def _shipped_config() -> str:
    return (_REPOSITORY / "proxy_config.yaml").read_text(encoding="utf-8")


def _openai_route_config() -> str:
    """The shipped configuration, with the one model behind LiteLLM's own OpenAI client instead of our adapter."""
    document: dict[str, Any] = yaml.safe_load(_shipped_config())
    entry = next(entry for entry in document["model_list"] if entry["model_name"] == MODEL)
    entry["litellm_params"] |= {
        "model": f"openai/{MODEL}",
        "api_base": "{upstream}/v1",
        "api_key": "sk-bench",
    }
    document["model_list"] = [entry]
    return yaml.safe_dump(document, sort_keys=False)


_UPSTREAM_ENVIRON: Final = {
    "NEEV_BASE_URL": "{upstream}/v1",
    "NEEV_API_KEY": "sk-nc-bench",
    "LITELLM_MASTER_KEY": "{key}",
}
# LiteLLM as its own production guide tunes it, and with nothing downloaded at the start.
_LITELLM_ENVIRON: Final = {
    **_UPSTREAM_ENVIRON,
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
    **OFFLINE,
}
_LITELLM_COMMAND: Final = (
    *("{bin}/litellm", "--config", "{dir}/proxy_config.yaml", "--host", "127.0.0.1", "--port", "{port}"),
    *("--num_workers", "1"),
)

_UNCOUNTED_COMMAND: Final = (
    *("{python}", "-m", "neev_provider", "serve", "--config", "{dir}/proxy_config.yaml"),
    *("--host", "127.0.0.1", "--port", "{port}", "--workers", "1"),
    *("--no-litellm", "--upstream", "{upstream}/v1", "--state", "{dir}/state"),
)
_GATEWAY_COMMAND: Final = (*_UNCOUNTED_COMMAND, "--metrics-port", "{metrics_port}")

CONTESTANTS: Final = (
    Contestant(
        name="gateway",
        what="neev-gateway: one worker, a key and a team with every limit and a budget, without the LiteLLM process",
        command=(*_GATEWAY_COMMAND, "--store", "{store}"),
        environ=_UPSTREAM_ENVIRON,
        files={"proxy_config.yaml": _shipped_config},
        headers={"authorization": "Bearer {virtual_key}"},
        packages=("neev-provider",),
        ready_seconds=30.0,
    ),
    Contestant(
        name="gateway-static",
        what="neev-gateway without a store: one worker, the master key, no limits",
        command=(*_GATEWAY_COMMAND, "--store", "none"),
        environ=_UPSTREAM_ENVIRON,
        files={"proxy_config.yaml": _shipped_config},
        packages=("neev-provider",),
        ready_seconds=30.0,
    ),
    Contestant(
        name="gateway-uncounted",
        what="the same gateway with --metrics-port 0: what its metrics cost is the difference",
        command=(*_UNCOUNTED_COMMAND, "--metrics-port", "0", "--store", "{store}"),
        environ=_UPSTREAM_ENVIRON,
        files={"proxy_config.yaml": _shipped_config},
        headers={"authorization": "Bearer {virtual_key}"},
        packages=("neev-provider",),
        ready_seconds=30.0,
    ),
    Contestant(
        name="bare-copy",
        what="no gateway: bytes copied between two sockets on the same event loop, without HTTP",
        command=(
            *("{python}", "-m", "benchmarks.bare_copy", "--host", "127.0.0.1"),
            *("--port", "{port}", "--upstream", "{upstream}"),
        ),
        environ={"PYTHONPATH": str(_REPOSITORY)},
        packages=("uvloop",),
    ),
    Contestant(
        name="litellm",
        what="LiteLLM proxy with the same proxy_config.yaml: the neev adapter (CustomLLM)",
        command=_LITELLM_COMMAND,
        environ=_LITELLM_ENVIRON,
        files={"proxy_config.yaml": _shipped_config},
        packages=("litellm", "neev-provider"),
    ),
    Contestant(
        name="litellm-openai",
        what="LiteLLM proxy with the same settings and its own openai/ route",
        command=_LITELLM_COMMAND,
        environ=_LITELLM_ENVIRON,
        files={"proxy_config.yaml": _openai_route_config},
        packages=("litellm",),
    ),
)
