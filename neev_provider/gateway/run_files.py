"""Files in the state directory that tell the other processes what a start decided.

Written before those processes start, anew at each start; nothing in them is kept. Called by `serve.py` and
`litellm_process.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from neev_provider import settings
from neev_provider.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from neev_provider.config import ProxyConfig

__all__ = ["write_catalog", "write_file", "write_litellm_config"]


def write_catalog(config: ProxyConfig, state: Path) -> Path:
    """Write the catalog with the configuration's own models; return the file.

    Raises:
        ConfigError: the state directory cannot be written.
    """
    return write_file(state / "run" / "catalog.yaml", config.catalog.dump())


def write_litellm_config(config: ProxyConfig, base_url: str, state: Path) -> Path:
    """Write the configuration that LiteLLM reads: speech follows the upstream in use.

    Chat does so by itself (the adapter reads the environment); speech goes through LiteLLM's OpenAI client, whose
    host stands in the file.

    Raises:
        ConfigError: the state directory cannot be written.
    """
    document: dict[str, Any] = dict(config.document)
    document["model_list"] = [_with_base(entry, base_url) for entry in document["model_list"]]
    return write_file(state / "run" / "proxy_config.yaml", yaml.safe_dump(document, sort_keys=False))


def write_file(path: Path, text: str) -> Path:
    """Write a file that only this user can read; return it.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)  # keys may stand in it
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            str(path), "", f"cannot be written ({error.strerror})", "Use another --state."
        ) from None
    return path


def _with_base(entry: dict[str, Any], base_url: str) -> dict[str, Any]:
    params = entry["litellm_params"]
    if params.get("api_base") != settings.DEFAULT_BASE_URL:
        return entry
    return {**entry, "litellm_params": {**params, "api_base": base_url}}
