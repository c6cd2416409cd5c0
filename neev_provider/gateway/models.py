"""GET /v1/models and /v1/models/{id}: what this key may call, in OpenAI's shape, with useful extras.

Called by `app.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from neev_provider.errors import RequestError

if TYPE_CHECKING:
    from neev_provider.admission import Principal
    from neev_provider.catalog import Model
    from neev_provider.gateway.exchange import Exchange
    from neev_provider.gateway.services import Services

__all__ = ["list_models", "retrieve_model"]

_ELSEWHERE: Final = {
    "created": 0,
    "owned_by": "litellm",
}  # another provider's: LiteLLM says no more of it either

_LONGEST_SHOWN: Final = 100  # characters of a client's word, in an error and in the log


async def list_models(exchange: Exchange, services: Services) -> None:
    """Answer GET /v1/models.

    Raises:
        NeevError: the key.
    """
    principal = await _reader(exchange, services)
    data = [
        _entry(public.name, public.model, services)
        for public in services.router.models()
        if principal.may_call(public.name)
    ]
    await exchange.reply(
        200, msgspec.json.encode({"object": "list", "data": data}), {b"x-neev-path": b"fast"}
    )


async def retrieve_model(exchange: Exchange, services: Services, name: str) -> None:
    """Answer GET /v1/models/{id}; ids are matched exactly.

    Raises:
        NeevError: the key.
        RequestError: unknown, or not allowed for this key: 404 either way, so that names cannot be probed.
    """
    principal = await _reader(exchange, services)
    shown = name if len(name) <= _LONGEST_SHOWN else name[:_LONGEST_SHOWN] + "…"
    exchange.notes["model"] = exchange.facts.model = shown
    for public in services.router.models():
        if public.name == name and principal.may_call(name):
            body = msgspec.json.encode(_entry(name, public.model, services))
            await exchange.reply(200, body, {b"x-neev-path": b"fast"})
            return
    raise RequestError("model_not_found", f"The model '{shown}' does not exist here.", param="model")


async def _reader(exchange: Exchange, services: Services) -> Principal:
    principal = await services.access.authenticate(exchange.bearer())
    exchange.note_caller(principal)
    exchange.notes["via"] = "fast"
    return principal


def _entry(name: str, model: Model | None, services: Services) -> dict[str, Any]:
    if model is None:
        return {"id": name, "object": "model", **_ELSEWHERE}
    live = services.catalog().get(model.id) or model
    entry: dict[str, Any] = {
        "id": name,
        "object": "model",
        "created": live.created,
        "owned_by": live.owned_by,
        "modality": model.modality,
        "context_window": model.context_window,
        "pricing": None,
    }
    price = model.price
    if price is not None and price.character_nanos is not None:
        entry["pricing"] = {"usd_per_million_characters": price.character_nanos / 1000}
    elif price is not None:
        entry["pricing"] = {
            "usd_per_million_input_tokens": price.prompt_nanos / 1000,
            "usd_per_million_output_tokens": price.completion_nanos / 1000,
        }
    return entry
