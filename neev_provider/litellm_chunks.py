"""Upstream's stream chunks in the form in which LiteLLM's stream wrapper loses nothing.

After a finish reason LiteLLM's wrapper drops every chunk without content, which is where usage stands, and then
guesses tokens. So the first choice's finish reason is held back and ends the stream together with the usage
(`LITELLM.md`, Adapter 1). The wrapper looks at a chunk's first choice only; the other choices' finish reasons
ride behind an empty first one. Called by `adapter.py` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from litellm.types.utils import GenericStreamingChunk, ModelResponseStream

if TYPE_CHECKING:
    from neev_provider.usage import Usage

__all__ = ["ESTIMATED", "ChunkTranslator", "usage_block"]

# In the details that LiteLLM carries from a call to its events: that the usage in its answer is our estimate.
ESTIMATED: Final = "neev_usage_is_estimated"

_CONTENT_FIELDS: Final = (
    "content",
    "tool_calls",
    "reasoning_content",
    "reasoning",
    "refusal",
    "function_call",
)


class ChunkTranslator:
    """Translates one stream.

    Attributes:
        finish_reason: what ended the first choice, or None while it runs.
    """

    def __init__(self) -> None:
        self.finish_reason: str | None = None

    def feed(self, chunk: dict[str, Any]) -> ModelResponseStream | None:
        """Return the chunk for LiteLLM, or None if nothing of it is left to send (usage, keep-alive)."""
        sent = chunk.get("choices")
        choices = [choice for choice in sent if isinstance(choice, dict)] if isinstance(sent, list) else []
        kept = [choice for choice in map(self._hold_finish, choices) if choice is not None]
        if not kept:
            return None
        if any(choice.get("finish_reason") for choice in kept):
            kept.insert(0, {"index": 0, "delta": {}, "finish_reason": None})
        fields = {key: value for key, value in chunk.items() if key != "usage" and value is not None}
        return ModelResponseStream(**{**fields, "choices": kept})

    def _hold_finish(self, choice: dict[str, Any]) -> dict[str, Any] | None:
        delta = choice.get("delta")
        choice = {**choice, "delta": delta if isinstance(delta, dict) else {}}
        if choice.get("index") or not choice.get("finish_reason"):
            return choice
        self.finish_reason = str(choice["finish_reason"])
        if not any(choice["delta"].get(name) for name in _CONTENT_FIELDS):
            return None
        return {**choice, "finish_reason": None}

    def end(self, usage: Usage) -> GenericStreamingChunk:
        """Return the last chunk: finish reason and usage."""
        return GenericStreamingChunk(
            text="",
            is_finished=True,
            finish_reason=self.finish_reason or "stop",
            usage=usage_block(usage),
            index=0,
            tool_use=None,
        )


def usage_block(usage: Usage) -> dict[str, Any]:
    """Return usage in OpenAI's words, details only where upstream gave them."""
    block: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
    if usage.cached_tokens:
        block["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if usage.reasoning_tokens:
        block["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return block
