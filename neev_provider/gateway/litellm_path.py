"""The LiteLLM path: a streaming reverse proxy to the LiteLLM process, for every route that the gateway does not own.

What is let through is a list of routes; a path is matched as it is sent, so there is no second reading of it that
could lead elsewhere. Answers are passed on as they arrive, errors in the contract's shape. Called by `app.py` and
`intake.py`; made by `worker.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import msgspec
from yarl import URL

from neev_provider.contract import read_fields, refuse_forbidden
from neev_provider.errors import NeevError, ServerError, UpstreamError
from neev_provider.gateway.litellm_answers import error_from_litellm, error_from_object
from neev_provider.sse import EventSplitter, data_of, encode_event, terminated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from neev_provider.gateway.exchange import Exchange, Limits

__all__ = ["DEFAULT_ROUTES", "LiteLLMPath"]

_log = logging.getLogger(__name__)

DEFAULT_ROUTES: Final = (
    *("/chat/completions", "/completions", "/embeddings", "/moderations", "/rerank"),
    *("/audio/speech", "/audio/transcriptions", "/images/generations", "/images/edits"),
    *("/responses", "/responses/*", "/responses/*/cancel", "/responses/*/input_items"),
    *("/messages", "/messages/count_tokens"),
    *("/engines/*/chat/completions", "/engines/*/completions", "/engines/*/embeddings"),
    *("/openai/deployments/*/chat/completions", "/openai/deployments/*/completions"),
    *("/openai/deployments/*/embeddings", "/openai/deployments/*/audio/transcriptions"),
)
"""What is let through unless the configuration says otherwise: LLM routes; each also behind `/v1`. Files and batches
need LiteLLM's database and are left out, as are its admin routes, its UI and the pass-through routes of vendors."""

_READS: Final = frozenset({"/responses/*", "/responses/*/input_items"})
_METHODS: Final[Mapping[str, tuple[str, ...]]] = {
    "/responses/*": ("GET", "DELETE"),
    "/responses/*/input_items": ("GET",),
}
_SEGMENT: Final = r"[A-Za-z0-9_~:@=+-][A-Za-z0-9._~:@=+-]*"  # never "." or "..", nothing encoded

# RFC 9110, 7.6.1, and what each side of a proxy says for itself. Nothing is compressed on the way from LiteLLM: it is
# the same machine, and its errors are read here.
_HOP_BY_HOP: Final = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding"
    b" upgrade host content-length expect accept-encoding".split()
)
# Headers that LiteLLM takes for a key, and those that would speak for somebody else.
_CREDENTIALS: Final = frozenset(
    b"authorization x-api-key api-key x-goog-api-key ocp-apim-subscription-key cookie forwarded x-forwarded-for"
    b" x-forwarded-host x-forwarded-proto x-real-ip x-request-id".split()
)
_OWN_PREFIXES: Final = (b"x-litellm-", b"x-pass-", b"x-mcp-", b"x-neev-")
_HARMLESS: Final = frozenset(
    b"x-litellm-timeout x-litellm-stream-timeout x-litellm-num-retries x-litellm-tags x-litellm-trace-id"
    b" x-litellm-session-id".split()
)
_SHOWN: Final = frozenset(
    {
        "content-type",
        "content-length",
        "content-disposition",
        "content-encoding",
        "cache-control",
        "x-accel-buffering",
        "retry-after",
        "x-litellm-call-id",
        "x-litellm-model-group",
        "x-litellm-response-cost",
        "x-litellm-attempted-retries",
        "x-litellm-attempted-fallbacks",
        "x-litellm-cache-key",
        "x-litellm-version",
    }
)
_SHOWN_PREFIXES: Final = ("x-ratelimit-", "anthropic-")

_FORMS: Final = frozenset({b"multipart/form-data", b"application/x-www-form-urlencoded"})
_STARTING_RETRY_SECONDS: Final = 5.0
_MAX_ERROR_BYTES: Final = 1_000_000
_CONNECT_SECONDS: Final = 5.0
# LiteLLM ends its own calls before: its answer says more than ours could.
_TOTAL_SECONDS: Final = 630.0
_PROBE_SECONDS: Final = 5.0
_PROBE_DOWN_SECONDS: Final = 0.25


class LiteLLMPath:
    """The way to the LiteLLM process.

    Args:
        base_url: where it listens.
        routes: paths that are let through, `*` for one segment; each also with `/v1` before it.
        limits: of request bodies.
        forward_key: sent in place of the client's credentials; the gateway has looked at those.
        total_seconds: for one answer.

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
        forward_key: str,
        total_seconds: float = _TOTAL_SECONDS,
    ) -> None:
        self._base_url: Final = base_url
        self._limits: Final = limits
        self._authorization: Final = b"Bearer " + forward_key.encode()
        self._routes: Final = [(_expression(route), _METHODS.get(route, ("POST",))) for route in routes]
        self._timeout: Final = aiohttp.ClientTimeout(total=total_seconds, sock_connect=_CONNECT_SECONDS)
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

    def methods(self, path: str) -> tuple[str, ...]:
        """Return how a path may be called; nothing if it is not let through.

        Args:
            path: as the client sent it, without the query, undecoded.
        """
        return next((methods for route, methods in self._routes if route.fullmatch(path)), ())

    async def forward(
        self, exchange: Exchange, *, body: bytes | None = None, model: str | None = None
    ) -> None:
        """Let LiteLLM answer.

        Args:
            exchange: the request.
            body: of the request if it has been read; else it is passed on as it arrives.
            model: what to put in place of the body's model.

        Raises:
            NeevError: before anything was sent.
            ClientGoneError: the client went away.
        """
        exchange.notes["via"] = "litellm"
        if body is None and _holds_json(exchange):
            body = await exchange.body(self._limits)
        if body is not None:
            # Some of what is no object makes LiteLLM break the connection off, or answer 500.
            fields = read_fields(body)
            refuse_forbidden(fields)
            if model is not None:
                body = msgspec.json.encode({**fields, "model": model})
        sending = _Sending(exchange, self._limits, body)
        async with exchange.while_client_stays(after=sending.done):
            try:
                async with self._request(exchange, sending) as response:
                    await _answer(exchange, response)
            except NeevError:
                raise
            except TimeoutError:
                raise UpstreamError("upstream_timeout", "The answer took too long.") from None
            except (aiohttp.ClientError, OSError) as error:
                if sending.failure is not None:
                    raise sending.failure from None
                self.ready = False
                self._look_again.set()
                _log.warning("LiteLLM did not answer: %s", type(error).__name__)
                raise self._unavailable() from None

    async def close(self) -> None:
        """Let the connections go."""
        if self._session is not None:
            await self._session.close()

    def _request(self, exchange: Exchange, sending: _Sending) -> Any:
        scope = exchange.scope
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        query: bytes = scope.get("query_string", b"")
        path = raw.partition(b"?")[0].decode("latin-1") + (f"?{query.decode('latin-1')}" if query else "")
        return self._open_session().request(
            scope["method"],
            URL(self._base_url + path, encoded=True),
            data=sending.data(),
            headers=self._headers(exchange, sending),
            timeout=self._timeout,
            allow_redirects=False,
        )

    def _headers(self, exchange: Exchange, sending: _Sending) -> list[tuple[str, str]]:
        given: list[tuple[bytes, bytes]] = exchange.scope["headers"]
        named = {
            token.strip().lower()
            for name, value in given
            if name == b"connection"
            for token in value.split(b",")
        }
        headers = [
            (name, value)
            for name, value in given
            if name not in _HOP_BY_HOP
            and name not in _CREDENTIALS
            and name not in named
            and (name in _HARMLESS or not name.startswith(_OWN_PREFIXES))
        ]
        headers += [(b"authorization", self._authorization), (b"x-request-id", exchange.request_id)]
        headers.append((b"accept-encoding", b"identity"))
        if sending.length is not None:
            headers.append((b"content-length", b"%d" % sending.length))
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]

    def _unavailable(self) -> ServerError:
        what = "is not answering" if self.was_ready else "is still starting"
        return ServerError(
            "litellm_unavailable",
            f"LiteLLM, which serves this request, {what}. Try again in a moment.",
            retry_after=_STARTING_RETRY_SECONDS,
        )

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                skip_auto_headers=("accept", "accept-encoding", "user-agent", "content-type"),
            )
        return self._session

    async def _probe(self) -> bool:
        try:
            async with self._open_session().get(
                self._base_url + "/health/liveliness", timeout=aiohttp.ClientTimeout(total=_PROBE_SECONDS)
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
        self.failure: Exception | None = None
        declared = exchange.headers.get(b"content-length", b"")
        self.length = len(body) if body is not None else int(declared) if declared.isdigit() else None
        self._has_body: Final = (
            body is not None or bool(self.length) or b"transfer-encoding" in exchange.headers
        )
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


async def _answer(exchange: Exchange, response: aiohttp.ClientResponse) -> None:
    """Pass an answer on, or raise the error that it means."""
    if response.status >= 400:  # noqa: PLR2004
        body = await response.content.read(_MAX_ERROR_BYTES)
        names = {name.lower(): value for name, value in response.headers.items()}
        raise error_from_litellm(response.status, names, body)
    if response.status >= 300:  # noqa: PLR2004
        raise UpstreamError("upstream_bad_response", "The answer was a redirect, which is not followed.")
    headers = _shown_headers(response)
    kind = response.content_type
    parts = response.content.iter_any()
    first = await anext(parts, b"")
    if kind.startswith("audio/") and not _looks_like_audio(first):
        raise UpstreamError("upstream_bad_response", "The model provider's answer held no audio.")
    await exchange.begin(response.status, headers)
    if kind == "text/event-stream":
        await _relay_events(exchange, first, parts)
        return
    if first:
        await exchange.write(first)
    async for part in parts:
        await exchange.write(part)
    await exchange.end()


async def _relay_events(exchange: Exchange, first: bytes, parts: AsyncIterator[bytes]) -> None:
    """Pass events on, those of one read in one write; an error event is put into the contract's words."""
    splitter = EventSplitter()
    part = first
    try:
        while part:
            events = splitter.feed(part)
            if events:
                await exchange.write(b"".join(map(_in_our_words, events)))
            part = await anext(parts, b"")
        rest = [_in_our_words(terminated(event)) for event in splitter.flush()]
        if rest:
            await exchange.write(b"".join(rest))
    except (aiohttp.ClientError, TimeoutError, OSError):
        error = UpstreamError("upstream_bad_response", "The answer broke off before its end.")
        exchange.notes["error"] = error.code
        await exchange.write(encode_event(error.encode()))
    await exchange.end()


def _in_our_words(event: bytes) -> bytes:
    if b'"error"' not in event:
        return event
    data = data_of(event)
    try:
        answer = msgspec.json.decode(data or b"null")
    except msgspec.DecodeError:
        return event
    if not isinstance(answer, dict) or not isinstance(answer.get("error"), dict):
        return event
    status = answer["error"].get("code")
    error = error_from_object(answer, int(status) if str(status).isdigit() else 500)
    body: dict[str, Any] = error.body()
    if answer.get("type") == "error":  # Anthropic's form
        body = {"type": "error", **body}
        return b"event: error\ndata: " + msgspec.json.encode(body) + b"\n\n"
    return encode_event(msgspec.json.encode(body))


def _shown_headers(response: aiohttp.ClientResponse) -> dict[bytes, bytes]:
    headers = {
        name.lower().encode("latin-1"): value.encode("latin-1", "replace")
        for name, value in response.headers.items()
        if name.lower() in _SHOWN or name.lower().startswith(_SHOWN_PREFIXES)
    }
    headers[b"x-neev-path"] = b"litellm"
    cost = response.headers.get("x-litellm-response-cost")
    if cost is not None:
        with contextlib.suppress(ValueError):
            headers[b"x-neev-cost-usd"] = f"{float(cost):.9f}".encode()
    return headers


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


def _looks_like_audio(first: bytes) -> bool:
    # LiteLLM calls whatever came audio: a web page and a JSON error too.
    return bool(first) and not first.lstrip().startswith((b"<", b"{"))


def _expression(route: str) -> re.Pattern[str]:
    path = "".join(_SEGMENT if part == "*" else re.escape(part) for part in re.split(r"(\*)", route))
    return re.compile(f"(?:/v1)?{path}")
