"""The environment of the processes that `serve` starts: keys made or checked, the upstream chosen.

The one place of the gateway that handles secrets at the start. Called by `serve.py`.
"""

from __future__ import annotations

import os
import re
import resource
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from neev_provider import settings
from neev_provider.config import REFERENCE, read_document
from neev_provider.deployment import normalise_base_url
from neev_provider.errors import ConfigError
from neev_provider.gateway.options import EMULATOR

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from neev_provider.gateway.options import Flags

__all__ = ["EMULATOR_KEY", "MASTER_KEY_VARIABLE", "OFFLINE", "Environment", "forbid_core_files", "prepare"]

MASTER_KEY_VARIABLE: Final = "LITELLM_MASTER_KEY"
_PLACE: Final = "general_settings.master_key"
EMULATOR_KEY: Final = "sk-nc-emulator"  # the emulator takes any key of this form
_MASTER_KEY: Final = re.compile(
    r"sk-[\x21-\x7e]{32,}"
)  # LiteLLM's own rule, which it applies to some starts only
_KEY: Final = re.compile(r"[\x21-\x7e]+")

# Nothing but the upstream is ever contacted: LiteLLM reads its own copies of what it would download.
OFFLINE: Final[Mapping[str, str]] = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
    "LITELLM_TELEMETRY": "False",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "OTEL_SDK_DISABLED": "true",
}


@dataclass(frozen=True, slots=True)
class Environment:
    """What the children see.

    Attributes:
        variables: all of them; secrets among them.
        uses_emulator: whether the emulator stands in for NeevAI.
        own_key: whether the master key was made here, and so may be shown.
        key_variable: what holds the master key; None if it stands in the configuration itself.
    """

    variables: dict[str, str] = field(repr=False)
    uses_emulator: bool
    own_key: bool
    key_variable: str | None = MASTER_KEY_VARIABLE


def forbid_core_files() -> None:
    """Keep this process and its children from leaving their memory, with keys and prompts, on disk in a crash."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def prepare(flags: Flags, environ: Mapping[str, str]) -> Environment:
    """Return the children's environment.

    The master key is where LiteLLM looks for it too: in `general_settings.master_key`, itself or by the name of a
    variable, else in `LITELLM_MASTER_KEY`, which is set in any case.

    Raises:
        ConfigError: a key is missing, broken or weak; a URL is none.
    """
    variables = {**OFFLINE, **environ}
    key = settings.api_key(environ)
    uses_emulator = flags.upstream == EMULATOR or (flags.upstream is None and key is None)
    if uses_emulator:
        key = EMULATOR_KEY
    else:
        source = settings.BASE_URL_VARIABLE if flags.upstream is None else "--upstream"
        given = flags.upstream or settings.base_url(environ)
        variables[settings.BASE_URL_VARIABLE] = normalise_base_url(given, source=source)
    if key is None:
        raise ConfigError.missing_variable(
            settings.API_KEY_VARIABLES[0], "Set it to a NeevAI 'Model API' key, or use --upstream emulator."
        )
    if not _KEY.fullmatch(key):
        raise ConfigError(
            settings.API_KEY_VARIABLES[0], "", "holds a character that no key has", "Copy the key again."
        )
    variables[settings.API_KEY_VARIABLES[0]] = key
    written = _written_master_key(flags.config)
    source = MASTER_KEY_VARIABLE
    if written is not None and not written.startswith(REFERENCE):
        variables[MASTER_KEY_VARIABLE] = written  # which `load_config` checks
        return Environment(variables, uses_emulator, own_key=False, key_variable=None)
    if written is not None:
        source = written.removeprefix(REFERENCE)
    if source != MASTER_KEY_VARIABLE:
        if not variables.get(source):
            raise ConfigError(
                str(flags.config),
                _PLACE,
                f"refers to {source}, which is not set",
                f"Set it: export {source}=...",
            )
        variables[MASTER_KEY_VARIABLE] = variables[source]
    own_key = not variables.get(MASTER_KEY_VARIABLE)
    if own_key:
        variables[MASTER_KEY_VARIABLE] = _own_master_key(flags.state)
    if not _MASTER_KEY.fullmatch(variables[MASTER_KEY_VARIABLE]):
        raise ConfigError(
            source,
            "",
            "is too weak: whoever guesses it spends your money",
            "Use sk- and at least 32 random characters"
            + (", or unset it to have one made." if source == MASTER_KEY_VARIABLE else "."),
        )
    return Environment(variables, uses_emulator, own_key, source)


def _written_master_key(config: Path) -> str | None:
    """Return what the configuration says about the master key; what is wrong with it otherwise is found later.

    Raises:
        ConfigError: the file cannot be read.
    """
    general = read_document(config).get("general_settings")
    key = general.get("master_key") if isinstance(general, dict) else None
    return key if isinstance(key, str) and key else None


def _own_master_key(state: Path) -> str:
    """Return the master key kept in the state directory; made on the first start."""
    path = state / "master_key"
    try:
        if path.exists():
            kept = path.read_text(encoding="latin-1").strip()
            if not _MASTER_KEY.fullmatch(kept):
                raise ConfigError(str(path), "", "does not hold a key", "Remove the file to have one made.")
            return kept
        state.mkdir(parents=True, exist_ok=True)
        key = "sk-" + secrets.token_urlsafe(32)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(key + "\n")
    except OSError as error:
        raise ConfigError(
            str(path),
            "",
            f"cannot be used ({error.strerror})",
            f"Set {MASTER_KEY_VARIABLE}, or another --state.",
        ) from None
    return key
