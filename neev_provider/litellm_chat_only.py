"""What LiteLLM may ask of a provider's handler and NeevAI does not have: refused at once, saying so.

LiteLLM's own answer is a 500 "Not implemented yet!", which its router and clients try again. The base of
`adapter.NeevLLM`.
"""

from __future__ import annotations

from typing import Any, NoReturn

from litellm.llms.custom_llm import CustomLLM

from neev_provider.litellm_errors import not_served

__all__ = ["ChatOnly"]


def _refusals(what: str) -> tuple[Any, Any]:
    """Return two methods, to be called and to be awaited, that refuse whatever they are given.

    Args:
        what: NeevAI does not have, in the words of the error.
    """

    def refuse(_self: CustomLLM, model: str, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise not_served(model, what)

    async def arefuse(_self: CustomLLM, model: str, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise not_served(model, what)

    return refuse, arefuse


class ChatOnly(CustomLLM):
    """A handler that refuses every call but those that its subclass answers: NeevAI has chat and speech only."""

    embedding, aembedding = _refusals("embeddings")
    image_generation, aimage_generation = _refusals("images")
    image_edit, aimage_edit = _refusals("images")
