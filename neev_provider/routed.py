"""One entry of `model_list` as something that can be called, or the reason why only LiteLLM can call it.

Responsible for `litellm_params` and `model_info`: host, key, headers, timeouts, weights, prices. What is not
understood there makes the entry LiteLLM's; nothing is silently ignored. Not responsible for choosing among
deployments (`routing_plan.py`). Called by `routing.py`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from neev_provider import settings
from neev_provider.catalog import Price
from neev_provider.deployment import RESERVED_HEADERS, Deployment, Timeouts, timeouts_of
from neev_provider.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from neev_provider.catalog import Catalog, Model
    from neev_provider.config import ConfiguredDeployment
    from neev_provider.cooldown import Standing
    from neev_provider.routing_settings import RoutingSettings

__all__ = ["NotUnderstoodError", "RoutedDeployment", "order_of", "routed_deployment"]

_SPEECH_PREFIX: Final = "openai/"
_CHAT_PREFIX: Final = "neev/"
_REFERENCE: Final = "os.environ/"

_COSTS: Final = frozenset(
    [
        "input_cost_per_token",
        "output_cost_per_token",
        "cache_read_input_token_cost",
        "cache_creation_input_token_cost",
        "input_cost_per_character",
    ]
)
# `max_tokens` is the bound for requests without one; a model of ours refuses no OpenAI parameter, so that
# `allowed_openai_params` has nothing to allow. Retries are the router's: `max_retries` is the HTTP client's.
_PARAMS: Final = (
    frozenset(
        [
            "model",
            "api_base",
            "api_key",
            "extra_headers",
            "timeout",
            "stream_timeout",
            "request_timeout",
            "num_retries",
            "weight",
            "order",
            "rpm",
            "tpm",
            "max_parallel_requests",
            "cooldown_time",
            "max_tokens",
            "allowed_openai_params",
            "max_retries",
        ]
    )
    | _COSTS
)
# `model_info` may hold a team's own notes. These are more than notes.
_INFO_OF_LITELLM: Final = frozenset(
    [
        "team_id",
        "team_public_model_name",
        "access_groups",
        "access_via_team_ids",
        "access_windows",
        "allowed_fails",
        "allowed_fails_policy",
        "blocked",
        "base_model",
        "tags",
        "supported_environments",
        "rpm",
        "tpm",
    ]
)


class NotUnderstoodError(Exception):
    """An entry that the fast path cannot serve; `reason` says why, for the operator."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, eq=False)
class RoutedDeployment:
    """A deployment as a call needs it.

    Attributes:
        name: what logs and metrics call it; bounded in number, whatever clients ask for.
        model: what is served, with this entry's own price and limits where it gives them.
        upstream: host, key and headers.
        timeouts: for one attempt.
        stream_timeouts: for one attempt at a streamed answer.
        weight: LiteLLM's `weight`, `rpm` and `tpm`, the first of which that any of a group has decides its shares.
        order: lower ones are called first; None = no order.
        num_retries: in place of the router's, if it is the one that fails first.
        max_tokens: output bound for requests that bring none, or None.
        slots: held for as long as a call lasts, or None: `max_parallel_requests`, or what LiteLLM derives from
            `rpm` or `tpm`. Those that find none left wait.
        standing: how it has been doing.
    """

    name: str
    model: Model
    upstream: Deployment
    timeouts: Timeouts
    stream_timeouts: Timeouts
    standing: Standing = field(repr=False)
    weight: tuple[float, float, float] = (0.0, 0.0, 0.0)
    order: int | None = None
    num_retries: int | None = None
    max_tokens: int | None = None
    slots: asyncio.Semaphore | None = field(default=None, repr=False)


def order_of(entry: ConfiguredDeployment) -> int | None:
    """Return the entry's `order`, or None."""
    order = entry.params.get("order")
    return entry.info.get("order") if order is None else order


def routed_deployment(
    entry: ConfiguredDeployment,
    name: str,
    model: str,
    catalog: Catalog,
    router: RoutingSettings,
    environ: Mapping[str, str],
    standing: Standing,
) -> RoutedDeployment:
    """Make an entry callable.

    Args:
        entry: as configured.
        name: for logs and metrics.
        model: LiteLLM's model string; the entry's own, with its wildcards filled in.
        catalog: what is known about the model.
        router: timeouts that the entry does not set.
        environ: what `os.environ/NAME` is looked up in.
        standing: of the entry.

    Raises:
        NotUnderstoodError: only LiteLLM can serve it.
        ConfigError: it cannot be called at all: no key, an impossible host.
    """
    _refuse_what_is_not_understood(entry)
    params = {key: _resolved(value, environ) for key, value in entry.params.items() if value is not None}
    known = _model(model, params, catalog, environ)
    timeout = _number(params.get("timeout") or params.get("request_timeout"), name)
    stream_timeout = _number(params.get("stream_timeout"), name)
    total = timeout or router.timeout
    retries = _number(params.get("num_retries"), name)
    rpm, tpm = (params.get(key, entry.extra.get(key)) for key in ("rpm", "tpm"))
    parallel = _max_parallel(params.get("max_parallel_requests"), rpm, tpm, router.max_parallel)
    return RoutedDeployment(
        name=name,
        model=_with_own_figures(known, entry),
        upstream=_upstream(name, params, environ),
        timeouts=timeouts_of(total, streamed=False),
        stream_timeouts=timeouts_of(stream_timeout or router.stream_timeout or total, streamed=True),
        standing=standing,
        weight=(float(params.get("weight") or 0), float(rpm or 0), float(tpm or 0)),
        order=order_of(entry),
        num_retries=None if retries is None else int(retries),
        max_tokens=params.get("max_tokens"),
        slots=None if parallel is None else asyncio.Semaphore(parallel),
    )


def _refuse_what_is_not_understood(entry: ConfiguredDeployment) -> None:
    for key, value in entry.params.items():
        if key not in _PARAMS and value is not None and value is not False:
            raise NotUnderstoodError(f"litellm_params.{key} is LiteLLM's to apply")
    for key, value in entry.info.items():
        # A list of tiers, an audio price, a service tier's: the ledger knows none of them.
        if key in _INFO_OF_LITELLM or ("cost" in key and key not in _COSTS):
            if value is not None and value is not False:
                raise NotUnderstoodError(f"model_info.{key} is LiteLLM's to apply")
        elif key in entry.params and key in _COSTS and entry.params[key] != value:
            raise NotUnderstoodError(f"{key} stands in litellm_params and, with another value, in model_info")
    for key in entry.extra:
        if key not in {"rpm", "tpm"}:
            raise NotUnderstoodError(f"{key} is LiteLLM's to apply")


def _model(model: str, params: Mapping[str, Any], catalog: Catalog, environ: Mapping[str, str]) -> Model:
    prefix, _, model_id = model.partition("/")
    known = catalog.get(model_id)
    if prefix + "/" == _CHAT_PREFIX:
        if known is None:
            raise NotUnderstoodError(f"{model_id} is not in the catalog")
        return known
    if prefix + "/" != _SPEECH_PREFIX or known is None or known.modality != "speech":
        raise NotUnderstoodError(f"{model} is not a model of NeevAI")
    ours = {urlsplit(url).netloc for url in (settings.DEFAULT_BASE_URL, settings.base_url(environ))}
    if urlsplit(str(params.get("api_base", ""))).netloc not in ours:
        raise NotUnderstoodError(f"{model} is served by a host other than NeevAI's")
    return known


def _upstream(name: str, params: Mapping[str, Any], environ: Mapping[str, str]) -> Deployment:
    base = params.get("api_base")
    if base is None or base == settings.DEFAULT_BASE_URL:
        # Speech entries name the vendor's host literally; another upstream in use replaces it (`gateway/serve.py`).
        base = settings.base_url(environ)
    key = params.get("api_key") or settings.api_key(environ)
    if not key:
        raise ConfigError.missing_variable(
            settings.API_KEY_VARIABLES[0], "Set it to a NeevAI 'Model API' key (sk-nc-...)."
        )
    headers = {
        header: str(_resolved(value, environ))
        for header, value in (params.get("extra_headers") or {}).items()
        if header.lower() not in RESERVED_HEADERS  # as the adapter does
    }
    return Deployment(name=name, base_url=base, api_key=key, headers=headers)


def _max_parallel(own: int | None, rpm: float | None, tpm: float | None, default: int | None) -> int | None:
    """LiteLLM's `calculate_max_parallel_requests`: 6 requests per 1,000 tokens."""
    if own is not None:
        return own
    if rpm is not None:
        return int(rpm)
    if tpm is not None:
        return max(1, int(tpm / 1000 * 6))
    return default


def _resolved(value: Any, environ: Mapping[str, str]) -> Any:
    if isinstance(value, str) and value.startswith(_REFERENCE):
        return environ.get(value.removeprefix(_REFERENCE))
    return value


def _number(value: Any, name: str) -> float | None:
    try:
        return None if value is None else float(value)
    except ValueError:
        raise ConfigError(
            f"deployment {name}", "litellm_params", "refers to a variable that is not a number", "Correct it."
        ) from None


def _with_own_figures(known: Model, entry: ConfiguredDeployment) -> Model:
    """Return the model with what `model_info` says of it in place of the catalog's figures."""
    figures = {**{key: value for key, value in entry.params.items() if key in _COSTS}, **entry.info}
    return replace(
        known,
        price=_price(figures, known),
        context_window=figures.get("max_input_tokens") or known.context_window,
        max_output_tokens=figures.get("max_output_tokens") or known.max_output_tokens,
    )


def _price(figures: Mapping[str, Any], known: Model) -> Price | None:
    nanos = {key: _nanos(key, figures[key]) for key in _COSTS if figures.get(key) is not None}
    if not nanos:
        return known.price
    if known.modality == "speech":
        characters = nanos.get("input_cost_per_character")
        return known.price if characters is None else Price(0, 0, character_nanos=characters)
    base = known.price
    prompt = nanos.get("input_cost_per_token", base.prompt_nanos if base else None)
    completion = nanos.get("output_cost_per_token", base.completion_nanos if base else None)
    if prompt is None or completion is None:
        raise NotUnderstoodError("model_info holds half a price")
    if nanos.get("cache_creation_input_token_cost", prompt) != prompt:
        raise NotUnderstoodError("model_info.cache_creation_input_token_cost differs from the input's")
    return Price(prompt, completion, cached_prompt_nanos=nanos.get("cache_read_input_token_cost"))


def _nanos(key: str, usd: Any) -> int:
    try:
        nanos = Decimal(str(usd)) * 10**9
    except ArithmeticError:
        raise NotUnderstoodError(f"{key} is not a number") from None
    if not nanos.is_finite() or nanos < 0 or nanos != nanos.to_integral_value():
        raise NotUnderstoodError(f"{key} is not a multiple of 0.000000001 USD")
    return int(nanos)
