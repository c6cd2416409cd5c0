"""`GET /v1/models` and `GET /v1/models/{id}`: the catalog in the documented shape.

Bodies are encoded once; called by `app.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from neev_provider.emulator.refusal import Refusal

if TYPE_CHECKING:
    from neev_provider.catalog import Catalog
    from neev_provider.emulator.exchange import Exchange

__all__ = ["ModelPages"]


class ModelPages:
    """The two answers about models.

    Args:
        catalog: what exists.
        only_listed: leave out of the list what the live service's own list leaves out.
    """

    def __init__(self, catalog: Catalog, *, only_listed: bool) -> None:
        listing = [model.listing() for model in catalog if model.listed or not only_listed]
        self._list = orjson.dumps({"object": "list", "data": listing})
        self._each = {model.id: orjson.dumps(model.listing()) for model in catalog}

    async def list(self, exchange: Exchange) -> None:
        """Answer with all models."""
        await exchange.respond(200, self._list)

    async def retrieve(self, exchange: Exchange, model_id: str) -> None:
        """Answer with one model.

        Raises:
            Refusal: 404, there is none of this id.
        """
        body = self._each.get(model_id)
        if body is None:
            rule = "traversal" if ".." in model_id else "model:unknown"
            raise Refusal(
                404, "model_not_found", f"The model '{model_id}' does not exist.", param="model", rule=rule
            )
        await exchange.respond(200, body)
