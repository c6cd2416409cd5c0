"""The one handler and the one callback that a process uses, and their registration with LiteLLM.

`litellm_settings` of a proxy names `neev_provider.neev` under `custom_provider_map` and `neev_provider.plugin` under
`callbacks`; scripts call `neev_provider.register()`.
"""

from __future__ import annotations

from typing import Final

import litellm
from litellm.utils import custom_llm_setup

from neev_provider.adapter import NeevLLM
from neev_provider.litellm_errors import PROVIDER
from neev_provider.litellm_plugin import NeevPlugin
from neev_provider.litellm_prices import register_prices

__all__ = ["neev", "plugin", "register"]

neev: Final = NeevLLM()
plugin: Final = NeevPlugin()


def register(handler: NeevLLM = neev) -> None:
    """Make `neev/...` a provider of LiteLLM in this process.

    Calling it again replaces the handler.

    Args:
        handler: answers the calls; the shared one by default.

    Raises:
        RuntimeError: LiteLLM has a provider of that name of its own, which would win over ours.
    """
    taken = PROVIDER in {str(getattr(known, "value", known)) for known in litellm.LlmProviders}
    if taken:
        raise RuntimeError(
            f"This version of LiteLLM has a provider '{PROVIDER}' of its own, which would be used instead of "
            "neev_provider. Pin litellm<1.110 or name the provider otherwise."
        )
    others = [item for item in litellm.custom_provider_map if item["provider"] != PROVIDER]
    litellm.custom_provider_map = [*others, {"provider": PROVIDER, "custom_handler": handler}]
    custom_llm_setup()
    litellm.logging_callback_manager.add_litellm_callback(plugin)
    # So that litellm.completion_cost() knows what a call cost; a proxy reads its own file.
    register_prices(handler.catalog)
