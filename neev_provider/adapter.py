"""`NeevLLM`: NeevAI as a LiteLLM provider, for `litellm.completion(model="neev/...")` and the LiteLLM proxy.

Responsible for LiteLLM's four handler methods: what they are given becomes a contract request and an upstream
call; what comes back becomes LiteLLM's objects and exceptions. Decides nothing itself: the core does. Never
calls LiteLLM back (that would fire every callback twice) and retries nothing: retries, cooldowns and fallbacks
are LiteLLM's here. Speech has no place in LiteLLM's handler interface; `proxy_config.yaml` routes it.
"""

from __future__ import annotations

import os
from contextlib import aclosing
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import httpx
import msgspec
from litellm.exceptions import MidStreamFallbackError
from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper
from litellm.utils import convert_to_model_response_object
from pydantic import BaseModel
from typing_extensions import override

from neev_provider import settings
from neev_provider.catalog import Catalog
from neev_provider.contract import LITELLM_ONLY_FIELDS, ChatRequest, check_completion, parse_chat_object
from neev_provider.deployment import RESERVED_HEADERS, Deployment, timeouts_of
from neev_provider.errors import ConfigError, NeevError, RequestError, UpstreamError
from neev_provider.litellm_chat_only import ChatOnly
from neev_provider.litellm_chunks import ESTIMATED, ChunkTranslator, usage_block
from neev_provider.litellm_errors import PROVIDER, misconfigured, missing_key, to_litellm
from neev_provider.litellm_plugin import STREAM_MARK, refuse_client_credentials
from neev_provider.loops import PerLoop, Portal
from neev_provider.retry import NO_RETRIES
from neev_provider.sse import EventSplitter, data_of, encode_event, error_of, is_done
from neev_provider.upstream import Upstream
from neev_provider.usage import StreamMeter, parse_usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping

    from litellm.types.utils import GenericStreamingChunk, ModelResponse, ModelResponseStream

    from neev_provider.deployment import Timeouts
    from neev_provider.upstream import ChatStream
    from neev_provider.usage import Usage

    Chunk: TypeAlias = ModelResponseStream | GenericStreamingChunk

__all__ = ["NeevLLM"]

_PROXY_NOTE: Final = "_litellm_"


class _Call(NamedTuple):
    """One call, read from LiteLLM's arguments."""

    model: str
    request: ChatRequest
    deployment: Deployment
    refused: frozenset[str]
    timeouts: Timeouts
    in_proxy: bool
    in_router: bool

    def encode(self, include_usage: bool) -> bytes:
        return self.request.encode(model=self.model, include_usage=include_usage, refused=self.refused)

    def failure(self, error: NeevError) -> Exception:
        return to_litellm(error, model=self.model, in_proxy=self.in_proxy)


class NeevLLM(ChatOnly):
    """The handler for LiteLLM's `custom_provider_map`.

    Key and host come from the call (`api_key`, `api_base`: a deployment's `litellm_params`), else from the
    environment (`NEEV_API_KEY`, `NEEV_BASE_URL`). The asynchronous methods share one pooled session per event
    loop; the synchronous ones run on a loop in a background thread.

    Args:
        catalog: which fields which model refuses; that of `NEEV_CATALOG`, or the package's own, by default.
        environ: where key and host are read from; the process environment by default.
    """

    def __init__(self, *, catalog: Catalog | None = None, environ: Mapping[str, str] | None = None) -> None:
        super().__init__()
        if catalog is not None:
            self.catalog = catalog
        self._environ: Final = os.environ if environ is None else environ
        self._upstreams: Final = PerLoop(lambda: Upstream(retry=NO_RETRIES))
        self._portal: Final = Portal()

    @cached_property
    def catalog(self) -> Catalog:
        """The models' quirks, read on first use."""
        return Catalog.load(settings.catalog_path(self._environ))

    @override
    def completion(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """Answer `litellm.completion(...)`; LiteLLM passes everything by name."""
        return self._portal.run(self._complete(**kwargs))

    @override
    async def acompletion(self, *args: Any, **kwargs: Any) -> ModelResponse | CustomStreamWrapper:
        """Answer `await litellm.acompletion(...)`; a stream too, if `litellm_plugin` marked the call."""
        params = dict(kwargs["optional_params"])
        if not params.pop(STREAM_MARK, False):
            return await self._complete(**kwargs)
        kwargs["optional_params"] = {**params, "stream": True}
        call = self._read(**kwargs)
        stream = await self._open(call, kwargs)
        return CustomStreamWrapper(
            completion_stream=self._closing(call, stream, kwargs),
            model=call.model,
            custom_llm_provider=PROVIDER,
            logging_obj=kwargs["logging_obj"],
        )

    @override
    def streaming(self, *args: Any, **kwargs: Any) -> Iterator[Chunk]:
        """Answer `litellm.completion(..., stream=True)`.

        Upstream's status is known when this returns, so that errors reach LiteLLM before any iteration.
        """
        call = self._read(**kwargs)
        chunks = self._closing(call, self._portal.run(self._open(call, kwargs)), kwargs)

        def synchronously() -> Iterator[Chunk]:
            try:
                while (chunk := self._portal.run(_next_or_none(chunks))) is not None:
                    yield chunk
            finally:
                self._portal.detach(chunks.aclose)

        return synchronously()

    @override
    async def astreaming(self, *args: Any, **kwargs: Any) -> AsyncIterator[Chunk]:
        """Answer `await litellm.acompletion(..., stream=True)`.

        LiteLLM calls this off the event loop and iterates later: upstream is opened, and its status checked, by
        the first step of the iteration, before anything is yielded.
        """
        call = self._read(**kwargs)
        try:
            stream = await self._open(call, kwargs)
        except Exception as error:
            if not call.in_router:
                raise
            # The router consults its fallbacks for this exception alone once a stream object exists; it takes
            # the real one out again (`LITELLM.md`, Adapter 5).
            raise MidStreamFallbackError(
                message=str(error),
                model=call.model,
                llm_provider=PROVIDER,
                original_exception=error,
                is_pre_first_chunk=True,
            ) from error
        async with aclosing(self._closing(call, stream, kwargs)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _complete(self, **kwargs: Any) -> ModelResponse:
        call = self._read(**kwargs)
        body = call.encode(include_usage=False)
        _log_request(call, body, kwargs)
        upstream = await self._upstreams.get()
        try:
            response = await upstream.chat(call.deployment, body, timeouts=call.timeouts)
            answer = msgspec.json.decode(response.body, type=dict[str, Any])
            if not isinstance(answer.get("choices"), list) or not answer["choices"]:
                raise UpstreamError("upstream_bad_response", "The model provider's answer holds no choices.")
        except NeevError as error:
            raise call.failure(error) from None
        kwargs["logging_obj"].post_call(original_response=response.body.decode("utf-8", "replace"))
        usage = parse_usage(answer.get("usage")) or _estimate(call, answer)
        _log_estimate(usage, kwargs)
        given = answer.get("usage")
        answer["usage"] = {**(given if isinstance(given, dict) else {}), **usage_block(usage)}
        try:
            built: ModelResponse = convert_to_model_response_object(
                response_object=answer, model_response_object=kwargs["model_response"]
            )
        except Exception:  # noqa: BLE001 - LiteLLM's builders raise whatever an odd answer makes them
            raise call.failure(_odd_answer()) from None
        built.model = call.model
        return built

    async def _open(self, call: _Call, kwargs: Mapping[str, Any]) -> ChatStream:
        _log_request(call, call.encode(include_usage=True), kwargs)
        upstream = await self._upstreams.get()
        try:
            return await upstream.open_stream(
                call.deployment, call.encode, model=call.model, timeouts=call.timeouts
            )
        except NeevError as error:
            raise call.failure(error) from None

    async def _closing(
        self, call: _Call, stream: ChatStream, kwargs: Mapping[str, Any]
    ) -> AsyncGenerator[Chunk]:
        """Yield a stream's chunks; close it however that ends."""
        async with stream:
            async for chunk in self._chunks(call, stream, kwargs):
                yield chunk

    async def _chunks(
        self, call: _Call, stream: ChatStream, kwargs: Mapping[str, Any]
    ) -> AsyncGenerator[Chunk]:
        translator = ChunkTranslator()
        meter = StreamMeter(call.request.prompt_bytes, call.request.n)
        try:
            async for event in _events(stream):
                meter.observe(event)
                if (failure := error_of(event)) is not None:
                    raise failure
                if is_done(event):
                    break
                data = data_of(event)
                chunk = None if data is None else _translate(translator, _decode(data))
                if chunk is not None:
                    yield chunk
            if not meter.done and not meter.ended:
                raise UpstreamError("upstream_bad_response", "The model provider's stream broke off.")
        except NeevError as error:
            raise call.failure(error) from None
        usage = meter.usage()
        _log_estimate(usage, kwargs)
        yield translator.end(usage)
        await stream.finish()

    def _read(
        self,
        *,
        model: str,
        messages: list[Any],
        api_base: str | None,
        api_key: str | None,
        optional_params: dict[str, Any],
        litellm_params: dict[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | httpx.Timeout | None = None,
        **_unused: Any,
    ) -> _Call:
        params = litellm_params or {}
        proxied = params.get("proxy_server_request")
        in_proxy = isinstance(proxied, dict)
        try:
            if isinstance(proxied, dict):
                refuse_client_credentials(proxied)
            fields = _fields(model, messages, optional_params)
            if params.get("text_completion"):
                # LiteLLM has made a message of each prompt, to which upstream gives one answer.
                check_completion(
                    {**fields, "prompt": [message.get("content") for message in fields["messages"]]}
                )
            request = parse_chat_object(fields)
        except RequestError as error:
            raise to_litellm(error, model=model, in_proxy=in_proxy) from None
        key = api_key or settings.api_key(self._environ)
        if not key:
            raise missing_key(model, settings.API_KEY_VARIABLES)
        try:
            deployment = Deployment(
                name=model,
                base_url=api_base or settings.base_url(self._environ),
                api_key=key,
                headers={k: v for k, v in (headers or {}).items() if k.lower() not in RESERVED_HEADERS},
            )
        except ConfigError as error:
            raise misconfigured(model, error) from None
        known = self.catalog.get(model)
        return _Call(
            model=model,
            request=request,
            deployment=deployment,
            refused=known.refused_fields if known else frozenset(),
            timeouts=_timeouts(timeout, streamed=request.stream),
            in_proxy=in_proxy,
            in_router=bool((params.get("metadata") or {}).get("model_group")),
        )


def _fields(model: str, messages: list[Any], optional_params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request as a client would have sent it: `extra_body` unpacked, LiteLLM's objects plain."""
    extra = optional_params.get("extra_body")
    # The router leaves some of its own settings among a call's parameters, as `max_retries`.
    params = {
        name: value
        for name, value in optional_params.items()
        if name != "extra_body" and name not in LITELLM_ONLY_FIELDS and not name.startswith(_PROXY_NOTE)
    }
    if isinstance(extra, dict):
        params.update(extra)
    plain = [
        message.model_dump(exclude_none=True) if isinstance(message, BaseModel) else message
        for message in messages
    ]
    return {**params, "model": model, "messages": plain}


def _timeouts(timeout: float | httpx.Timeout | None, *, streamed: bool) -> Timeouts:
    """Return LiteLLM's timeout (seconds, or httpx's object) in our terms; ours where it says nothing."""
    if not isinstance(timeout, httpx.Timeout):
        return timeouts_of(None if timeout is None else float(timeout), streamed=streamed)
    ours = timeouts_of(timeout.read, streamed=streamed)
    return ours if timeout.connect is None else replace(ours, connect=timeout.connect)


def _log_request(call: _Call, body: bytes, kwargs: Mapping[str, Any]) -> None:
    """Tell LiteLLM when the upstream call starts: its overhead and time-to-first-token figures need it."""
    kwargs["logging_obj"].pre_call(
        input=kwargs["messages"],
        api_key="",  # never the key: it would reach every logging callback
        additional_args={
            "complete_input_dict": msgspec.json.decode(body),
            "api_base": call.deployment.base_url,
            "headers": {},
        },
    )


def _log_estimate(usage: Usage, kwargs: Mapping[str, Any]) -> None:
    """Note for the event that settles the call that nobody counted its tokens but us: the answer cannot say so."""
    if usage.estimated:
        kwargs["logging_obj"].model_call_details[ESTIMATED] = True


def _estimate(call: _Call, answer: Mapping[str, Any]) -> Usage:
    """Return what an answer without usage most likely cost: as if the same had been streamed."""
    choices = [{"delta": choice.get("message")} for choice in answer["choices"] if isinstance(choice, dict)]
    meter = StreamMeter(call.request.prompt_bytes)
    meter.observe(encode_event(msgspec.json.encode({"choices": choices})))
    return msgspec.structs.replace(meter.usage(), estimated=True)


async def _events(stream: ChatStream) -> AsyncIterator[bytes]:
    splitter = EventSplitter()
    async for data in stream:
        for event in splitter.feed(data):
            yield event
    for event in splitter.flush():
        yield event


def _translate(translator: ChunkTranslator, chunk: dict[str, Any]) -> Chunk | None:
    try:
        return translator.feed(chunk)
    except Exception:  # noqa: BLE001 - LiteLLM's types raise whatever an odd chunk makes them
        raise _odd_answer() from None


def _odd_answer() -> UpstreamError:
    return UpstreamError("upstream_bad_response", "The model provider's answer is not a chat completion.")


def _decode(data: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise UpstreamError(
            "upstream_bad_response", "The model provider sent a chunk that is not valid JSON."
        ) from None


async def _next_or_none(chunks: AsyncIterator[Chunk]) -> Chunk | None:
    return await anext(chunks, None)
