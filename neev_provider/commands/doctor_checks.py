"""The checks of `neev-gateway doctor`: each looks at one part and says what it found, and how to mend it.

Nothing is changed. Called by `doctor.py`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import resource
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from neev_provider import config_sync, settings
from neev_provider.commands.opening import StoreChoice, open_store
from neev_provider.config import REFERENCE, load_config
from neev_provider.config_checks import check_for_litellm
from neev_provider.deployment import normalise_base_url
from neev_provider.errors import ConfigError, NeevError
from neev_provider.gateway.environment import EMULATOR_KEY, MASTER_KEY_VARIABLE
from neev_provider.gateway.options import EMULATOR, NO_STORE
from neev_provider.gateway.server_state import ServerOptions
from neev_provider.routing import Router
from neev_provider.store import check_store
from neev_provider.upstream import NO_RETRIES, Deployment, Upstream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from neev_provider.config import ProxyConfig
    from neev_provider.store import StoreHealth

__all__ = ["Finding", "Subject", "check_all"]

_SLOW_STORE: Final = 0.005  # seconds of a round trip; it is on the way of every request
_MOST_SKEW: Final = 2.0  # seconds
_SMALL_MEMORY: Final = 768 * 2**20  # bytes: LiteLLM takes 400 MB, a worker 60
_CGROUP: Final = Path("/sys/fs/cgroup")
_MASTER_KEY: Final = re.compile(r"sk-[\x21-\x7e]{32,}")


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found.

    Attributes:
        part: of the deployment.
        status: how it is.
        what: one sentence.
        remedy: what to do; "" for nothing.
    """

    part: str
    status: Literal["ok", "warning", "error"]
    what: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is looked at.

    Attributes:
        choice: of the store, with the configuration and the state directory.
        upstream: as `serve --upstream`; None for its default.
        environ: of the deployment.
    """

    choice: StoreChoice
    upstream: str | None
    environ: Mapping[str, str] = field(repr=False)

    @property
    def uses_emulator(self) -> bool:
        """Whether `serve` would start the emulator."""
        return self.upstream == EMULATOR or (self.upstream is None and settings.api_key(self.environ) is None)


async def check_all(subject: Subject) -> list[Finding]:
    """Look at everything; what goes wrong in one check is found, and the others go on."""
    findings: list[Finding] = []
    config, found = _configuration(subject)
    findings += found
    if config is not None:
        findings += _prices(config, subject)
    findings += await _guarded("upstream", lambda: _upstream(config, subject))
    findings += await _guarded("store", lambda: _store(config, subject))
    findings += [*_keys(config, subject), *_packages(), *_machine()]
    return findings


async def _guarded(part: str, check: Callable[[], Awaitable[list[Finding]]]) -> list[Finding]:
    try:
        return await check()
    except ConfigError as error:
        return [Finding(part, "error", _sentence(error), error.remedy)]
    except NeevError as error:
        return [Finding(part, "error", error.message)]


def _sentence(error: ConfigError) -> str:
    where = f"{error.source}: {error.place}" if error.place else error.source
    return f"{where} {error.problem}."


def _configuration(subject: Subject) -> tuple[ProxyConfig | None, list[Finding]]:
    path = subject.choice.config
    environ = {settings.API_KEY_VARIABLES[0]: EMULATOR_KEY, MASTER_KEY_VARIABLE: "sk-none", **subject.environ}
    try:
        config = load_config(path, environ)
        router = Router(config, environ)
    except ConfigError as error:
        return None, [Finding("configuration", "error", _sentence(error), error.remedy)]
    names = router.models()
    findings = [Finding("configuration", "ok", f"{path} serves {len(names)} models.")]
    if router.litellm_reason is not None:
        findings.append(
            Finding(
                "configuration",
                "warning",
                f"Everything goes through LiteLLM: {router.litellm_reason}.",
                "Turn that feature off to have chat, models and speech answered at a thirtieth of the cost.",
            )
        )
    if config.neev.litellm.enabled is not False:
        try:
            check_for_litellm(config.document, str(path))
        except ConfigError as error:  # `serve --no-litellm` takes it
            findings.append(Finding("configuration", "warning", _sentence(error), error.remedy))
    findings += _staleness(path, config)
    return config, findings


def _staleness(path: Path, config: ProxyConfig) -> Iterable[Finding]:
    try:
        difference = config_sync.sync(path, config.catalog, check=True)
    except ConfigError:
        return  # a file of the operator's own, without a generated part
    if difference:
        yield Finding(
            "configuration",
            "warning",
            f"The generated part of {path} differs from the catalog.",
            f"neev-gateway models sync-config --config {path}",
        )


def _prices(config: ProxyConfig, subject: Subject) -> list[Finding]:
    environ = {settings.API_KEY_VARIABLES[0]: EMULATOR_KEY, MASTER_KEY_VARIABLE: "sk-none", **subject.environ}
    unpriced = sorted(
        public.name
        for public in Router(config, environ).models()
        if public.model is not None and public.model.price is None
    )
    # LiteLLM reads prices from `model_info` alone.
    unknown_to_litellm = sorted(
        {
            deployment.model_name
            for deployment in config.deployments
            if deployment.neev_id is not None
            and "input_cost_per_token" not in deployment.info
            and (model := config.catalog.get(deployment.neev_id)) is not None
            and model.price is not None
        }
    )
    findings = []
    if unpriced:
        findings.append(
            Finding(
                "prices",
                "warning",
                f"Without a price, so closed to keys with a budget: {', '.join(unpriced)}.",
                "Add the price of your contract under neev.models, or in the entry's model_info.",
            )
        )
    if unknown_to_litellm:
        findings.append(
            Finding(
                "prices",
                "warning",
                f"No price under model_info, where LiteLLM looks for it: {', '.join(unknown_to_litellm)}.",
                f"neev-gateway models sync-config --config {subject.choice.config}",
            )
        )
    return findings or [Finding("prices", "ok", "Every model has a price.")]


async def _upstream(config: ProxyConfig | None, subject: Subject) -> list[Finding]:
    if subject.uses_emulator:
        why = "" if subject.upstream == EMULATOR else f": {settings.API_KEY_VARIABLES[0]} is not set"
        return [
            Finding(
                "upstream",
                "warning",
                f"The emulator stands in for NeevAI{why}.",
                f"For the real one set {settings.API_KEY_VARIABLES[0]} to a NeevAI key of the type 'Model API'.",
            )
        ]
    source = settings.BASE_URL_VARIABLE if subject.upstream is None else "--upstream"
    url = normalise_base_url(subject.upstream or settings.base_url(subject.environ), source=source)
    begun = time.perf_counter()
    async with Upstream(retry=NO_RETRIES) as upstream:
        try:
            listing = await upstream.models(
                Deployment("doctor", url, settings.api_key(subject.environ) or "none")
            )
        except NeevError as error:
            return [_unreachable(url, error)]
    milliseconds = (time.perf_counter() - begun) * 1000
    findings = [
        Finding(
            "upstream",
            "ok",
            f"{url} accepts the key and lists {len(listing)} models ({milliseconds:.0f} ms).",
        )
    ]
    there = {entry["id"] for entry in listing}
    asked = {d.neev_id for d in config.deployments if d.neev_id} if config is not None else set()
    # The list is known to be incomplete (NEEV_API.md): a model that it lacks may still answer.
    missing = sorted(model for model in asked - there if model != "*")
    if missing:
        findings.append(
            Finding(
                "upstream",
                "warning",
                f"Configured but not in the upstream's list: {', '.join(missing)}.",
                "Try one of them; remove those that answer 404.",
            )
        )
    return findings


def _unreachable(url: str, error: NeevError) -> Finding:
    if error.code == "upstream_auth_error":
        return Finding(
            "upstream",
            "error",
            f"{url} does not accept the key (status {error.upstream_status}).",
            f"Set {settings.API_KEY_VARIABLES[0]} to a valid 'Model API' key; see that the account has credit.",
        )
    return Finding(
        "upstream", "error", f"{url}: {error.message}", "Is the URL right, and let through by firewalls?"
    )


async def _store(config: ProxyConfig | None, subject: Subject) -> list[Finding]:
    configured = None if config is None else config.neev.store
    if (subject.choice.store or configured) == NO_STORE:
        return [
            Finding(
                "store",
                "warning",
                "No store: no virtual keys, limits or budgets.",
                "Use --store embedded or a Redis URL.",
            )
        ]
    async with open_store(subject.choice) as store:
        findings: list[Finding] = []
        for health in await check_store(store):
            findings += _store_findings(health)
    return findings


def _store_findings(health: StoreHealth) -> Iterable[Finding]:
    yield Finding(
        "store",
        "ok",
        f"{health.server} is {health.product} {health.version}, "
        f"evicts nothing of ours ({health.policy or 'noeviction'}), "
        f"answers in {health.latency * 1000:.2f} ms.",
    )
    if not health.keeps_data:
        yield Finding(
            "store",
            "error",
            f"{health.server} keeps nothing over a restart: keys and budgets would be lost.",
            "Turn on appendonly (appendfsync everysec).",
        )
    elif not health.append_only:
        yield Finding(
            "store",
            "warning",
            f"{health.server} keeps snapshots alone: a crash loses the spend since the last one.",
            "Turn on appendonly (appendfsync everysec).",
        )
    if health.latency > _SLOW_STORE:
        yield Finding(
            "store",
            "warning",
            f"{health.server} takes {health.latency * 1000:.1f} ms for a round trip, and every request needs one.",
            "Bring it nearer to the gateways.",
        )
    if abs(health.clock_skew) > _MOST_SKEW:
        yield Finding(
            "clock",
            "warning",
            f"The clock of {health.server} is {health.clock_skew:+.1f} s from this machine's. "
            "Limits follow the store's.",
            "Let both follow NTP.",
        )


def _keys(config: ProxyConfig | None, subject: Subject) -> Iterable[Finding]:
    general = {} if config is None else config.document.get("general_settings") or {}
    written = str(general.get("master_key") or REFERENCE + MASTER_KEY_VARIABLE)
    variable = written.removeprefix(REFERENCE)
    given = subject.environ.get(variable)
    if not written.startswith(REFERENCE):
        yield Finding(
            "master key",
            "warning",
            f"It stands in {subject.choice.config} itself, for whoever reads the file.",
            f"Set {MASTER_KEY_VARIABLE}, and write master_key: {REFERENCE}{MASTER_KEY_VARIABLE}.",
        )
    elif not given:
        made = (subject.choice.state / "master_key").exists()
        yield Finding(
            "master key",
            "ok",
            f"{'Kept' if made else 'Will be made at the first start,'} in {subject.choice.state}.",
        )
    elif not _MASTER_KEY.fullmatch(given):
        yield Finding(
            "master key",
            "error",
            f"{variable} is too weak: whoever guesses it spends your money.",
            "Use sk- and at least 32 random characters.",
        )
    else:
        yield Finding("master key", "ok", f"{variable} is strong.")


def _packages() -> Iterable[Finding]:
    try:
        version = importlib.metadata.version("litellm")
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            "LiteLLM", "warning", "LiteLLM is not installed.", "Serve with --no-litellm, or install it."
        )
        return
    if (
        importlib.util.find_spec("opentelemetry") is None
        or importlib.util.find_spec("opentelemetry.sdk") is None
    ):
        # LITELLM.md: without it a failing import is compiled anew on every request, a third of the CPU.
        yield Finding(
            "LiteLLM",
            "warning",
            f"LiteLLM {version} without opentelemetry-sdk tries to import it on every request.",
            "Install opentelemetry-sdk; it need not be turned on.",
        )
    else:
        yield Finding("LiteLLM", "ok", f"LiteLLM {version}, with opentelemetry-sdk for its import.")


def _machine() -> Iterable[Finding]:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * ServerOptions().max_connections + 100
    if files < wanted:
        yield Finding(
            "machine",
            "warning",
            f"{files} open files are allowed; a worker with all its connections needs {wanted}.",
            "Raise the limit (ulimit -n), or lower neev.server.max_connections.",
        )
    else:
        yield Finding("machine", "ok", f"{files} open files are allowed.")
    memory = _cgroup_number("memory.max")
    if memory is not None and memory < _SMALL_MEMORY:
        yield Finding(
            "machine",
            "warning",
            f"The container may use {memory // 2**20} MiB; LiteLLM alone takes 400.",
            "Allow 768 MiB, or serve with --no-litellm.",
        )


def _cgroup_number(name: str) -> int | None:
    """Return a limit of the container; None for none."""
    try:
        text = (_CGROUP / name).read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
