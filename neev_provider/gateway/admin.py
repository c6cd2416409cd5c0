"""LiteLLM's admin routes: which there are, and who may call them: the master key, and a key to ask about itself.

Whoever is not let in learns nothing but that: who asks is settled before a body is read. A path is matched as it was
sent, undecoded. Called by `app.py`; what the routes do stands in `admin_keys.py`, `admin_teams.py` and
`admin_spend.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from neev_provider.admission.virtual import MASTER
from neev_provider.errors import RequestError
from neev_provider.gateway import admin_keys, admin_spend, admin_teams
from neev_provider.gateway.admin_desk import Desk
from neev_provider.gateway.admin_request import AdminRequest, parse_fields, parse_query
from neev_provider.gateway.admin_shapes import configured_key_entry, key_entry
from neev_provider.gateway.admin_words import KEY_WORDS, TEAM_WORDS, Words

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from neev_provider.gateway.exchange import Exchange
    from neev_provider.gateway.services import Services

    Handler = Callable[[AdminRequest, Desk], Awaitable[Any]]

__all__ = ["AdminRoute", "find_admin"]

_WHO: Final = re.compile(r"[A-Za-z0-9 ._@:/+-]{1,100}")
_NOTHING: Final[frozenset[str]] = frozenset()
_REGENERATE: Final = re.compile(r"/key/([A-Za-z0-9._-]{1,200})/regenerate")


@dataclass(frozen=True, slots=True)
class AdminRoute:
    """One route; called by `app.py` as any other.

    Attributes:
        handler: answers; what it returns is sent as JSON.
        words: in which a wrong field is told.
        parameters: the query's, of a GET.
        named: what the path names, if it names something.
        for_holders: whether a key may call it, for itself.
    """

    handler: Handler
    words: Words = KEY_WORDS
    parameters: frozenset[str] = _NOTHING
    named: str | None = None
    for_holders: bool = False

    async def __call__(self, exchange: Exchange, services: Services) -> None:
        """Answer one request.

        Raises:
            NeevError: it is refused.
            ClientGoneError: the client went away before it had asked.
        """
        exchange.answer_headers[b"cache-control"] = b"no-store"
        token = exchange.bearer()
        principal = await services.access.authenticate(token)
        exchange.notes |= {"key_id": principal.key_id, "via": "admin"}
        if principal is not MASTER and not self.for_holders:
            raise _admin_only()
        request = AdminRequest(
            principal=principal,
            token=token or "",
            by=_who(exchange),
            fields=await self._fields(exchange, services),
            query=parse_query(exchange.scope.get("query_string", b""), self.parameters),
            named=self.named,
        )
        try:
            told = await self._told(request, services)
        except RequestError as error:
            raise self.words.translated(error) from None
        await exchange.reply(200, msgspec.json.encode(told))

    async def _fields(self, exchange: Exchange, services: Services) -> dict[str, msgspec.Raw]:
        if exchange.scope["method"] != "POST":
            return {}
        return parse_fields(await exchange.body(services.limits))

    async def _told(self, request: AdminRequest, services: Services) -> Any:
        if self.for_holders and request.principal is not MASTER:
            _check_holder(request)
            if not request.principal.is_limited:
                return _info(configured_key_entry(request.principal))
        if services.keys is None or services.store is None:
            raise RequestError(
                "invalid_request",
                "Virtual keys need a store, and this gateway runs without one. "
                "Start it with --store embedded, or with the URL of a Redis or Valkey.",
            )
        return await self.handler(request, Desk(services.keys, services.store))


async def _key_info(request: AdminRequest, desk: Desk) -> Any:
    """Tell about a key: any for the operator, itself for its holder."""
    name = request.query.get("key")
    if request.principal is not MASTER:
        name = request.principal.key_id
    if name is None:
        raise RequestError(
            "missing_required_parameter", "'key' is required: the master key has no record.", param="key"
        )
    return _info(key_entry(await desk.key(name)))


def _info(entry: Mapping[str, Any]) -> dict[str, Any]:
    # LiteLLM repeats what was asked for, which may be a secret.
    return {"key": entry["token"], "info": entry}


def _check_holder(request: AdminRequest) -> None:
    """Refuse a key that asks for another; whether that one is there is not told."""
    if request.query.get("key", request.token) not in {request.token, request.principal.key_id}:
        raise _admin_only()


def _who(exchange: Exchange) -> str:
    """Return who does it: the operator, and on whose behalf by LiteLLM's header, as far as it is plain text."""
    given = exchange.headers.get(b"litellm-changed-by", b"").decode("latin-1").strip()
    return f"admin:{given}" if _WHO.fullmatch(given) else "admin"


def _admin_only() -> RequestError:
    return RequestError("admin_only", "This is for the gateway's operator: it needs the master key.")


_POST: Final[Mapping[str, AdminRoute]] = {
    "/key/generate": AdminRoute(admin_keys.generate_key),
    "/key/update": AdminRoute(admin_keys.update_key),
    "/key/delete": AdminRoute(admin_keys.delete_keys),
    "/key/block": AdminRoute(admin_keys.block_key),
    "/key/unblock": AdminRoute(admin_keys.unblock_key),
    "/key/regenerate": AdminRoute(admin_keys.regenerate_key),
    "/v2/key/info": AdminRoute(admin_keys.key_infos),
    "/team/new": AdminRoute(admin_teams.new_team, TEAM_WORDS),
    "/team/update": AdminRoute(admin_teams.update_team, TEAM_WORDS),
    "/team/delete": AdminRoute(admin_teams.delete_teams, TEAM_WORDS),
    "/team/block": AdminRoute(admin_teams.block_team, TEAM_WORDS),
    "/team/unblock": AdminRoute(admin_teams.unblock_team, TEAM_WORDS),
}
_GET: Final[Mapping[str, AdminRoute]] = {
    "/key/info": AdminRoute(_key_info, parameters=frozenset({"key"}), for_holders=True),
    "/key/list": AdminRoute(admin_keys.list_keys, parameters=admin_keys.KEY_LIST_PARAMETERS),
    "/team/info": AdminRoute(admin_teams.team_info, TEAM_WORDS, frozenset({"team_id"})),
    "/team/list": AdminRoute(admin_teams.list_teams, TEAM_WORDS, admin_teams.TEAM_LIST_PARAMETERS),
    "/v2/team/list": AdminRoute(admin_teams.page_teams, TEAM_WORDS, admin_teams.TEAM_PAGE_PARAMETERS),
    "/team/available": AdminRoute(admin_teams.available_teams, TEAM_WORDS),
    "/spend/keys": AdminRoute(admin_spend.spend_keys),
    "/spend/logs": AdminRoute(admin_spend.spend_logs, parameters=admin_spend.LOG_PARAMETERS),
    "/spend/daily": AdminRoute(admin_spend.spend_daily, parameters=admin_spend.DAILY_PARAMETERS),
    "/global/spend/report": AdminRoute(admin_spend.spend_report, parameters=admin_spend.REPORT_PARAMETERS),
}
_METHODS: Final[Mapping[str, Mapping[str, AdminRoute]]] = {
    **{path: {"POST": route} for path, route in _POST.items()},
    **{path: {"GET": route, "HEAD": route} for path, route in _GET.items()},
}


def find_admin(path: str) -> Mapping[str, AdminRoute] | None:
    """Return the admin routes of a path by method; None if it is none of theirs.

    Args:
        path: as it was sent, without the query, undecoded.
    """
    methods = _METHODS.get(path)
    if methods is not None:
        return methods
    match = _REGENERATE.fullmatch(path)
    return None if match is None else {"POST": replace(_POST["/key/regenerate"], named=match[1])}
