"""How the routing tests build routers and walk plans without any upstream."""

from __future__ import annotations

import random
from typing import Any

import yaml

from neev_provider.config import load_config
from neev_provider.errors import NeevError, UpstreamError, from_upstream
from neev_provider.routing import Attempt, HandOver, Router

ENVIRON = {"NEEV_API_KEY": "sk-nc-x"}
A, B, C = "gpt-oss-120b", "gpt-oss-20b", "deepseek-v3-2"


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class NoJitter(random.Random):
    """Chooses by its seed, but adds nothing to waits."""

    def random(self) -> float:
        return 0.0


def deployment(
    name: str, model: str = A, *, info: dict[str, Any] | None = None, **params: Any
) -> dict[str, Any]:
    entry = {"model_name": name, "litellm_params": {"model": f"neev/{model}", **params}}
    return entry if info is None else {**entry, "model_info": info}


def build(
    tmp_path, *entries, clock=None, rng=None, environ=ENVIRON, sections=None, **router_settings
) -> Router:
    """A router for these entries and settings, read from a file as in real life."""
    document = {"model_list": list(entries), "router_settings": router_settings, **(sections or {})}
    file = tmp_path / "proxy_config.yaml"
    file.write_text(yaml.safe_dump(document))
    return Router(load_config(file, environ), environ, clock=clock or Clock(), rng=rng or random.Random(1))


def failure(status: int, *, retry_after: str | None = None) -> NeevError:
    return from_upstream(status, b"{}", retry_after=retry_after)


TOO_LONG = from_upstream(400, b'{"error": {"code": "context_length_exceeded", "message": "too long"}}')
UNREACHABLE = UpstreamError("upstream_unavailable", "away")


def walk(router: Router, name: str, failures: dict[str, NeevError] | NeevError, **kwargs) -> list[str]:
    """Ask once; return the deployments called, ending in `ok`, `-> NAME` or the error's code.

    Args:
        failures: by deployment; those not named succeed. One error stands for all.
    """
    plan = router.plan(router.resolve(name), **kwargs)
    called = []
    while True:
        match plan.next():
            case None:
                return [*called, plan.error.code]
            case HandOver(model_name):
                return [*called, f"-> {model_name}"]
            case Attempt(deployment):
                called.append(deployment.name)
                error = failures if isinstance(failures, NeevError) else failures.get(deployment.name)
                if error is None:
                    plan.succeeded()
                    return [*called, "ok"]
                plan.failed(error)


def waits(router: Router, name: str, error: NeevError) -> list[float]:
    """Return what is waited before each attempt of a request that only fails."""
    plan = router.plan(router.resolve(name))
    seconds = []
    while isinstance(step := plan.next(), Attempt):
        seconds.append(step.wait)
        plan.failed(error)
    return seconds
