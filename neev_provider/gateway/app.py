"""The ASGI application: paths to routes, every failure to one error shape, one log line a request.

Plain ASGI, no middleware: the hot path is a dictionary look-up and a call. Called by the server.
"""

from __future__ import annotations

import contextlib
import logging
import time
from functools import cache
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

import msgspec

from neev_provider import __version__, openapi
from neev_provider.admission import tokens
from neev_provider.errors import NeevError, RequestError, ServerError, redact
from neev_provider.gateway.admin import find_admin
from neev_provider.gateway.chat import chat
from neev_provider.gateway.exchange import ClientGoneError, Exchange
from neev_provider.gateway.hand_over import hand_over
from neev_provider.gateway.models import list_models, retrieve_model
from neev_provider.gateway.request_facts import ABOUT_A_KNOWN_KEY
from neev_provider.gateway.speech import speech

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from neev_provider.gateway.exchange import Receive, Scope, Send
    from neev_provider.gateway.services import Services

    Route = Callable[[Exchange, Services], Awaitable[None]]

__all__ = ["Gateway"]

_log = logging.getLogger(__name__)

_CLIENT_CLOSED: Final = 499  # nginx's word for it, in the log only

_ROUTES: Final[dict[str, dict[str, Route]]] = {
    "/chat/completions": {"POST": chat},
    "/audio/speech": {"POST": speech},
    "/models": {"GET": list_models, "HEAD": list_models},
}
_MODEL: Final = "/models/"
_MODEL_ROUTE: Final = "/v1/models/{model}"
_READS: Final = ("GET", "HEAD")
_DOCUMENT: Final = "/openapi.json"
_READINESS: Final = frozenset({"/readyz", "/health/readiness"})
_HEALTH: Final = _READINESS | {"/healthz", "/health/liveliness", "/health/liveness"}


class Gateway:
    """The application.

    Args:
        services: what the routes work with.
        is_ready: whether requests should be sent here; false while draining.
    """

    def __init__(self, services: Services, is_ready: Callable[[], bool] = lambda: True) -> None:
        self._services: Final = services
        self._is_ready: Final = is_ready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; the ASGI entry point."""
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send)
        if self._services.metrics is not None:
            self._services.metrics.begun(exchange)
        if self._services.tracing is not None and scope["path"] not in _HEALTH:
            self._services.tracing.begin(exchange)
        try:
            await self._answer(exchange)
        except NeevError as error:
            await self._fail(exchange, error)
        except ClientGoneError:
            exchange.facts.client_left = True
            exchange.status = _CLIENT_CLOSED
        except Exception:  # noqa: BLE001 - the last line of defence: logged, and told without a detail
            _log.exception("request %s failed", exchange.request_id.decode())
            await self._fail(
                exchange,
                ServerError("internal_error", "Something went wrong here. Please tell the operator."),
            )
        finally:
            self._note(exchange)

    def _note(self, exchange: Exchange) -> None:
        """Count the request, and write its log line; never its content."""
        if self._services.metrics is not None:
            self._services.metrics.finished(exchange)
        if exchange.facts.trace is not None:
            exchange.facts.trace.end(exchange)
        log = self._services.access_log
        if log is not None:
            path: str = exchange.scope["path"][:200]
            model = exchange.notes.get("model")
            if model is not None and "-" in model:
                exchange.notes["model"] = redact(model)  # as far as it is the client's word
            log.write(
                {
                    "request_id": exchange.request_id.decode(),
                    "method": exchange.scope["method"],
                    "path": redact(path) if "-" in path else path,  # LiteLLM's tools put keys into it
                    "status": exchange.status,
                    "ms": round((time.perf_counter() - exchange.started) * 1000, 2),
                    **exchange.notes,
                }
            )

    async def _fail(self, exchange: Exchange, error: NeevError) -> None:
        if exchange.status:
            # Part of the answer is out: only breaking off tells the client that it is not whole.
            exchange.notes["error"] = error.code
            raise error
        if "key_id" not in exchange.notes and error.code in ABOUT_A_KNOWN_KEY:
            await self._note_refused(exchange)
        await exchange.fail(error)

    async def _note_refused(self, exchange: Exchange) -> None:
        """Note whose key was recognised, and refused for all that: by its id, without asking the store again."""
        token = exchange.bearer()
        key_id = None if token is None else tokens.id_of(token)
        if key_id is not None:
            exchange.notes["key_id"] = key_id
        else:  # the master key, or one of the configuration
            with contextlib.suppress(NeevError):
                exchange.note_caller(await self._services.access.authenticate(token))

    async def _answer(self, exchange: Exchange) -> None:
        path: str = exchange.scope["path"]
        methods: Mapping[str, Route] | None = _ROUTES.get(path.removeprefix("/v1"))
        methods = methods or find_admin(_raw_path(exchange))
        if methods is not None:
            exchange.facts.route = path
            route = methods.get(exchange.scope["method"])
            if route is None:
                raise _wrong_method(exchange, methods)
            await route(exchange, self._services)
        elif path in _HEALTH:
            _only_reads(exchange)
            await self._health(exchange, path)
        elif path == _DOCUMENT:
            exchange.facts.route = path
            _only_reads(exchange)
            await exchange.reply(200, _document())
        elif (name := _model_id(exchange)) is not None:
            exchange.facts.route = _MODEL_ROUTE
            _only_reads(exchange)
            await retrieve_model(exchange, self._services, name)
        else:
            await self._through_litellm(exchange)

    async def _through_litellm(self, exchange: Exchange) -> None:
        """Let LiteLLM answer what is not NeevAI's API, as far as it is let through."""
        litellm = self._services.litellm
        methods = () if litellm is None else litellm.methods(_raw_path(exchange))
        if litellm is None or not methods:
            raise RequestError("unknown_url", "There is nothing at this URL. The API's base URL ends in /v1.")
        exchange.facts.route = litellm.route(_raw_path(exchange))
        if exchange.scope["method"] not in methods:
            raise _wrong_method(exchange, methods)
        principal = await self._services.access.authenticate(exchange.bearer())
        exchange.note_caller(principal)
        await hand_over(exchange, self._services, principal)

    async def _health(self, exchange: Exchange, path: str) -> None:
        """Answer a probe: `/healthz` while this process works, `/readyz` while requests should be sent here.

        LiteLLM counts until it has been up once: NeevAI's own endpoints do not need it, so its later troubles are no
        reason to take this gateway away.
        """
        litellm = self._services.litellm
        state = {"status": "ok"}
        if path in _READINESS:
            if litellm is not None:
                state["litellm"] = "ok" if litellm.ready else "down" if litellm.was_ready else "starting"
            if not self._is_ready():
                state["status"] = "draining"
            elif litellm is not None and not litellm.was_ready:
                state["status"] = "starting"
        await exchange.reply(200 if state["status"] == "ok" else 503, msgspec.json.encode(state))


@cache
def _document() -> bytes:
    """Return the OpenAPI document; made when it is first asked for, since a worker would start later by a tenth."""
    return openapi.encoded(__version__, indent=-1)


def _model_id(exchange: Exchange) -> str | None:
    """Return the id of `/v1/models/{id}`, or None for another path."""
    # The raw path: an id may hold %2F, which the decoded one shows as a separator.
    path = _raw_path(exchange).removeprefix("/v1")
    if not path.startswith(_MODEL) or len(path) == len(_MODEL):
        return None
    return unquote_to_bytes(path.removeprefix(_MODEL)).decode("utf-8", "replace")


def _raw_path(exchange: Exchange) -> str:
    """Return the path as it was sent, undecoded."""
    raw: bytes = exchange.scope.get("raw_path") or exchange.scope["path"].encode()
    return raw.partition(b"?")[0].decode("latin-1")


def _only_reads(exchange: Exchange) -> None:
    if exchange.scope["method"] not in _READS:
        raise _wrong_method(exchange, _READS)


def _wrong_method(exchange: Exchange, allowed: Iterable[str]) -> RequestError:
    method = str(exchange.scope["method"])[:20]
    exchange.answer_headers[b"allow"] = ", ".join(sorted(allowed)).encode()  # RFC 9110, 15.5.6
    return RequestError(
        "method_not_allowed", f"{method} is not possible here. Use {' or '.join(sorted(allowed))}."
    )
