"""What the environment says about the upstream: whose key, which host, which models.

The one place that knows the variables' names and their order. Called by the adapter and the composition root.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "API_KEY_VARIABLES",
    "BASE_URL_VARIABLE",
    "CATALOG_VARIABLE",
    "DEFAULT_BASE_URL",
    "LEDGER_VARIABLE",
    "METRICS_VARIABLE",
    "STORE_VARIABLE",
    "api_key",
    "base_url",
    "catalog_path",
    "ledger_file",
    "metrics_socket",
    "store_url",
]

# Vendor code uses all three names (NEEV_API.md, "Hosts and auth").
API_KEY_VARIABLES: Final = ("NEEV_API_KEY", "NEEV_MODEL_API_KEY", "NEEV_INFERENCE_API_KEY")
BASE_URL_VARIABLE: Final = "NEEV_BASE_URL"
CATALOG_VARIABLE: Final = "NEEV_CATALOG"  # a catalog file in place of the package's own
LEDGER_VARIABLE: Final = "NEEV_LEDGER"  # LiteLLM's file of what calls did cost and the store did not take
STORE_VARIABLE: Final = "NEEV_STORE"  # `embedded` or the store's URL, which may hold a password
METRICS_VARIABLE: Final = "NEEV_METRICS"  # the socket that takes what a process counts
DEFAULT_BASE_URL: Final = "https://inference.ai.neevcloud.com/v1"


def api_key(environ: Mapping[str, str]) -> str | None:
    """Return the first key set in `environ`, or None; an empty variable counts as unset."""
    return next((value for name in API_KEY_VARIABLES if (value := environ.get(name, "").strip())), None)


def base_url(environ: Mapping[str, str]) -> str:
    """Return the upstream's OpenAI base URL: `NEEV_BASE_URL`, else the vendor's."""
    return environ.get(BASE_URL_VARIABLE, "").strip() or DEFAULT_BASE_URL


def store_url(environ: Mapping[str, str]) -> str | None:
    """Return the store's URL that `NEEV_STORE` names, or None."""
    return environ.get(STORE_VARIABLE, "").strip() or None


def ledger_file(environ: Mapping[str, str]) -> str | None:
    """Return the file that `NEEV_LEDGER` names, or None."""
    return environ.get(LEDGER_VARIABLE, "").strip() or None


def catalog_path(environ: Mapping[str, str]) -> str | None:
    """Return the catalog file that `NEEV_CATALOG` names, or None for the package's own."""
    return environ.get(CATALOG_VARIABLE, "").strip() or None


def metrics_socket(environ: Mapping[str, str]) -> str | None:
    """Return the socket that takes a process's metrics, as `NEEV_METRICS` names it, or None if nothing is counted."""
    return environ.get(METRICS_VARIABLE, "").strip() or None
