"""Lets each request to a LiteLLM process in, and settles what it did cost, by the same rules as the gateway's.

A client's request is admitted once, before LiteLLM routes it, so that retries and fallbacks are not counted again. It
is settled once: by LiteLLM's success event, by its failure, or, if neither comes (a client that went away), some
seconds after the request's end with an estimate of what was produced. Who is calling is `litellm_auth.py`'s to say,
what it costs `litellm_demand.py`'s. Named by `litellm_settings.callbacks` as `neev_provider.accounts`.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any, Final

import msgspec
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy import proxy_server
from typing_extensions import override

from neev_provider.admission import Spent
from neev_provider.contract import billable_characters, looks_like_audio
from neev_provider.errors import NeevError, RequestError
from neev_provider.litellm_auth import Caller, Visit, refused
from neev_provider.litellm_demand import LIMIT_FIELDS, demand_of, is_ours, spent_of, texts_of
from neev_provider.litellm_fallbacks import fallbacks_of, lower_limits
from neev_provider.sse import data_of
from neev_provider.usage import estimate_tokens

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from neev_provider.admission import Demand, Grant
    from neev_provider.litellm_fallbacks import Fallbacks
    from neev_provider.litellm_metrics import LiteLLMMetrics

__all__ = ["NeevAccounts", "accounts"]

_MARK: Final = "neev_charge"  # in the metadata that LiteLLM carries from a request to its events
_GRACE: Final = 5.0  # seconds that LiteLLM has to report, after a request's end
_GONE: Final = 499
_RESPONSES: Final = frozenset({"responses", "aresponses"})


class _Charge:
    """What one request that was let in must pay.

    Args:
        id: names it in LiteLLM's metadata.
        grant: to settle.
        demand: what was asked for.
        ours: whether NeevAI serves it.
        characters: of speech.
        metrics: counts it; None: nothing is counted.

    Attributes:
        produced: bytes that a stream has relayed.
    """

    __slots__ = ("_settled", "characters", "demand", "grant", "id", "metrics", "ours", "produced")

    def __init__(
        self, grant: Grant, demand: Demand, *, ours: bool, characters: int, metrics: LiteLLMMetrics | None
    ) -> None:
        self.id: Final = secrets.token_hex(16)
        self.grant: Final = grant
        self.demand: Final = demand
        self.ours: Final = ours
        self.metrics: Final = metrics
        self.characters: Final = characters
        self.produced = 0
        self._settled = False

    def settle(self, spent: Spent) -> None:
        if not self._settled:
            self._settled = True
            self.grant.settle(spent)
            if self.metrics is not None:
                self.metrics.charged(self.grant.principal, self.demand.model, spent)

    def estimate(self) -> Spent:
        demand = self.demand
        completion = estimate_tokens(self.produced)
        cost = None
        if demand.prompt_nanos is not None and demand.completion_nanos is not None:
            cost = demand.prompt_tokens * demand.prompt_nanos + completion * demand.completion_nanos
            cost += demand.flat_nanos
        return Spent(
            demand.prompt_tokens,
            completion,
            cost,
            estimated=True,
            model=demand.model,
            characters=self.characters,
        )


class NeevAccounts(CustomLogger):
    """Admits and settles what goes through LiteLLM.

    Attributes:
        admits: by which `litellm_auth.py` knows that limits are kept.
    """

    admits: Final = True

    def __init__(self) -> None:
        super().__init__()
        self._charges: Final[dict[str, _Charge]] = {}

    @override
    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> None:
        """Let the request in.

        Raises:
            ProxyException: a limit or a budget is used up, or the key may not call this model.
        """
        visit = _visit(user_api_key_dict)
        if visit is None or visit.charge is not None:
            return
        entries = _entries(data.get("model"))
        demand = demand_of(data, call_type, entries)
        fallbacks = fallbacks_of(data, proxy_server.llm_router)
        try:
            worst = _worst(demand, data, call_type, entries, fallbacks)
            grant = await visit.access.admit(visit.token, worst, ticket=visit.ticket)
        except NeevError as error:
            raise refused(_explained(error, demand.model, entries)) from None
        charge = _Charge(
            grant,
            demand,
            ours=any(is_ours(str(entry["litellm_params"].get("model"))) for entry in entries),
            characters=billable_characters(str(data.get("input") or ""))
            if demand.output_cap == 0 and "voice" in data
            else 0,
            metrics=visit.metrics,
        )
        visit.charge = self._charges[charge.id] = charge
        where = "litellm_metadata" if isinstance(data.get("litellm_metadata"), dict) else "metadata"
        if not isinstance(data.get(where), dict):
            data[where] = {}
        data[where][_MARK] = charge.id
        if grant.max_tokens is not None:
            _clamp(data, call_type, grant.max_tokens)
            lower_limits(data, proxy_server.llm_router, grant.max_tokens)
        if visit.task is not None:
            visit.task.add_done_callback(lambda _task: self._end(charge))

    @override
    async def async_post_call_response_headers_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: Any,
        response: object,
        request_headers: dict[str, str] | None = None,
        litellm_call_info: dict[str, object] | None = None,
    ) -> dict[str, str] | None:
        """Return what the client is told of its limits."""
        charge = _charge(user_api_key_dict)
        if charge is None:
            return None
        return {name.decode(): value.decode() for name, value in charge.grant.headers.items()}

    @override
    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: dict[str, Any]
    ) -> AsyncIterator[Any]:
        """Pass a stream on, and count what it says for the case that LiteLLM never tells."""
        charge = _charge(user_api_key_dict)
        async for chunk in response:
            if charge is not None:
                charge.produced += _written(chunk)
            yield chunk

    @override
    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Settle what a call did cost."""
        charge = self._charge_of(kwargs)
        if charge is not None:
            if charge.characters and not _is_audio(response_obj):
                # The client gets an error for it: the gateway looks at what LiteLLM calls audio.
                self._settle(charge, Spent())
                return
            spent = spent_of(
                kwargs,
                charge.demand,
                priced=_priced(kwargs, charge.demand),
                ours=charge.ours,
                characters=charge.characters,
            )
            self._settle(charge, spent)
            if charge.metrics is not None:
                charge.metrics.succeeded(charge.demand.model, kwargs, end_time, spent.completion_tokens)

    @override
    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Count an upstream call that failed; the request may yet be answered by another."""
        charge = self._charge_of(kwargs)
        if charge is not None and charge.metrics is not None:
            charge.metrics.failed(charge.demand.model, kwargs)

    @override
    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: Any,
        traceback_str: str | None = None,
    ) -> None:
        """Settle a request that failed for good; nothing is charged if nothing was produced."""
        charge = _charge(user_api_key_dict)
        if charge is None:
            return
        is_gone = str(getattr(original_exception, "status_code", "")) == str(_GONE)
        self._settle(charge, charge.estimate() if is_gone or charge.produced else Spent())

    def settle_unreported(self) -> None:
        """Settle with estimates what LiteLLM did not report, since it will not any more."""
        for charge in list(self._charges.values()):
            self._settle_unreported(charge)

    def _charge_of(self, kwargs: dict[str, Any]) -> _Charge | None:
        """Return the request that an event of LiteLLM is about."""
        params = kwargs.get("litellm_params") or {}
        for where in ("litellm_metadata", "metadata"):
            metadata = params.get(where)
            charge = self._charges.get(metadata.get(_MARK, "")) if isinstance(metadata, dict) else None
            if charge is not None:
                return charge
        return None

    def _settle(self, charge: _Charge, spent: Spent) -> None:
        self._charges.pop(charge.id, None)
        charge.settle(spent)

    def _end(self, charge: _Charge) -> None:
        """Wait a little for LiteLLM's report, which comes behind the answer; then settle without."""
        if charge.id in self._charges:
            asyncio.get_running_loop().call_later(_GRACE, self._settle_unreported, charge)

    def _settle_unreported(self, charge: _Charge) -> None:
        if charge.id in self._charges:
            self._settle(charge, charge.estimate())


def _is_audio(answer: object) -> bool:
    """Tell whether LiteLLM's answer to a speech call holds audio; a form of it that is not known counts as such."""
    content = getattr(answer, "content", None)
    return looks_like_audio(content) if isinstance(content, bytes) else True


def _visit(caller: object) -> Visit | None:
    return caller.visit if isinstance(caller, Caller) else None


def _charge(caller: object) -> _Charge | None:
    visit = _visit(caller)
    return None if visit is None else visit.charge


def _explained(error: NeevError, model: str, entries: list[dict[str, Any]]) -> NeevError:
    """Return the refusal, but say of a model that is not there just that: its price is not what is missing."""
    if error.code != "model_unpriced" or entries or not model:
        return error
    return RequestError("model_not_found", f"The model '{model}' does not exist here.", param="model")


def _entries(name: object) -> list[dict[str, Any]]:
    router = proxy_server.llm_router
    if router is None or not isinstance(name, str):
        return []
    return [dict(entry) for entry in router.get_model_list(model_name=name) or ()]


def _worst(
    demand: Demand,
    data: Mapping[str, Any],
    call_type: str,
    entries: Sequence[Mapping[str, Any]],
    fallbacks: Fallbacks,
) -> Demand:
    """Return what a request may cost wherever it ends."""
    if not fallbacks.models and not fallbacks.changes:
        return demand
    others = {name: _entries(name) for name in fallbacks.models}
    return demand_of(data, call_type, entries, others, fallbacks.changes)


def _priced(kwargs: Mapping[str, Any], demand: Demand) -> bool:
    """Tell whether the model that has answered, perhaps a fallback, has a price."""
    group = (kwargs.get("standard_logging_object") or {}).get("model_group")
    if group in {None, demand.model}:
        return demand.priced
    return demand_of({"model": group}, "completion", _entries(group)).priced


def _clamp(data: dict[str, Any], call_type: str, most: int) -> None:
    usual = "max_output_tokens" if call_type in _RESPONSES else "max_tokens"
    for name in [field for field in LIMIT_FIELDS if data.get(field) is not None] or [usual]:
        data[name] = most


def _written(chunk: Any) -> int:
    """Return how many bytes of text a chunk brings, in any endpoint's form."""
    choices = getattr(chunk, "choices", None)
    if choices is not None:
        return sum(_size(choice.delta.model_dump()) for choice in choices if getattr(choice, "delta", None))
    if isinstance(chunk, bytes | str):
        return sum(_size(event.get("delta")) for event in _events(chunk))
    return _size(getattr(chunk, "delta", None))


def _size(delta: Any) -> int:
    return sum(len(text.encode("utf-8", "replace")) for text in texts_of(delta))


def _events(chunk: bytes | str) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    raw = chunk.encode() if isinstance(chunk, str) else chunk
    for event in raw.split(b"\n\n"):
        data = data_of(event)
        try:
            value = None if data is None else msgspec.json.decode(data)
        except msgspec.DecodeError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


accounts: Final = NeevAccounts()
