"""`plugin`: what LiteLLM's callbacks do for NeevAI's models: the contract at the proxy's door, streams opened early.

A proxy's client is refused here, before routing and retries: bad input by the contract's words, and any attempt to
choose host, key or headers.

LiteLLM calls a custom handler's `astreaming` on a worker thread, wraps what it returns, and learns of upstream's
status only when the stream is read: too late for retries and context-window fallbacks. A call that this hook marks
goes to the handler's awaited `acompletion` instead, which opens the stream and returns LiteLLM's own wrapper.
Registered by `neev_provider.register()` and by `litellm_settings.callbacks` in `proxy_config.yaml`. Without it
streams work too, but without those two features.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

import msgspec
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy._types import ProxyException
from litellm.types.utils import CallTypes
from typing_extensions import override

from neev_provider import settings
from neev_provider.catalog import Catalog
from neev_provider.contract import (
    LITELLM_ONLY_FIELDS,
    check_completion,
    check_messages_call,
    check_responses,
    fallback_fields,
    forbidden_field,
    parse_chat_object,
    parse_speech,
    refuse_many_attempts,
)
from neev_provider.errors import NeevError, RequestError
from neev_provider.litellm_errors import PROVIDER, marked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["STREAM_MARK", "NeevPlugin", "refuse_client_credentials"]

# Travels with the parameters of one call, from the hook to the handler, and no further.
STREAM_MARK: Final = "neev_opens_stream"


_CHAT_CALLS: Final = frozenset({"completion", "acompletion"})
# What LiteLLM turns into chat.
_TURNED_CALLS: Final[Mapping[str, Callable[[Mapping[str, Any]], None]]] = {
    "text_completion": check_completion,
    "atext_completion": check_completion,
    "anthropic_messages": check_messages_call,
    "responses": check_responses,
    "aresponses": check_responses,
}
_SPEECH_CALLS: Final = frozenset({"audio_speech", "speech", "aspeech"})
# Endpoints that our adapter does not serve; LiteLLM would answer 500.
_OTHER_CALLS: Final = frozenset(
    f"{prefix}{call}"
    for call in (
        "embedding",
        "embeddings",
        "image_generation",
        "image_edit",
        "moderation",
        "rerank",
        "transcription",
    )
    for prefix in ("", "a")
)
_PROXY_NOTE: Final = "_litellm_"
# The proxy's own too, without the prefix: it takes a client's out and notes that a timeout came from the client.
_PROXY_NOTES: Final = frozenset({"client_side_timeout"})


class NeevPlugin(CustomLogger):
    """Checks requests at the proxy's door, and marks asynchronous streams of our provider.

    Args:
        catalog: which voices which model has; the package's own by default.
    """

    def __init__(self, catalog: Catalog | None = None) -> None:
        super().__init__()
        self._catalog: Final = catalog or Catalog.load(settings.catalog_path(os.environ))

    @override
    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> None:
        """Refuse what must not reach upstream.

        Raises:
            ProxyException: LiteLLM's form of an error that a client sees.
        """
        proxied = data.get("proxy_server_request")
        if not isinstance(proxied, dict):
            return
        try:
            refuse_client_credentials(proxied)
            body = proxied.get("body")
            # A header may set it too.
            asked = {"num_retries": data.get("num_retries")}
            refuse_many_attempts(body | asked if isinstance(body, dict) else asked)
            _refuse_many_models(data.get("model"), call_type)
            self._check(data.get("model"), proxied.get("body"), call_type)
        except NeevError as error:
            raise ProxyException(
                marked(error), error.type, error.param, code=error.status, openai_code=error.code
            ) from None

    def _check(self, name: object, body: object, call_type: str) -> None:
        """Apply the contract to a call of a model that NeevAI serves; others are other providers' to judge.

        Args:
            name: of the model that will be called: the path's, if that names one, whatever the body says.
            body: as the client sent it.
            call_type: LiteLLM's word for the endpoint.
        """
        if not isinstance(body, dict) or not isinstance(name, str):
            return
        served = _served_models(name)
        # What is LiteLLM's own to judge, the proxy fills with objects of its own by now.
        sent = {
            field: value
            for field, value in body.items()
            if field not in LITELLM_ONLY_FIELDS and not _is_proxys(field)
        } | {"model": name}
        speaks = [model for model in map(self._catalog.get, served) if model and model.modality == "speech"]
        if call_type in _SPEECH_CALLS and served:
            if len(speaks) < len(served):
                raise _wrong_endpoint(name)
            request = parse_speech(msgspec.json.encode(sent))
            for model in speaks:
                request.check_voice(model)
        elif call_type in _CHAT_CALLS and served:
            if speaks:
                raise _wrong_endpoint(name)
            parse_chat_object(sent)
        elif call_type in _TURNED_CALLS and served:
            _TURNED_CALLS[call_type](sent)
            _refuse_unkept(body)
        elif call_type in _OTHER_CALLS and served:
            raise _wrong_endpoint(name)

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


def refuse_client_credentials(proxied: Mapping[str, Any]) -> None:
    """Refuse what a proxy's client sent to choose host, key or headers, whatever LiteLLM's own settings say.

    Args:
        proxied: LiteLLM's `proxy_server_request`.

    Raises:
        RequestError: names the field.
    """
    body = proxied.get("body")
    # The proxy notes things of its own in the body, and takes what it knows as credentials out of it.
    sent: list[str] = []
    if isinstance(body, dict):
        sent = [*(name for name in body if not _is_proxys(name)), *fallback_fields(body)]
    name = next(iter(proxied.get("credential_fields") or ()), None) or forbidden_field(sent)
    if name is not None:
        raise RequestError("unsupported_parameter", f"{name} cannot be set by a request.", param=str(name))


def _refuse_many_models(name: object, call_type: str) -> None:
    """Refuse "a,b": LiteLLM would ask each of them for one request, of which one alone would be charged."""
    if call_type in _CHAT_CALLS and isinstance(name, str) and "," in name:
        raise RequestError(
            "invalid_value",
            "model must be the name of one model; several cannot be asked at once.",
            param="model",
        )


def _is_proxys(name: str) -> bool:
    return name in _PROXY_NOTES or name.startswith(_PROXY_NOTE)


def _wrong_endpoint(name: str) -> RequestError:
    return RequestError("invalid_value", f"The model '{name}' does not serve this endpoint.", param="model")


def _refuse_unkept(body: Mapping[str, Any]) -> None:
    """Refuse to go on from a response that is not kept."""
    if body.get("previous_response_id") is not None and not _keeps_responses():
        raise RequestError(
            "unsupported_parameter",
            "previous_response_id cannot be honoured: no responses are kept here. "
            "Send what was said before in input.",
            param="previous_response_id",
        )


def _keeps_responses() -> bool:
    """Tell whether the proxy has a database; without, it would leave out what was said before, and not say so."""
    return getattr(sys.modules.get("litellm.proxy.proxy_server"), "prisma_client", None) is not None


def _served_models(name: str) -> list[str]:
    """Return NeevAI's ids behind a public name of the running proxy; empty if another provider serves it too."""
    module = sys.modules.get("litellm.proxy.proxy_server")
    router = getattr(module, "llm_router", None)
    entries = router.get_model_list(model_name=name) if router is not None else None
    models = [str(entry["litellm_params"]["model"]) for entry in entries or ()]
    ours = [model.partition("/")[2] for model in models if model.startswith((f"{PROVIDER}/", "openai/tts-"))]
    return ours if len(ours) == len(models) else []
