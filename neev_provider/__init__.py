"""NeevAI's Model Routing API for a whole team: LiteLLM provider adapter, configuration, gateway.

    import litellm, neev_provider
    neev_provider.register()
    litellm.completion(model="neev/gpt-oss-120b", messages=[...])

The names that need LiteLLM are loaded on first use, so that the core stays importable without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from neev_provider.catalog import Catalog

if TYPE_CHECKING:
    from neev_provider.adapter import NeevLLM
    from neev_provider.litellm_admission import accounts
    from neev_provider.litellm_auth import custom_auth
    from neev_provider.registration import neev, plugin, register

__all__ = [
    "Catalog",
    "NeevLLM",
    "__version__",
    "accounts",
    "custom_auth",
    "neev",
    "plugin",
    "register",
]

__version__ = "0.1.0"

_LAZY: Final = {
    "NeevLLM": "neev_provider.adapter",
    "accounts": "neev_provider.litellm_admission",
    "custom_auth": "neev_provider.litellm_auth",
    "neev": "neev_provider.registration",
    "plugin": "neev_provider.registration",
    "register": "neev_provider.registration",
}


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value
