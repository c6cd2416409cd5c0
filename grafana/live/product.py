"""The product as a team runs it: two workers, LiteLLM, an emulator in NeevAI's place, teams, keys and budgets.

Started from the shipped configuration with what routing needs to have something to do: two deployments of a model, a
fallback, a model whose account is refused. Called by tests/system and `preview/`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from benchmarks.processes import tree
from grafana.live.processes import free_port, running
from neev_provider.admission.keys import Keys
from neev_provider.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "BALANCED",
    "BROKEN",
    "FALLING",
    "REFUSED",
    "UNPRICED",
    "VOICE",
    "Product",
    "hand_out_keys",
    "product",
]

ROOT: Final = Path(__file__).resolve().parents[2]

BALANCED: Final = "gpt-oss-120b"
"""A model with two deployments."""
FALLING: Final = "gpt-oss-20b"
"""A model that is not tried again but falls back to `BALANCED`."""
REFUSED: Final = "glm-4-7"
"""A model of an account of its own, so that upstream can refuse it alone."""
BROKEN: Final = "minimax-m2.7-highspeed"
"""A model with two deployments that upstream refuses, so that they are left alone for a while."""
UNPRICED: Final = "kimi-k3"
VOICE: Final = "tts-1"

_TEAMS: Final[dict[str, dict[str, Any]]] = {
    "research": {"max_budget": 1.2, "budget_duration": "1d"},
    "product": {"max_budget": 25, "budget_duration": "30d"},
    "support": {"max_budget": 6, "budget_duration": "1mo"},
}
_KEYS: Final[dict[str, tuple[str | None, dict[str, Any]]]] = {
    "notebooks": ("research", {"max_budget": 0.9, "budget_duration": "1d"}),
    "batch-eval": ("research", {"max_budget": 0.35, "budget_duration": "1d"}),
    "assistant": ("product", {"max_budget": 9, "budget_duration": "7d"}),
    "search": ("product", {}),
    "chatbot": ("support", {"max_budget": 4, "budget_duration": "30d"}),
    "limited": ("support", {"rpm_limit": 2}),
    "ci": (None, {"max_budget": 0.05}),
    "free": (None, {}),
}


@dataclass(frozen=True)
class Product:
    """A running product.

    Attributes:
        url: of its API.
        metrics: host and port of its metrics.
        state: its directory.
        process: id of `serve`.
    """

    url: str
    metrics: str
    state: Path
    process: int

    def kill_litellm(self) -> None:
        """Kill LiteLLM, without a word, as the kernel does when memory is short; `serve` starts it anew."""
        for process in tree(self.process):
            with contextlib.suppress(OSError):  # it may be gone by now
                if b"litellm_server" in Path(f"/proc/{process.pid}/cmdline").read_bytes():
                    os.kill(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def product(folder: Path) -> Iterator[Product]:
    """Serve until the block is left; everything it writes is below `folder`."""
    port, metrics_port = free_port(), free_port()
    state = folder / "state"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NEEV_", "LITELLM_"))}
    config = folder / "proxy_config.yaml"
    config.write_text(yaml.safe_dump(_config(), sort_keys=False))
    command = [
        *(sys.executable, "-m", "neev_provider", "serve", "--config", str(config), "--state", str(state)),
        *("--port", str(port), "--metrics-port", str(metrics_port), "--workers", "2", "--engine", "echo"),
        *("--log-level", "warning"),
    ]
    url = f"http://127.0.0.1:{port}"
    log = folder / "serve.log"
    with running(command, ready=f"{url}/readyz", log=log, folder=ROOT, environ=clean) as process:
        yield Product(url, f"127.0.0.1:{metrics_port}", state, process.pid)


def _config() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "proxy_config.yaml").read_text())
    for deployment in config["model_list"]:
        if deployment["model_name"] in {FALLING, REFUSED, BROKEN}:
            deployment["litellm_params"]["num_retries"] = 0
    for twice in (BALANCED, BROKEN):
        [one] = [one for one in config["model_list"] if one["model_name"] == twice]
        config["model_list"].append({**one, "litellm_params": dict(one["litellm_params"])})
    config["router_settings"] |= {"fallbacks": [{FALLING: [BALANCED]}], "cooldown_time": 20}
    config["neev"]["models"] = [
        {"id": VOICE, "modality": "speech", "voices": "any", "price": {"characters": 15}}
    ]
    config["neev"]["admission"] |= {"max_budget": 120, "budget_duration": "1mo"}
    return config


async def hand_out_keys(running_product: Product) -> dict[str, str]:
    """Make teams and keys with budgets; return tokens by alias."""
    tokens = {}
    address = (running_product.state / "run" / "store").read_text().strip()
    async with Store.from_url(address) as store:
        keys = Keys(store)
        for name, attributes in _TEAMS.items():
            await keys.create_team({"alias": name, **attributes}, team_id=name, by="preview")
        for name, (team, attributes) in _KEYS.items():
            made = await keys.create_key({"alias": name, **attributes}, team=team, by="preview")
            tokens[name] = made.token
    return tokens
