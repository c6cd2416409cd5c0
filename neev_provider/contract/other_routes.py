"""The endpoints that LiteLLM turns into chat: older completions, Anthropic's messages, OpenAI's responses.

Their form is LiteLLM's to judge. What is checked here are the values that it passes on or replaces without looking:
a bound that is no number would otherwise count as none given, and of several prompts only the last would be answered.
Called by `litellm_plugin.py` and, for scripts, by `adapter.py`.
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
from neev_provider.contract.schema import Schema, Shape, invalid, missing
from neev_provider.errors import RequestError

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
_UNASKED: Final = (None, False, "")  # what asks for nothing


_PROMPT: Final = "a string, or an array of one string: NeevAI's chat models answer one prompt in a request"


def check_completion(fields: Mapping[str, Any]) -> None:
    """Check a call of the older completions endpoint, held as Python objects.

    Raises:
        RequestError: names field and rule; also for what a chat model cannot do, which would be left out in silence.
    """
    _check(_COMPLETION, fields)
    _check_prompt(fields.get("prompt"))
    for name in ("echo", "suffix"):
        if fields.get(name) not in _UNASKED:
            raise _not_served(name)
    if fields.get("logprobs") is not None:
        raise _not_served("logprobs")
    # As many as are to be returned is what is done anyway; more would have to be made and chosen from.
    if fields.get("best_of") is not None and fields["best_of"] != (fields.get("n") or 1):
        raise _not_served("best_of")


def _check_prompt(prompt: object) -> None:
    if prompt is None:
        raise missing("prompt", _PROMPT)
    prompts = prompt if isinstance(prompt, list) else [prompt]
    if not all(isinstance(one, str) for one in prompts):
        raise invalid("prompt", _PROMPT, code="invalid_type")
    if len(prompts) != 1:
        raise invalid("prompt", _PROMPT)


def _not_served(name: str) -> RequestError:
    return RequestError(
        "unsupported_parameter", f"{name} is not supported: NeevAI's models are chat models.", param=name
    )


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
