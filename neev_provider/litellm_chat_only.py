"""What LiteLLM may ask of a provider's handler and NeevAI does not have: refused at once, saying so.

LiteLLM's own answer is a 500 "Not implemented yet!", which its router and clients try again. The base of
`adapter.NeevLLM`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litellm.llms.custom_llm import CustomLLM
from typing_extensions import override

from neev_provider.litellm_errors import not_served

if TYPE_CHECKING:
    from litellm.types.utils import EmbeddingResponse, ImageResponse

__all__ = ["ChatOnly"]


class ChatOnly(CustomLLM):
    """A handler that refuses every call but those that its subclass answers."""

    @override
    def embedding(self, model: str, *args: Any, **kwargs: Any) -> EmbeddingResponse:
        """Refuse `litellm.embedding(...)`: NeevAI has chat and speech only."""
        raise not_served(model, "embeddings")

    @override
    async def aembedding(self, model: str, *args: Any, **kwargs: Any) -> EmbeddingResponse:
        """Refuse `await litellm.aembedding(...)`."""
        raise not_served(model, "embeddings")

    @override
    def image_generation(self, model: str, *args: Any, **kwargs: Any) -> ImageResponse:
        """Refuse `litellm.image_generation(...)`."""
        raise not_served(model, "images")

    @override
    async def aimage_generation(self, model: str, *args: Any, **kwargs: Any) -> ImageResponse:
        """Refuse `await litellm.aimage_generation(...)`."""
        raise not_served(model, "images")

    @override
    def image_edit(self, model: str, *args: Any, **kwargs: Any) -> ImageResponse:
        """Refuse `litellm.image_edit(...)`."""
        raise not_served(model, "images")

    @override
    async def aimage_edit(self, model: str, *args: Any, **kwargs: Any) -> ImageResponse:
        """Refuse `await litellm.aimage_edit(...)`."""
        raise not_served(model, "images")
