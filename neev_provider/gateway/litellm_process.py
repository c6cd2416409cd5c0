"""The LiteLLM process by itself, for a container of its own: prepared as `serve` does it, then put in our place.

The same checks, environment and rendered configuration, so that it makes no difference who starts it. The other side
is `serve --litellm-url`. Called by the command line.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final, NoReturn

from neev_provider import settings
from neev_provider.config import load_config
from neev_provider.config_checks import check_for_litellm
from neev_provider.errors import ConfigError
from neev_provider.gateway.environment import forbid_core_files, prepare
from neev_provider.gateway.parts import litellm_command
from neev_provider.gateway.run_files import write_catalog, write_litellm_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from neev_provider.gateway.options import Flags

__all__ = ["become_litellm"]

_HOST: Final = "127.0.0.1"  # what the gateway lets through is decided there; nobody else may reach it


def become_litellm(flags: Flags, environ: Mapping[str, str], *, port: int) -> NoReturn:
    """Replace this process by the LiteLLM proxy, on loopback.

    Args:
        flags: its configuration file, state directory and upstream.
        environ: with NeevAI's key, the master key and the store's URL.
        port: to listen on.

    Raises:
        ConfigError: a setting is wrong, or there is no key for NeevAI.
    """
    forbid_core_files()
    prepared = prepare(flags, environ)
    if prepared.uses_emulator:
        raise ConfigError.missing_variable(
            settings.API_KEY_VARIABLES[0], "Set it to a NeevAI 'Model API' key."
        )
    variables = prepared.variables
    config = load_config(flags.config, variables)
    check_for_litellm(config.document, str(config.path))
    if config.neev.models:
        variables[settings.CATALOG_VARIABLE] = str(write_catalog(config, flags.state))
    variables.setdefault(
        settings.LEDGER_VARIABLE, str((flags.state / "log" / "ledger-litellm.jsonl").absolute())
    )
    rendered = write_litellm_config(config, variables[settings.BASE_URL_VARIABLE], flags.state)
    command = litellm_command(rendered, _HOST, port)
    os.execve(sys.executable, command, variables)  # noqa: S606 - our own interpreter, no shell
