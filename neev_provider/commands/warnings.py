"""What a command says beside its result, on stderr. Called by the commands for keys and teams."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from neev_provider.config import read_document

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["warn_of_unknown_models"]


def warn_of_unknown_models(models: Sequence[str] | None, config: Path) -> None:
    """Say which models of a key the configuration does not serve: a typing error would be silent."""
    if not models or not config.exists():
        return
    entries = read_document(config).get("model_list") or []
    served = {entry.get("model_name") for entry in entries if isinstance(entry, dict)}
    for model in models:
        if model not in served and model != "*":
            typer.echo(f"warning: {config} serves no model '{model}'.", err=True)
