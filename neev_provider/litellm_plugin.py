"""`plugin`: the callback that lets LiteLLM open a stream before it promises one.

LiteLLM calls a custom handler's `astreaming` on a worker thread, wraps what it returns, and learns of upstream's
status only when the stream is read: too late for retries and context-window fallbacks. A call that this hook marks
goes to the handler's awaited `acompletion` instead, which opens the stream and returns LiteLLM's own wrapper.
Registered by `neev_provider.register()` and by `litellm_settings.callbacks` in `proxy_config.yaml`. Without it
streams work too, but without those two features.
"""

from __future__ import annotations

from typing import Any, Final

from litellm.integrations.custom_logger import CustomLogger
from litellm.types.utils import CallTypes
from typing_extensions import override

from neev_provider.litellm_errors import PROVIDER

__all__ = ["STREAM_MARK", "NeevPlugin"]

# Travels with the parameters of one call, from the hook to the handler, and no further.
STREAM_MARK: Final = "neev_opens_stream"


class NeevPlugin(CustomLogger):
    """Marks asynchronous streams of our provider."""

    @override
    async def async_pre_call_deployment_hook(
        self, kwargs: dict[str, Any], call_type: CallTypes | None
    ) -> dict[str, Any] | None:
        """Return the call's arguments, changed for a stream of ours, or None to leave them."""
        if call_type is not CallTypes.acompletion or kwargs.get("stream") is not True:
            return None
        if not str(kwargs.get("model", "")).startswith(f"{PROVIDER}/"):
            return None
        return {**kwargs, "stream": False, STREAM_MARK: True}
