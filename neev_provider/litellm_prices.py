"""The catalog's prices, told to LiteLLM: it charges by them what an entry of the configuration gives no price for.

Called when the provider is registered in a script, and when a proxy's accounts open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import litellm

from neev_provider.config_sync import model_info
from neev_provider.litellm_errors import PROVIDER

if TYPE_CHECKING:
    from neev_provider.catalog import Catalog, Model

__all__ = ["register_prices"]


def register_prices(catalog: Catalog) -> None:
    """Make LiteLLM know what each priced model of the catalog costs as `neev/<id>`."""
    litellm.register_model({f"{PROVIDER}/{model.id}": _entry(model) for model in catalog if model.price})


def _entry(model: Model) -> dict[str, Any]:
    mode = "audio_speech" if model.modality == "speech" else "chat"
    numbers = {
        name: float(value) if "cost" in name else int(value) for name, value in model_info(model).items()
    }
    return {"litellm_provider": PROVIDER, "mode": mode, **numbers}
