"""The LiteLLM path: a streaming reverse proxy to the LiteLLM process, for every request that the fast path leaves.

Answers are passed on as they arrive, errors in the contract's shape. What is let through is `litellm_routes.py`'s to
say, which headers cross over `litellm_headers.py`'s, what LiteLLM's errors mean `litellm_answers.py`'s. Called by
`app.py`, `intake.py` and the routes; made by `worker.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import msgspec
from yarl import URL

from neev_provider.contract import (
    fallback_fields,
    looks_like_audio,
    peek_model,
    read_fields,
    refuse_forbidden,
    refuse_many_attempts,
)
from neev_provider.deployment import Timeouts
from neev_provider.errors import NeevError, RequestError, ServerError, UpstreamError
from neev_provider.gateway.litellm_answers import error_from_litellm
from neev_provider.gateway.litellm_events import error_event, relay_events
from neev_provider.gateway.litellm_headers import client_headers, litellm_headers
from neev_provider.gateway.litellm_routes import DEFAULT_ROUTES, Routes, passed_query

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from neev_provider.gateway.exchange import Exchange, Limits
    from neev_provider.gateway.request_facts import RequestFacts

__all__ = ["DEFAULT_ROUTES", "LiteLLMPath"]

_log = logging.getLogger(__name__)

# A little more than LiteLLM has itself (600 s in all, 120 s for each read of our adapter): its answer says more.
_TIMEOUTS: Final = Timeouts(connect=5.0, idle=130.0, total=630.0)
_FORMS: Final = frozenset({b"multipart/form-data", b"application/x-www-form-urlencoded"})
_EVENTS: Final = "text/event-stream"
_OWN_ROUTES: Final = frozenset(
    {"/chat/completions", "/audio/speech"}
)  # of the gateway, whatever is let through
_NO_TOOLS: Final = msgspec.Raw(b"null")
_RETRY_SECONDS: Final = 5.0
_MAX_ERROR_BYTES: Final = 1_000_000
_MAX_HEADER_BYTES: Final = 65_536
# LiteLLM's server closes what was idle for 5 s; a request that met that would be lost.
_KEEP_ALIVE_SECONDS: Final = 2.0
_PROBE_SECONDS: Final = 5.0
_PROBE_DOWN_SECONDS: Final = 0.25


class LiteLLMPath:
    """The way to the LiteLLM process.

    Args:
        base_url: where it listens, without a path.
        routes: paths that are let through, `*` for one segment; each also with `/v1` before it.
        limits: of request bodies.
        timeouts: `idle` bounds each read of an answer but the first, for which LiteLLM may have tried several
            upstreams; `total` the whole.
        forward_key: sent in place of the client's key; None sends the client's own.

    Attributes:
        ready: whether it answered its last probe.
        was_ready: whether it ever did.
    """

    def __init__(
        self,
        base_url: str,
        *,
        routes: Sequence[str] = DEFAULT_ROUTES,
        limits: Limits,
        timeouts: Timeouts = _TIMEOUTS,
        forward_key: str | None = None,
    ) -> None:
        self._base_url: Final = base_url.rstrip("/")
        self._limits: Final = limits
        self._timeouts: Final = timeouts
        self._forward_key: Final = forward_key
        self._routes: Final = Routes(routes)
        self._session: aiohttp.ClientSession | None = None
        self._look_again: Final = asyncio.Event()
        self.ready = False
        self.was_ready = False

    async def run(self) -> None:
        """Watch whether LiteLLM serves, until cancelled."""
        while True:
            self.ready = await self._probe()
            self.was_ready = self.was_ready or self.ready
            self._look_again.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PROBE_SECONDS if self.ready else _PROBE_DOWN_SECONDS):
                    await self._look_again.wait()

    def allows(self, method: str, path: str) -> bool:
        """Tell whether a path is let through when called like this.

        Args:
            method: of the request.
            path: as the client sent it, without the query, undecoded.
        """
        return method in self.methods(path)

    def methods(self, path: str) -> tuple[str, ...]:
        """Return how a path may be called; nothing if it is not let through.

        Args:
            path: as the client sent it, without the query, undecoded.
        """
        route = self._routes.find(path)
        return () if route is None else route.methods

    def route(self, path: str) -> str:
        """Return the endpoint of a path that is let through, with `*` for what differs; "" for another.

        Args:
            path: as the client sent it, without the query, undecoded.
        """
        route = self._routes.find(path)
        return "" if route is None else route.name

    async def forward(
        self,
        exchange: Exchange,
        *,
        body: bytes | None = None,
        model: str | None = None,
        ticket: str | None = None,
        on_answer: Callable[[], None] | None = None,
    ) -> None:
        """Let LiteLLM answer.

        Args:
            exchange: the request.
            body: of the request if it has been read; else it is read or passed on as it arrives.
            model: what to put in place of the body's model.
            ticket: of the grant that LiteLLM's process is to take over, if it was let in here.
            on_answer: called when LiteLLM begins to answer.

        Raises:
            NeevError: before anything was sent; or after, if only breaking off tells the client of it.
            ClientGoneError: the client went away.
        """
        exchange.notes["via"] = "litellm"
        exchange.answer_headers[b"x-neev-path"] = b"litellm"
        path = self._path(exchange)
        body = await self._checked(exchange, path, body, model)
        sending = _Sending(exchange, self._limits, body)
        async with exchange.while_client_stays(after=sending.done):
            asked_at = time.perf_counter()
            try:
                async with self._request(exchange, path, sending, ticket) as response:
                    if on_answer is not None:
                        on_answer()
                    await self._answer(exchange, response, asked_at)
            except (NeevError, TimeoutError, aiohttp.ClientError, OSError) as error:
                raise sending.failure or self._failure(error) from None

    async def close(self) -> None:
        """Let the connections go."""
        if self._session is not None:
            await self._session.close()

    def _path(self, exchange: Exchange) -> str:
        """Return the path that LiteLLM is asked for, which is one that was found to be let through.

        Raises:
            RequestError: unknown_url.
        """
        raw: bytes = exchange.scope.get("raw_path") or exchange.scope["path"].encode()
        sent = raw.partition(b"?")[0].decode("latin-1")
        decoded: str = exchange.scope["path"]
        if self._routes.find(sent) is not None:
            return sent
        if decoded.removeprefix("/v1") in _OWN_ROUTES:
            return decoded
        raise RequestError("unknown_url", "There is nothing at this URL. The API's base URL ends in /v1.")

    async def _checked(
        self, exchange: Exchange, path: str, body: bytes | None, model: str | None
    ) -> bytes | None:
        """Return the body to send if it is JSON, or None if it is not to be read here.

        Some of what is no object makes LiteLLM break the connection off, or answer 500.

        Raises:
            RequestError: it is no JSON object, sets what only configuration may, or asks for many attempts.
        """
        if body is None:
            route = self._routes.find(path)
            if (route is not None and route.bodiless and not _has_body(exchange)) or not _holds_json(
                exchange
            ):
                return None
            body = await exchange.body(self._limits)
        fields = read_fields(body)
        if exchange.facts.model is None:
            exchange.facts.model = peek_model(body)
        refuse_forbidden([*fields, *fallback_fields(fields)])
        refuse_many_attempts(fields)
        if not bytes(fields.get("tools", _NO_TOOLS)).startswith((b"[", b"null")):
            raise RequestError("invalid_type", "tools must be an array.", param="tools")
        return body if model is None else msgspec.json.encode({**fields, "model": model})

    def _request(self, exchange: Exchange, path: str, sending: _Sending, ticket: str | None) -> Any:
        scope = exchange.scope
        query = passed_query(scope.get("query_string", b""), scope["method"])
        client = scope.get("client")
        headers = litellm_headers(
            scope["headers"],
            authorization=b"Bearer "
            + (self._forward_key or exchange.bearer() or "").encode("latin-1", "replace"),
            request_id=exchange.request_id,
            client=client[0] if client else "",
            scheme=scope.get("scheme", "http"),
            length=sending.length,
            ticket=ticket,
        )
        if exchange.facts.trace is not None:
            joined = exchange.facts.trace.begin_litellm(path)
            headers = [(name, value) for name, value in headers if name not in joined] + list(joined.items())
        return self._open_session().request(
            scope["method"],
            URL(self._base_url + path + ("?" + query if query else ""), encoded=True),
            data=sending.data(),
            headers=headers,
            allow_redirects=False,
        )

    async def _answer(self, exchange: Exchange, response: aiohttp.ClientResponse, asked_at: float) -> None:
        """Pass an answer on, or raise the error that it means."""
        if response.status >= 400:  # noqa: PLR2004
            names = {name.lower(): value for name, value in response.headers.items()}
            raise error_from_litellm(response.status, names, await self._error_body(response))
        if response.status >= 300:  # noqa: PLR2004
            raise UpstreamError("upstream_bad_response", "The answer was a redirect, which is not followed.")
        _note_routing(exchange.facts, response.headers)
        kind = response.content_type
        parts = self._parts(response)
        first = await anext(parts, b"")
        now = time.perf_counter()
        exchange.facts.waited += now - asked_at
        if kind.startswith("audio/") and not looks_like_audio(first):
            raise UpstreamError("upstream_bad_response", "The model provider's answer held no audio.")
        is_stream = kind == _EVENTS
        await exchange.begin(response.status, client_headers(response.headers.items(), framed_anew=is_stream))
        if is_stream:
            exchange.facts.is_stream = True
            await self._relay_events(exchange, first, parts)
        else:
            if first:
                await exchange.write(first)
            async for part in parts:
                await exchange.write(part)
        await exchange.end()

    async def _relay_events(self, exchange: Exchange, first: bytes, parts: AsyncIterator[bytes]) -> None:
        try:
            await relay_events(exchange, first, parts)
        except (NeevError, TimeoutError, aiohttp.ClientError, OSError) as error:
            failure = self._failure(error)
            exchange.notes["error"] = failure.code
            await exchange.write(error_event(exchange, failure))

    async def _parts(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """Yield an answer's body as it arrives.

        Raises:
            TimeoutError: too long after the part before.
        """
        while True:
            async with asyncio.timeout(self._timeouts.idle):
                part = await response.content.readany()
            if not part:
                return
            yield part

    async def _error_body(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for part in self._parts(response):
            body += part
            if len(body) > _MAX_ERROR_BYTES:
                break
        return bytes(body)

    def _failure(self, error: Exception) -> NeevError:
        """Return what to tell the client."""
        if isinstance(error, NeevError):
            return error
        if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ClientError):
            return UpstreamError("upstream_timeout", "The answer took too long.")
        if self.ready:
            _log.warning("LiteLLM does not answer: %s", type(error).__name__)
        self.ready = False
        self._look_again.set()
        what = "is not answering" if self.was_ready else "is still starting"
        return ServerError(
            "litellm_unavailable",
            f"LiteLLM, which serves this request, {what}. Try again in a moment.",
            retry_after=_RETRY_SECONDS,
        )

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(
                    total=self._timeouts.total,
                    sock_connect=self._timeouts.connect,
                    ceil_threshold=float("inf"),
                ),
                auto_decompress=False,
                trust_env=False,
                max_line_size=_MAX_HEADER_BYTES,
                max_field_size=_MAX_HEADER_BYTES,
                skip_auto_headers=("accept", "accept-encoding", "user-agent", "content-type"),
            )
        return self._session

    async def _probe(self) -> bool:
        try:
            async with self._open_session().get(
                self._base_url + "/health/liveliness",
                timeout=aiohttp.ClientTimeout(total=_PROBE_SECONDS),
                allow_redirects=False,
            ) as response:
                return response.status == 200  # noqa: PLR2004
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False


class _Sending:
    """A request's body on its way.

    Attributes:
        done: set when all of it has been handed on.
        failure: what went wrong with it, which the client library hides.
        length: in bytes, if it is known.
    """

    def __init__(self, exchange: Exchange, limits: Limits, body: bytes | None) -> None:
        self._exchange: Final = exchange
        self._limits: Final = limits
        self._body: Final = body
        self.done: Final = asyncio.Event()
        self.failure: Any = None
        declared = exchange.headers.get(b"content-length", b"")[:20]
        self.length = len(body) if body is not None else int(declared) if declared.isdigit() else None
        self._has_body: Final = body is not None or _has_body(exchange)
        if body is not None or not self._has_body:
            self.done.set()

    def data(self) -> bytes | AsyncIterator[bytes] | None:
        """Return what the client library is to send.

        Raises:
            RequestError: it is too large by what it says itself.
        """
        if self._body is not None or not self._has_body:
            return self._body
        self._exchange.check_declared_length(self._limits)
        return self._arriving()

    async def _arriving(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._exchange.body_parts(self._limits):
                yield part
        except Exception as error:
            self.failure = error
            raise
        self.done.set()


def _note_routing(facts: RequestFacts, headers: Mapping[str, str]) -> None:
    """Note what LiteLLM's router says it did."""
    retries = headers.get("x-litellm-attempted-retries", "")
    if retries.isdigit():
        facts.retries = int(retries[:3])
    if headers.get("x-litellm-attempted-fallbacks", "0") not in {"0", "None"}:
        facts.fallback = headers.get("x-litellm-model-group", "")


def _has_body(exchange: Exchange) -> bool:
    return exchange.headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in exchange.headers


def _holds_json(exchange: Exchange) -> bool:
    """Tell whether the body is JSON, by its media type; LiteLLM reads no other but forms and files.

    Raises:
        RequestError: it is something else: 415.
    """
    media = exchange.headers.get(b"content-type", b"application/json").partition(b";")[0].strip().lower()
    if exchange.scope["method"] != "POST" or media in _FORMS:
        return False
    exchange.check_media_type()
    return True
