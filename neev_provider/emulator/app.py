"""The emulator as an ASGI application: routes, keys, faults, and one place where every request ends.

Called by a server (`server.py`, or any other ASGI server). What a route answers is in the route's own module.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from neev_provider.emulator import chat, speech
from neev_provider.emulator.control import PREFIX, REDIRECTED, Control
from neev_provider.emulator.early import answer_early
from neev_provider.emulator.exchange import Exchange
from neev_provider.emulator.fault_book import FaultBook
from neev_provider.emulator.faults import HEALTHY, Faults, FaultSyntaxError
from neev_provider.emulator.models import ModelPages
from neev_provider.emulator.quirks import Quirks
from neev_provider.emulator.refusal import ClientGone, Refusal
from neev_provider.emulator.stats import Record, Stats, key_label
from neev_provider.emulator.steering import ECHO_HEADER, FAULT_HEADER, Lines, read_lines
from neev_provider.emulator.validation import CHAT_FIELDS, check_chat, check_speech, read_json_object

if TYPE_CHECKING:
    from neev_provider.catalog import Catalog, Model
    from neev_provider.emulator.engine import Engine
    from neev_provider.emulator.exchange import Receive, Scope, Send
    from neev_provider.emulator.quirks import Route

__all__ = ["EmulatorApp", "create_app"]

_log = logging.getLogger(__name__)

_KEY_PREFIX: Final = "sk-nc-"
_MODELS: Final = "/v1/models"


@dataclass(slots=True)
class _Request:
    """A request on its way through the application."""

    exchange: Exchange
    record: Record
    route: Route
    body: dict[str, Any] | None = None
    problem: Refusal | None = None
    lines: Lines = Lines("")  # noqa: RUF009 - frozen
    faults: Faults = HEALTHY


class EmulatorApp:
    """One emulator.

    Attributes:
        engine: what answers.
        stats: what really happened.
        faults: the process-wide faults.
    """

    def __init__(
        self, engine: Engine, catalog: Catalog, quirks: Quirks, faults: FaultBook, about: dict[str, Any]
    ) -> None:
        self.engine = engine
        self.stats = Stats()
        self.faults = faults
        self._catalog = catalog
        self._quirks = quirks
        self._pages = ModelPages(catalog, only_listed=quirks.only_listed)
        self._control = Control(about, self.stats, faults)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            exchange = Exchange(scope, receive, send)
            if exchange.path.startswith(PREFIX) and exchange.path != REDIRECTED:
                await self._answer_control(exchange)
            else:
                await self._answer(exchange)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Start and close the engine with the server that hosts the application."""
        await receive()
        try:
            await self.engine.start()
        except Exception as error:  # noqa: BLE001 - the server reports it
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.engine.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer_control(self, exchange: Exchange) -> None:
        try:
            await self._control.answer(exchange)
        except Refusal as refusal:
            await exchange.respond(refusal.status, refusal.body())

    async def _answer(self, exchange: Exchange) -> None:
        route, name = _route(exchange.path)
        record = Record(
            f"{exchange.method} {name}", exchange.headers, exchange.method, exchange.path, exchange.query
        )
        self.stats.begin(record)
        request = _Request(exchange, record, route)
        try:
            try:
                await self._serve(request, name)
            except Refusal as refusal:
                await self._refuse(request, refusal)
        except ClientGone:
            exchange.ending = "aborted"
        except Exception:
            _log.exception("the emulator failed")
            if exchange.status:
                raise
            await exchange.respond(
                500, Refusal(500, "internal_error", "The emulator failed; see its log.").body()
            )
        finally:
            record.status, record.ending = exchange.status, exchange.ending
            self.stats.finish(record)

    async def _refuse(self, request: _Request, refusal: Refusal) -> None:
        """Answer with the documented error, or with what the live service makes of it."""
        instead = self._quirks.instead_of(request.route, refusal.rule)
        if instead is not None and await answer_early(request.exchange, instead, request.route, None):
            return
        await request.exchange.respond(refusal.status, refusal.body())

    async def _serve(self, request: _Request, name: str) -> None:
        exchange = request.exchange
        if name == REDIRECTED:
            raise Refusal(404, "unknown_url", "A redirect was followed; NeevAI sends none.")
        _check_route(exchange, name)
        request.record.key = key_label(_key(exchange))
        if request.route != "models":
            await self._read(request)
        elif exchange.path != _MODELS:
            request.record.model = exchange.path.removeprefix(_MODELS + "/")
        request.faults = self._choose_faults(request)
        if await answer_early(exchange, request.faults, request.route, request.body):
            return
        if request.route == "models":
            await self._models(exchange)
        elif request.route == "chat":
            await self._chat(request)
        else:
            await self._speech(request)

    async def _read(self, request: _Request) -> None:
        """Read body and steering; what is wrong with the body waits until the faults are known."""
        exchange, record = request.exchange, request.record
        record.raw = await exchange.body()
        try:
            body = read_json_object(record.raw, exchange.header(b"content-type"))
        except Refusal as refusal:
            request.problem = refusal
            return
        request.body = body
        model = body.get("model")
        record.model = model if isinstance(model, str) else ""
        text = chat.last_user_text(body.get("messages")) if request.route == "chat" else body.get("input")
        request.lines = read_lines(text if isinstance(text, str) else "")

    def _choose_faults(self, request: _Request) -> Faults:
        own = request.exchange.header(FAULT_HEADER) or request.lines.fault
        model = request.record.model
        try:
            faults = self.faults.choose(own, model)
        except FaultSyntaxError as error:
            raise Refusal(400, "invalid_value", str(error), param="x-neev-fault", rule="fault") from None
        request.record.fault = faults.text
        return faults

    def _checked(self, request: _Request) -> dict[str, Any]:
        if request.problem is not None:
            raise request.problem
        assert request.body is not None  # noqa: S101 - one of the two is set
        return request.body

    def _model(self, model_id: str, modality: str) -> Model:
        model = self._catalog.get(model_id)
        if model is None or model.modality != modality:
            # 400, not 404: what the live service answers (NEEV_API.md, certainty B).
            raise Refusal(
                400,
                "model_not_found",
                f"The model '{model_id}' does not exist or does not support this endpoint.",
                param="model",
                rule="model:unknown",
            )
        return model

    async def _models(self, exchange: Exchange) -> None:
        if exchange.path == _MODELS:
            await self._pages.list(exchange)
        else:
            await self._pages.retrieve(exchange, exchange.path.removeprefix(_MODELS + "/"))

    async def _chat(self, request: _Request) -> None:
        body = self._checked(request)
        check_chat(body)
        model = self._model(body["model"], "chat")
        _refuse_fields(body, model, strict=model.id in self._quirks.strict_models)
        if not await self._apply_model_quirk(request, model):
            call = chat.build_call(body, model, request.lines, request.exchange.header(ECHO_HEADER))
            await chat.answer_chat(
                request.exchange,
                self.engine,
                call,
                request.faults,
                request.record,
                stream=body.get("stream", False),
                include_usage=(body.get("stream_options") or {}).get("include_usage") is True,
                stream_started=lambda: self.stats.begin_stream(request.record),
            )

    async def _apply_model_quirk(self, request: _Request, model: Model) -> bool:
        """Let a model behave as it does live; return whether that was the answer."""
        quirk = None if request.faults.text else self._quirks.of_model(request.route, model.id)
        if quirk is None:
            return False
        request.faults = quirk
        request.record.fault = quirk.text
        return await answer_early(request.exchange, quirk, request.route, request.body)

    async def _speech(self, request: _Request) -> None:
        body = self._checked(request)
        check_speech(body)
        model = self._model(body["model"], "speech")
        call = speech.build_call(body, model, request.lines, request.exchange.header(ECHO_HEADER))
        await speech.answer_speech(request.exchange, self.engine, call, request.faults, request.record)


_ROUTES: Final[dict[str, tuple[Route, str]]] = {
    "/v1/chat/completions": ("chat", "POST"),
    "/v1/audio/speech": ("speech", "POST"),
    _MODELS: ("models", "GET"),
    _MODELS + "/{id}": ("models", "GET"),
}
_OTHER: Final = "other"


def _route(path: str) -> tuple[Route, str]:
    """Return a path's route and its name in the statistics."""
    if path.startswith(_MODELS + "/"):
        return "models", _MODELS + "/{id}"
    known = _ROUTES.get(path)
    if known is not None:
        return known[0], path
    return "any", REDIRECTED if path == REDIRECTED else _OTHER


def _check_route(exchange: Exchange, name: str) -> None:
    known = _ROUTES.get(name)
    if known is None:
        raise Refusal(404, "unknown_url", f"There is no {exchange.method} {exchange.path}.", rule="path")
    if exchange.path == _MODELS + "/":
        raise Refusal(404, "unknown_url", f"There is no {exchange.path}.", rule="trailing-slash")
    if exchange.method != known[1]:
        raise Refusal(405, "method_not_allowed", f"{exchange.path} takes {known[1]} only.", rule="method")


def _key(exchange: Exchange) -> str:
    scheme, _, key = (exchange.header(b"authorization") or "").partition(" ")
    if scheme.lower() != "bearer" or not key.startswith(_KEY_PREFIX) or len(key) == len(_KEY_PREFIX):
        raise Refusal(401, "invalid_api_key", "Invalid API key provided.", rule="key")
    return key


def _refuse_fields(body: dict[str, Any], model: Model, *, strict: bool) -> None:
    """Refuse what the catalog says that the model refuses, and if it is strict, whatever is not documented."""
    refused = body.keys() & model.refused_fields
    if strict:
        refused |= body.keys() - CHAT_FIELDS.keys()
    if refused:
        name = min(refused)
        raise Refusal(400, "unknown_parameter", f"Unknown parameter: '{name}'.", param=name)


def create_app(
    engine: Engine, *, catalog: Catalog, quirks: str | None = None, fault: str | None = None
) -> EmulatorApp:
    """Return an emulator as an ASGI application.

    Args:
        engine: what answers; `echo.EchoEngine()` or `local.LocalEngine()`. Started by the server's lifespan.
        catalog: the models that exist.
        quirks: "live" to play the live service's defects; None or "none": as documented.
        fault: fault string for every request that brings none.

    Raises:
        ValueError: `quirks` or `fault` is wrong.
    """
    about = {"engine": engine.name, "quirks": quirks or "none"}
    return EmulatorApp(engine, catalog, Quirks.named(quirks), FaultBook(fault), about)
