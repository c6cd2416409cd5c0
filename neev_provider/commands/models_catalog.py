"""What `neev-gateway models ...` does: the catalog as table and JSON, and the configuration's generated part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from rich.table import Table

from neev_provider import settings
from neev_provider.catalog import Catalog, Model, parse_entries
from neev_provider.config import read_document
from neev_provider.config_sync import sync
from neev_provider.deployment import normalise_base_url
from neev_provider.errors import ConfigError
from neev_provider.upstream import NO_RETRIES, Deployment, Upstream

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["as_json", "as_table", "catalog", "live_catalog", "sync_config"]


def catalog(environ: Mapping[str, str]) -> Catalog:
    """Return the catalog that `NEEV_CATALOG` names, or the package's own."""
    return Catalog.load(settings.catalog_path(environ))


async def live_catalog(environ: Mapping[str, str]) -> Catalog:
    """Return the catalog merged with the upstream's own list.

    Raises:
        ConfigError: no key is set.
        NeevError: the upstream does not answer.
    """
    key = settings.api_key(environ)
    if key is None:
        raise ConfigError.missing_variable(settings.API_KEY_VARIABLES[0], "The upstream's list needs a key.")
    async with Upstream(retry=NO_RETRIES) as upstream:
        listing = await upstream.models(Deployment("models", settings.base_url(environ), key))
    return catalog(environ).merged(listing)


def as_table(models: Catalog) -> Table:
    """Return the catalog as a table for people."""
    table = Table("Model", "Owner", "Context", "USD per 1M in / out", "Listed", box=None, pad_edge=False)
    for model in models:
        context = f"{model.context_window:,}" if model.context_window else "unknown"
        table.add_row(model.id, model.owned_by, context, _price(model), "yes" if model.listed else "no")
    return table


def as_json(models: Catalog) -> str:
    """Return the catalog as JSON for scripts; prices in integer nano-USD per unit."""
    return msgspec.json.format(msgspec.json.encode([_fields(model) for model in models])).decode()


def sync_config(path: Path, base_url: str | None, *, check: bool, environ: Mapping[str, str]) -> str:
    """Bring the generated part of a configuration up to date; see `config_sync.sync`.

    Models that the file itself defines under `neev.models` are written too.
    """
    known = catalog(environ)
    if base_url is not None:
        base_url = normalise_base_url(base_url, source="--base-url")
    if path.exists():
        own = (read_document(path).get("neev") or {}).get("models") or []
        known = known.extended(parse_entries(own, str(path), "neev.models", created=0))
    return sync(path, known, base_url=base_url or settings.DEFAULT_BASE_URL, check=check)


def _price(model: Model) -> str:
    price = model.price
    if price is None:
        return "unpriced"
    if price.character_nanos is not None:
        return f"{price.character_nanos / 1000:g} per 1M characters"
    return f"{price.prompt_nanos / 1000:g} / {price.completion_nanos / 1000:g}"


def _fields(model: Model) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(model)
    return fields
