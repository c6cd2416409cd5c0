"""What a request to LiteLLM may cost at worst, and what it did cost, in admission's words.

Pure but for the router's and LiteLLM's price lists, which it reads. Called by `litellm_admission.py`.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any, Final

import litellm
import msgspec

from neev_provider.admission import DEFAULT_OUTPUT_CAP, Demand, Spent
from neev_provider.litellm_chunks import ESTIMATED
from neev_provider.litellm_errors import PROVIDER
from neev_provider.usage import estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["LIMIT_FIELDS", "demand_of", "nanos_of", "spent_of"]

LIMIT_FIELDS: Final = ("max_completion_tokens", "max_output_tokens", "max_tokens")
"""The names under which the endpoints take a limit of produced tokens."""

_SPEECH: Final = frozenset({"audio_speech", "speech", "aspeech"})
_TEXT: Final = frozenset(
    {
        *("completion", "acompletion", "text_completion", "atext_completion"),
        *("anthropic_messages", "responses", "aresponses", "generate_content", "agenerate_content"),
        *("generate_content_stream", "agenerate_content_stream"),
    }
)
_NO_OUTPUT: Final = frozenset(
    {"embedding", "embeddings", "aembedding", "moderation", "amoderation", "rerank", "arerank"}
)
_LOOKING_UP: Final = ("aget_", "alist_", "adelete_", "acancel_")  # no model is called
_PROMPT_FIELDS: Final = (
    *("messages", "input", "prompt", "system", "instructions", "tools", "functions"),
    *("response_format", "text", "contents", "query", "documents"),
)
_NANO: Final = Decimal(10**9)
_NO_FALLBACKS: Final[Mapping[str, Sequence[Mapping[str, Any]]]] = {}


def demand_of(
    data: Mapping[str, Any],
    call_type: str,
    entries: Sequence[Mapping[str, Any]],
    fallbacks: Mapping[str, Sequence[Mapping[str, Any]]] = _NO_FALLBACKS,
    changes: Sequence[Mapping[str, Any]] = (),
) -> Demand:
    """Return what a request may cost on the dearest of these deployments.

    Args:
        data: the request as LiteLLM has read it; its model is the one that will be called.
        call_type: LiteLLM's word for the endpoint.
        entries: of `model_list`, for the request's model.
        fallbacks: the same for each model that may be called in its place.
        changes: the fields that fallbacks may put over the request's.
    """
    model = data.get("model")
    name = model if isinstance(model, str) else ""
    prices = [_prices(entry, name) for entry in entries]
    for other, its_entries in fallbacks.items():
        # A name that is not in the list is priced nowhere.
        prices += [_prices(entry, other) for entry in its_entries] or [{}]
        entries = [*entries, *(its_entries or [{}])]
    if call_type in _SPEECH:
        per_character = _dearest([price.get("input_cost_per_character") for price in prices])
        per_token = None if per_character is None else 0
        return Demand(
            name,
            prompt_nanos=per_token,
            completion_nanos=per_token,
            flat_nanos=_up((per_character or 0) * len(str(data.get("input") or ""))),
        )
    if call_type.startswith(_LOOKING_UP):
        return Demand(name, prompt_nanos=0, completion_nanos=0)
    estimate = estimate_tokens(_serialised(_longest(data, changes)))
    if call_type not in _TEXT | _NO_OUTPUT:
        return Demand(name, prompt_tokens=estimate)  # pictures, files: what they cost is known afterwards
    has_output = call_type in _TEXT
    asked = next((data[field] for field in LIMIT_FIELDS if _is_count(data.get(field))), None)
    most = max(
        (change[field] for change in changes for field in LIMIT_FIELDS if _is_count(change.get(field))),
        default=0,
    )
    prompt = _dearest([price.get("input_cost_per_token") for price in prices])
    completion = _dearest([price.get("output_cost_per_token") for price in prices])
    return Demand(
        name,
        prompt_tokens=estimate,
        max_tokens=max(asked, most) if has_output and asked is not None else None,
        output_cap=max(_output_cap(prices, entries), most) if has_output else 0,
        choices=_choices(data, changes) if has_output else 1,
        prompt_nanos=None if prompt is None else _up(prompt),
        completion_nanos=_up(completion)
        if has_output and completion is not None
        else None
        if has_output
        else 0,
    )


def spent_of(
    kwargs: Mapping[str, Any], demand: Demand, *, priced: bool, ours: bool, characters: int
) -> Spent:
    """Return what LiteLLM says a call did cost.

    Args:
        kwargs: of its success event.
        demand: what was asked for.
        priced: whether the model that answered has a price.
        ours: whether NeevAI serves the model; LiteLLM's own price list does not hold for it then.
        characters: of speech.
    """
    logged = kwargs.get("standard_logging_object") or {}
    cost = nanos_of(kwargs.get("response_cost"))
    if not priced and (ours or not cost):
        cost = None
    return Spent(
        prompt_tokens=_count(logged.get("prompt_tokens")),
        completion_tokens=_count(logged.get("completion_tokens")),
        cost_nanos=cost,
        estimated=bool(kwargs.get(ESTIMATED)),
        model=str(kwargs.get("model") or demand.model).removeprefix(f"{PROVIDER}/"),
        characters=characters,
    )


def nanos_of(usd: object) -> int | None:
    """Return USD, which LiteLLM counts in floats, as nano-USD, rounded half up; None for what is no amount."""
    if isinstance(usd, bool) or not isinstance(usd, int | float) or not 0 <= usd < 1e9:  # noqa: PLR2004
        return None
    return int((Decimal(repr(usd)) * _NANO).quantize(Decimal(1), ROUND_HALF_UP))


def _prices(entry: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a deployment's price list: the configuration's over LiteLLM's, which of our models is the catalog's."""
    params, info = entry.get("litellm_params") or {}, entry.get("model_info") or {}
    model = str(params.get("model", ""))
    if is_ours(model):
        own = f"{PROVIDER}/{name}" if "*" in model else model
        return {**(litellm.model_cost.get(own) or {}), **info}
    model = name if "*" in model else model
    known = litellm.model_cost.get(model) or litellm.model_cost.get(model.partition("/")[2]) or {}
    return {
        **known,
        **{field: value for field, value in {**info, **params}.items() if value is not None},
    }


def is_ours(model: str) -> bool:
    """Tell whether NeevAI serves LiteLLM's model of this name."""
    return model.startswith((f"{PROVIDER}/", "openai/tts-"))


def _dearest(prices: Sequence[object]) -> Decimal | None:
    """Return the highest of prices in nano-USD; None if one is not known, or there are none."""
    known = [
        Decimal(str(price)) * _NANO
        for price in prices
        if isinstance(price, int | float) and not isinstance(price, bool)
    ]
    return max(known) if known and len(known) == len(prices) else None


def _output_cap(prices: Sequence[Mapping[str, Any]], entries: Sequence[Mapping[str, Any]]) -> int:
    caps = [
        next(
            (
                cap
                for cap in (
                    (entry.get("litellm_params") or {}).get("max_tokens"),
                    price.get("max_output_tokens"),
                )
                if _is_count(cap) and cap
            ),
            DEFAULT_OUTPUT_CAP,
        )
        for price, entry in zip(prices, entries, strict=True)
    ]
    return max(caps, default=DEFAULT_OUTPUT_CAP)


def _choices(data: Mapping[str, Any], changes: Sequence[Mapping[str, Any]]) -> int:
    """Return how many answers are produced: of the older completions endpoint, for each prompt, the best of some."""
    each = (data, *changes)
    asked = [int(one[field]) for one in each for field in ("n", "best_of") if _is_count(one.get(field))]
    return max([1, *asked]) * max(_prompts(one.get("prompt")) for one in each)


def _prompts(prompt: object) -> int:
    # One prompt may be a list too: of tokens.
    return max(1, len(prompt)) if isinstance(prompt, list) and not all(map(_is_count, prompt)) else 1


def _longest(data: Mapping[str, Any], changes: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return a request whose prompt is no shorter than this one's after any of the changes."""
    if not changes:
        return data
    each = (data, *changes)
    return {
        field: max((one[field] for one in each if one.get(field) is not None), key=_length, default=None)
        for field in _PROMPT_FIELDS
    }


def _length(value: object) -> int:
    return len(msgspec.json.encode(value, enc_hook=str))


def _serialised(data: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(
        [data[field] for field in _PROMPT_FIELDS if data.get(field) is not None], enc_hook=str
    )


def _up(nanos: Decimal | int) -> int:
    return int(Decimal(nanos).to_integral_value(ROUND_CEILING))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def texts_of(value: object) -> Iterable[str]:
    """Yield what a chunk's `delta` says, whatever the endpoint's form."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in {"id", "type", "index", "role"}:
                yield from texts_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts_of(item)
