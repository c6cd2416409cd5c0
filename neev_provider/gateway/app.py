"""The ASGI application: paths to routes, every failure to one error shape, one log line a request.

Plain ASGI, no middleware: the hot path is a dictionary look-up and a call. Called by the server.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

import msgspec

from neev_provider.errors import NeevError, RequestError, ServerError
from neev_provider.gateway.chat import chat
from neev_provider.gateway.exchange import ClientGoneError, Exchange
from neev_provider.gateway.models import list_models, retrieve_model
from neev_provider.gateway.speech import speech

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from neev_provider.admission import Principal
    from neev_provider.gateway.exchange import Receive, Scope, Send
    from neev_provider.gateway.services import Services

    Route = Callable[[Exchange, Services, Principal], Awaitable[None]]

__all__ = ["Gateway"]

_log = logging.getLogger(__name__)
_access = logging.getLogger("neev_provider.access")

_CLIENT_CLOSED: Final = 499  # nginx's word for it, in the log only

_ROUTES: Final[dict[str, dict[str, Route]]] = {
    "/chat/completions": {"POST": chat},
    "/audio/speech": {"POST": speech},
    "/models": {"GET": list_models, "HEAD": list_models},
}
_MODEL: Final = b"/models/"
_HEALTH: Final = frozenset({"/healthz", "/readyz"})


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
        try:
            await self._answer(exchange)
        except NeevError as error:
            await self._fail(exchange, error)
        except ClientGoneError:
            exchange.status = _CLIENT_CLOSED
        except Exception:  # noqa: BLE001 - the last line of defence: logged, and told without a detail
            _log.exception("request %s failed", exchange.request_id.decode())
            await self._fail(
                exchange,
                ServerError("internal_error", "Something went wrong here. Please tell the operator."),
            )
        finally:
            _note(exchange)

    async def _fail(self, exchange: Exchange, error: NeevError) -> None:
        if exchange.status:
            # Part of the answer is out: only breaking off tells the client that it is not whole.
            raise error
        await exchange.fail(error)

    async def _answer(self, exchange: Exchange) -> None:
        path: str = exchange.scope["path"]
        if path in _HEALTH:
            await self._health(exchange, path)
            return
        principal = await self._services.access.authenticate(exchange.bearer())
        exchange.notes["key_id"] = principal.key_id
        methods = _ROUTES.get(path.removeprefix("/v1"))
        if methods is None:
            await self._model_or_nothing(exchange, principal)
            return
        route = methods.get(exchange.scope["method"])
        if route is None:
            raise _wrong_method(exchange, methods)
        await route(exchange, self._services, principal)

    async def _model_or_nothing(self, exchange: Exchange, principal: Principal) -> None:
        # The raw path: an id may hold %2F, which the decoded one shows as a separator.
        raw: bytes = exchange.scope.get("raw_path") or exchange.scope["path"].encode()
        path = raw.partition(b"?")[0].removeprefix(b"/v1")
        if not path.startswith(_MODEL) or len(path) == len(_MODEL):
            raise RequestError("unknown_url", "There is nothing at this URL. The API's base URL ends in /v1.")
        if exchange.scope["method"] not in {"GET", "HEAD"}:
            raise _wrong_method(exchange, ("GET", "HEAD"))
        name = unquote_to_bytes(path.removeprefix(_MODEL)).decode("utf-8", "replace")
        await retrieve_model(exchange, self._services, principal, name)

    async def _health(self, exchange: Exchange, path: str) -> None:
        ready = path == "/healthz" or self._is_ready()
        body = msgspec.json.encode({"status": "ok" if ready else "draining"})
        await exchange.reply(200 if ready else 503, body)


def _wrong_method(exchange: Exchange, allowed: Any) -> RequestError:
    method = str(exchange.scope["method"])[:20]
    return RequestError(
        "method_not_allowed", f"{method} is not possible here. Use {' or '.join(sorted(allowed))}."
    )


def _note(exchange: Exchange) -> None:
    """Write the request's log line; never its content."""
    if _access.isEnabledFor(logging.INFO):
        line = {
            "request_id": exchange.request_id.decode(),
            "method": exchange.scope["method"],
            "path": exchange.scope["path"][:200],
            "status": exchange.status,
            "ms": round((time.perf_counter() - exchange.started) * 1000, 2),
            **exchange.notes,
        }
        _access.info("%s", msgspec.json.encode(line).decode())
