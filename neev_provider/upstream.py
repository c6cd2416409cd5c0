"""NeevAI's Model Routing API as four calls on a pooled HTTP client.

Responsible for sending a body that is ready to a deployment, for retries before the first byte, and for turning
every way in which that can fail into a `NeevError`. Not responsible for choosing the deployment (`routing.py`), for
what the body says (`contract`) nor for what the answer means (`sse.py`, `usage.py`). Called by both doors.

    async with Upstream() as upstream:
        response = await upstream.chat(deployment, body)
        async with await upstream.open_stream(deployment, build_body) as stream:
            async for data in stream:
                ...
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from copy import copy
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, Self

import msgspec

from neev_provider.deployment import Deployment, Timeouts, normalise_base_url
from neev_provider.errors import NeevError, from_upstream
from neev_provider.retry import NO_RETRIES, ConnectError, RetryBudget, RetryPolicy
from neev_provider.sse import error_of_object
from neev_provider.upstream_body import AudioStream, BodyReader, ChatStream
from neev_provider.upstream_faults import TRANSPORT_FAULTS, bad_response, before_status, timed_out
from neev_provider.usage_refusal import UsageRefusals
from neev_provider.wire import Pool, headers_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from types import TracebackType

    from neev_provider.deployment import Endpoint
    from neev_provider.wire import Answer

__all__ = [
    "NO_RETRIES",
    "AudioStream",
    "BodyReader",
    "ChatStream",
    "ConnectError",
    "Deployment",
    "Response",
    "RetryPolicy",
    "Timeouts",
    "Upstream",
    "UpstreamEvents",
    "normalise_base_url",
]

_log = logging.getLogger(__name__)

MAX_BODY_BYTES: Final = 64 * 1024 * 1024
_MAX_ERROR_BYTES: Final = 64 * 1024  # of an error's body; only its message is wanted

_OK: Final = 200
_EVENTS: Final = frozenset({"text/event-stream", ""})  # no type at all is taken at its word
_UNTYPED: Final = frozenset({"application/octet-stream", ""})
_NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


_SLICES: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANYTHING: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder()


class Response(msgspec.Struct, frozen=True):
    """A complete answer.

    Attributes:
        status: always 200; all else is raised.
        head: upstream's headers as they came, names and values.
        body: a JSON object, as received.
        fields: the object's top-level members, each still encoded, so that one can be read or replaced without
            decoding the rest.
    """

    status: int
    head: list[tuple[bytes, bytes]]
    body: bytes
    fields: dict[str, msgspec.Raw]

    @property
    def headers(self) -> Mapping[str, str]:
        """Upstream's headers, by case-insensitive name."""
        return headers_of(self.head)


class UpstreamEvents(Protocol):
    """Told what happens, for metrics. Called on the hot path: must not block nor raise."""

    def on_attempt(self, deployment: Deployment, error: NeevError | None, seconds: float) -> None:
        """One attempt has its status, or failed with `error`, `seconds` after it began."""

    def on_retry(self, deployment: Deployment, error: NeevError, delay: float) -> None:
        """A failed attempt will be followed by another in `delay` seconds."""

    def on_retry_denied(self, deployment: Deployment, error: NeevError) -> None:
        """A failed attempt would be retried, but the retry budget is used up."""


class Upstream:
    """A pooled client, for one event loop. Close it, or use it as an asynchronous context manager.

    Args:
        timeouts: for calls that bring none of their own.
        retry: when calls are tried again.
        events: told of attempts and retries.
        max_body_bytes: bound of an answer that is read whole, after decompression.
        pool: in place of one of its own; closed together with this client.
        clock: seconds, monotonic.
        sleep: waits between attempts.
        jitter: random numbers from 0 to 1.
    """

    def __init__(
        self,
        *,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        events: UpstreamEvents | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
        pool: Pool | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._timeouts: Final = timeouts or Timeouts()
        self._retry: Final = retry or RetryPolicy()
        self._events: Final = events
        self._max_body_bytes: Final = max_body_bytes
        self._pool: Final = pool or Pool()
        self._clock: Final = clock
        self._sleep: Final = sleep
        self._jitter: Final = jitter
        self._budgets: Final[dict[str, RetryBudget]] = {}  # by base URL
        self._refusals: Final = UsageRefusals(clock)

    async def chat(
        self, deployment: Deployment, body: bytes, *, timeouts: Timeouts | None = None, more_head: bytes = b""
    ) -> Response:
        """Send a chat request without `stream` and return its answer.

        Args:
            deployment: where to.
            body: of the request.
            timeouts: in place of the client's own.
            more_head: header lines, each with its end, beside the deployment's own.

        Raises:
            NeevError: anything but a 200 with a JSON object that is not an error.
        """
        call = self._call(deployment, deployment.chat, timeouts, more_head)
        answer = await self._answer(call, body)
        content = await self._reader(call, answer).read_all(self._max_body_bytes)
        return Response(_OK, answer.head, content, _json_object(content))

    async def open_stream(
        self,
        deployment: Deployment,
        build_body: Callable[[bool], bytes],
        *,
        model: str = "",
        timeouts: Timeouts | None = None,
        more_head: bytes = b"",
    ) -> ChatStream:
        """Send a chat request with `stream` and return its events, upstream's status being known.

        Usage is asked for. If upstream refuses the request, it is sent once more without asking; if that works, the
        refusal is remembered for an hour, else the first refusal is raised.

        Args:
            deployment: where to.
            build_body: makes the body; told whether to ask for usage.
            model: upstream's id of the model, for that memory alone.
            timeouts: in place of the client's own.
            more_head: header lines, each with its end, beside the deployment's own.

        Raises:
            NeevError: anything but a 200 with `text/event-stream`.
        """
        call = self._call(deployment, deployment.chat, timeouts, more_head)
        if self._refusals.expected(deployment.base_url, model):
            return await self._stream(call, build_body(False), asks_usage=False)
        try:
            return await self._stream(call, build_body(True), asks_usage=True)
        except NeevError as refusal:
            if not self._refusals.possible(refusal):
                raise
            first = refusal.with_traceback(None)  # which would hold this frame, and so itself
        try:
            stream = await self._stream(call, build_body(False), asks_usage=False)
        except NeevError:
            raise copy(first) from None
        self._refusals.remember(deployment.base_url, model)
        return stream

    async def open_speech(
        self, deployment: Deployment, body: bytes, *, timeouts: Timeouts | None = None, more_head: bytes = b""
    ) -> AudioStream:
        """Send a speech request and return its audio, the first bytes of it being there.

        Args:
            deployment: where to.
            body: of the request.
            timeouts: in place of the client's own.
            more_head: header lines, each with its end, beside the deployment's own.

        Raises:
            NeevError: anything but a 200 with audio.
        """
        call = self._call(deployment, deployment.speech, timeouts, more_head)
        response = await self._answer(call, body)
        media = _media_type(response)
        if media not in _UNTYPED and not media.startswith("audio/"):
            raise await self._wrong_media(call, response, "The model provider did not answer with audio.")
        audio = AudioStream(response, call.timeouts, call.ends - self._clock())
        await audio.start()
        return audio

    async def models(
        self, deployment: Deployment, *, timeouts: Timeouts | None = None
    ) -> list[dict[str, Any]]:
        """Return upstream's models as `{id, object, created, owned_by}`.

        Entries without an id, and repeated ones, are left out; an unknown owner is "", an unknown time 0.

        Raises:
            NeevError: anything but a 200 with a list.
        """
        call = self._call(deployment, deployment.models, timeouts)
        content = await self._reader(call, await self._answer(call, None)).read_all(self._max_body_bytes)
        entries = _decoded(_json_object(content).get("data", b"null"))
        if not isinstance(entries, list):
            raise bad_response("The model provider's list of models is not a list.", status=_OK)
        models: dict[str, dict[str, Any]] = {}
        for entry in entries:
            model_id = entry.get("id") if isinstance(entry, dict) else None
            if isinstance(model_id, str) and model_id:
                models.setdefault(model_id, _listed(model_id, entry))
        return list(models.values())

    async def close(self) -> None:
        """Close all connections, streams that are open included; may be called any number of times."""
        await self._pool.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _call(
        self, deployment: Deployment, endpoint: Endpoint, timeouts: Timeouts | None, more_head: bytes = b""
    ) -> _Call:
        timeouts = timeouts or self._timeouts
        return _Call(deployment, endpoint, timeouts, self._clock() + timeouts.total, more_head)

    def _reader(self, call: _Call, response: Answer) -> BodyReader:
        return BodyReader(response, call.timeouts, call.ends - self._clock())

    async def _stream(self, call: _Call, body: bytes, *, asks_usage: bool) -> ChatStream:
        response = await self._answer(call, body)
        if _media_type(response) not in _EVENTS:
            raise await self._wrong_media(call, response, "The model provider did not answer with a stream.")
        return ChatStream(response, call.timeouts, call.ends - self._clock(), asks_usage=asks_usage)

    async def _answer(self, call: _Call, body: bytes | None) -> Answer:
        """Return a response with status 200 whose body has not been read; try again as the policy says."""
        earlier: list[NeevError] = []
        if self._retry.max_retries:
            self._budget(call).add_call()
        while True:
            began = self._clock()
            try:
                response = await self._attempt(call, body)
            except NeevError as error:
                self._tell(call, error, began)
                delay = self._delay(call, error, earlier)
                if delay is None:
                    raise
                earlier.append(error.with_traceback(None))  # which would hold this frame, and so the list
            else:
                self._tell(call, None, began)
                return response
            await self._sleep(delay)

    def _tell(self, call: _Call, error: NeevError | None, began: float) -> None:
        if self._events is not None:
            self._events.on_attempt(call.deployment, error, self._clock() - began)

    def _delay(self, call: _Call, error: NeevError, earlier: list[NeevError]) -> float | None:
        """Return how long to wait before the next attempt, or None if there is to be none."""
        delay = self._retry.delay(error, earlier, self._jitter())
        if delay is None or self._clock() + delay >= call.ends:
            return None
        allowed = self._budget(call).take_retry()
        if self._events is not None:
            if allowed:
                self._events.on_retry(call.deployment, error, delay)
            else:
                self._events.on_retry_denied(call.deployment, error)
        return delay if allowed else None

    def _budget(self, call: _Call) -> RetryBudget:
        base_url = call.deployment.base_url
        budget = self._budgets.get(base_url)
        if budget is None:
            budget = RetryBudget(self._retry.budget_ratio, self._retry.budget_floor, self._clock)
            self._budgets[base_url] = budget
        return budget

    async def _attempt(self, call: _Call, body: bytes | None) -> Answer:
        endpoint = call.endpoint
        end = b"\r\n" if body is None else b"content-length: %d\r\n\r\n" % len(body)
        head = endpoint.head + call.more_head + end
        try:
            response = await self._pool.send(
                endpoint.origin,
                head,
                body or b"",
                connect_seconds=call.timeouts.connect,
                seconds=min(call.ends - self._clock(), call.timeouts.idle),
            )
        except TRANSPORT_FAULTS as fault:
            _log.warning("deployment %s: %s: %.300s", call.deployment.name, type(fault).__name__, fault)
            if type(fault) is TimeoutError:
                raise timed_out("The model provider did not answer in time.") from None
            raise before_status(fault) from None
        if response.status == _OK:
            return response
        content = await self._read_start(call, response)
        error = from_upstream(response.status, content, retry_after=response.header(b"retry-after") or None)
        if error.code == "upstream_auth_error":
            _log.error(
                "deployment %s: upstream refuses our account with status %d",
                call.deployment.name,
                response.status,
            )
        raise error

    async def _wrong_media(self, call: _Call, response: Answer, message: str) -> NeevError:
        """Return the error for a 200 that is of another kind than was asked for; it may say why."""
        content = await self._read_start(call, response)
        try:
            failure = error_of_object(msgspec.json.decode(content))
        except _NOT_JSON:
            failure = None
        return failure or bad_response(message, status=_OK)

    async def _read_start(self, call: _Call, response: Answer) -> bytes:
        """Return the beginning of an error's body, as much as can be had."""
        content = b""
        reader = self._reader(call, response)
        try:
            while len(content) < _MAX_ERROR_BYTES and (data := await reader.read()):
                content += data
        except NeevError:
            pass
        finally:
            reader.close()
        return content


class _Call(NamedTuple):
    """One call with all its attempts."""

    deployment: Deployment
    endpoint: Endpoint
    timeouts: Timeouts
    ends: float  # by the client's clock
    more_head: bytes


def _media_type(response: Answer) -> str:
    return response.header(b"content-type").partition(";")[0].strip().lower()


def _json_object(content: bytes) -> dict[str, msgspec.Raw]:
    """Split a body that should be a JSON object and no error.

    Raises:
        NeevError: it is something else, or the error that it reports.
    """
    fields: dict[str, msgspec.Raw] = _decoded(content, _SLICES)
    if "error" in fields and (failure := error_of_object({"error": _decoded(fields["error"])})) is not None:
        raise failure
    return fields


def _decoded(content: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[Any] = _ANYTHING) -> Any:
    try:
        return decoder.decode(content)
    except _NOT_JSON:
        raise bad_response("The model provider's answer is not a JSON object.", status=_OK) from None


def _listed(model_id: str, entry: dict[str, Any]) -> dict[str, Any]:
    created, owner = entry.get("created"), entry.get("owned_by")
    return {
        "id": model_id,
        "object": "model",
        "created": created if type(created) is int and created > 0 else 0,
        "owned_by": owner if isinstance(owner, str) else "",
    }
