"""The endpoints that LiteLLM turns into chat: older completions, Anthropic's messages, OpenAI's responses.

Their form is LiteLLM's to judge. What is checked here are the values that it passes on or replaces without looking:
a bound that is no number would otherwise count as none given. Called by `litellm_plugin.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from neev_provider.contract.chat import object_to_json
from neev_provider.contract.sampling import (  # noqa: TC001 - msgspec reads them
    Choices,
    Flag,
    Penalty,
    Stop,
    StopList,
    Temperature,
    TokenLimit,
    TopP,
)
from neev_provider.contract.schema import Schema, Shape

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["check_completion", "check_messages_call", "check_responses"]


class _Sampled(Shape, kw_only=True):
    """What all of them take; null counts as absent."""

    temperature: Temperature | None = None
    top_p: TopP | None = None
    stream: Flag | None = None


class _Completion(_Sampled, kw_only=True):
    """`POST /v1/completions`."""

    max_tokens: TokenLimit | None = None
    n: Choices | None = None
    stop: Stop = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None


class _MessagesCall(_Sampled, kw_only=True):
    """`POST /v1/messages`. Anthropic requires the bound; how many stop sequences there may be is NeevAI's rule."""

    max_tokens: TokenLimit
    stop_sequences: StopList | None = None


class _Responses(_Sampled, kw_only=True):
    """`POST /v1/responses`."""

    max_output_tokens: TokenLimit | None = None


_COMPLETION: Final = Schema(_Completion)
_MESSAGES: Final = Schema(_MessagesCall)
_RESPONSES: Final = Schema(_Responses)


def check_completion(fields: Mapping[str, Any]) -> None:
    """Check the numbers of a call of the older completions endpoint, held as Python objects.

    Raises:
        RequestError: names field and rule.
    """
    _check(_COMPLETION, fields)


def check_messages_call(fields: Mapping[str, Any]) -> None:
    """Check the numbers of a call in Anthropic's form, held as Python objects.

    Raises:
        RequestError: names field and rule; also if `max_tokens` is missing.
    """
    _check(_MESSAGES, fields)


def check_responses(fields: Mapping[str, Any]) -> None:
    """Check the numbers of a call in the form of OpenAI's responses, held as Python objects.

    Raises:
        RequestError: names field and rule.
    """
    _check(_RESPONSES, fields)


def _check(schema: Schema[Any], fields: Mapping[str, Any]) -> None:
    schema.check(object_to_json({name: fields[name] for name in schema.fields if name in fields}))
