"""LiteLLM's `custom_auth`: who may call through a LiteLLM process, by the same keys as the gateway's.

The master key is LiteLLM's administrator, as ever. With `NEEV_STORE` virtual keys are let in, without it those of
the configuration's `neev.keys`. What a call may cost is `litellm_admission.py`'s to ask.
Named by `general_settings.custom_auth` as `neev_provider.custom_auth`; called by LiteLLM for each request.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import litellm
from litellm.constants import LITELLM_PROXY_MASTER_KEY_ALIAS
from litellm.proxy import proxy_server
from litellm.proxy._types import LiteLLMRoutes, LitellmUserRoles, ProxyException, UserAPIKeyAuth
from pydantic import PrivateAttr

from neev_provider import settings
from neev_provider.admission import Principal
from neev_provider.admission.ledger_file import keep_ledger
from neev_provider.admission.rules import AdmissionSettings
from neev_provider.admission.static import StaticKeys
from neev_provider.admission.tickets import TICKET_HEADER
from neev_provider.admission.virtual import MASTER, VirtualKeys
from neev_provider.catalog import Catalog
from neev_provider.config import load_config
from neev_provider.errors import ConfigError, NeevError, ServerError
from neev_provider.litellm_errors import marked
from neev_provider.litellm_metrics import LiteLLMMetrics, configured_names
from neev_provider.litellm_prices import register_prices
from neev_provider.loops import PerLoop
from neev_provider.metrics import reporting
from neev_provider.metrics.measured import MeasuredAccess, open_store, watch_admission
from neev_provider.store import check_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from neev_provider.admission import Access
    from neev_provider.config import ProxyConfig
    from neev_provider.metrics import Recorder

__all__ = ["Caller", "LiteLLMAuth", "Visit", "custom_auth", "refused"]

_log: Final = logging.getLogger(__name__)
_PROCESS: Final = "litellm"  # for metrics
_NO_MODELS: Final = ["no-default-models"]  # LiteLLM's word for none
_FALLBACK_ACCESS: Final = "enforce_fallback_model_access"  # of `general_settings`; LiteLLM's default is false
_ENDS_ABANDONED: Final = "cancel_on_disconnect"  # of `general_settings`; LiteLLM's default is false
_ROUTES: Final = ["llm_api_routes"]  # for who is not the administrator


class Visit:
    """One request of somebody who was let in; shared, never copied, by whatever LiteLLM copies.

    Args:
        access: that let him in, and must be asked what the request may cost.
        token: his key.
        task: that serves the request, to its last byte.
        ticket: of the grant under which the gateway has let it in already, if it says so; whether that is true is
            found out when the request is admitted.
        metrics: counts what it costs; None: nothing is counted.

    Attributes:
        charge: what `litellm_admission.py` notes of the request's cost.
    """

    __slots__ = ("access", "charge", "metrics", "task", "ticket", "token")

    def __init__(
        self,
        access: Access,
        token: str,
        task: asyncio.Task[Any] | None,
        metrics: LiteLLMMetrics | None,
        ticket: str | None = None,
    ) -> None:
        self.access: Final = access
        self.metrics: Final = metrics
        self.token: Final = token
        self.task: Final = task
        self.ticket: Final = ticket
        self.charge: Any = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Visit:
        return self


class Caller(UserAPIKeyAuth):
    """LiteLLM's word for who is calling, and the request that he came with."""

    _visit: Visit | None = PrivateAttr(default=None)

    @property
    def visit(self) -> Visit | None:
        """The request; None if LiteLLM made this object itself."""
        return self._visit

    def on(self, visit: Visit) -> Caller:
        """Note the request; return self."""
        self._visit = visit
        return self


class LiteLLMAuth:
    """Authenticates a LiteLLM process's clients.

    Args:
        environ: where the store is named.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ: Final = environ
        self._opened: Final = PerLoop(self._open)

    async def __call__(self, request: Request, api_key: str | None) -> UserAPIKeyAuth:
        """Return who is calling.

        Raises:
            ProxyException: nobody who is known here: 401; or the store cannot say: 503.
        """
        if not api_key and request.url.path in LiteLLMRoutes.public_routes.value:
            return UserAPIKeyAuth(user_role=LitellmUserRoles.INTERNAL_USER_VIEW_ONLY)
        try:
            opened = await self._opened.get()
            access = await opened.access()
            principal = await access.authenticate(api_key or None)
        except NeevError as error:
            raise refused(error) from None
        except ConfigError as error:
            _log.error("%s", error)
            raise ProxyException(
                "The gateway is not set up.", "server_error", None, code=500, openai_code="internal_error"
            ) from None
        ticket = request.headers.get(TICKET_HEADER)
        visit = Visit(access, api_key or "", asyncio.current_task(), opened.metrics, ticket)
        return _caller(principal).on(visit)

    def _open(self) -> _Opened:
        return _Opened(self._environ)


class _Opened:
    """The access of one event loop, opened when first asked for.

    Attributes:
        metrics: counts; None while there is no access, or if nobody wants to know.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ: Final = environ
        self._stack: Final = AsyncExitStack()
        self._lock: Final = asyncio.Lock()
        self._access: Access | None = None
        self.metrics: LiteLLMMetrics | None = None

    async def access(self) -> Access:
        """Return who may call.

        Raises:
            ConfigError: the configuration is wrong.
        """
        if self._access is None:
            async with self._lock:
                if self._access is None:
                    self._access = await self._make()
        return self._access

    async def close(self) -> None:
        """Write what is not written; log the rest."""
        await self._stack.aclose()

    async def _make(self) -> Access:
        path, master_key = proxy_server.user_config_file_path, proxy_server.master_key
        config = None if path is None else await asyncio.to_thread(load_config, path, self._environ)
        register_prices(
            Catalog.load(settings.catalog_path(self._environ)) if config is None else config.catalog
        )
        keys = {} if config is None else dict(config.keys)
        known = {token: Principal(alias, alias=alias) for token, alias in keys.items()}
        url = settings.store_url(self._environ)
        if url is not None and not any(getattr(callback, "admits", False) for callback in litellm.callbacks):
            raise ConfigError(
                str(path),
                "litellm_settings.callbacks",
                "lacks neev_provider.accounts, without which no limit and no budget would hold",
                "Add it: callbacks: [neev_provider.plugin, neev_provider.accounts]",
            )
        # LiteLLM would fall back to a model that the key may not call; the gateway's own way does not.
        proxy_server.general_settings.setdefault(_FALLBACK_ACCESS, True)
        # LiteLLM would go on with retries and fallbacks for a client that has left.
        proxy_server.general_settings.setdefault(_ENDS_ABANDONED, True)
        recorder = await self._count(config)
        if url is None:
            static = StaticKeys(known | ({master_key: MASTER} if master_key else {}))
            return static if recorder is None else MeasuredAccess(static, recorder)
        ledger = settings.ledger_file(self._environ)
        if ledger is not None:
            self._stack.callback(keep_ledger(Path(ledger)))
        store = await self._stack.enter_async_context(open_store(url, recorder))
        try:
            await check_store(store)
        except ServerError as error:
            # It may be away for now; requests are refused until it is back.
            _log.warning("the store was not looked at: %s", error.message)
        virtual = VirtualKeys(
            store,
            None if config is None else AdmissionSettings.of(config.neev.admission),
            master_key=master_key,
            configured=StaticKeys(known) if known else None,
        )
        access = await self._stack.enter_async_context(virtual)
        if recorder is None:
            return access
        watch_admission(recorder, store, access)
        return MeasuredAccess(access, recorder)

    async def _count(self, config: ProxyConfig | None) -> Recorder | None:
        """Begin to count, if somebody is to be told."""
        path = settings.metrics_socket(self._environ)
        if path is None and config is not None:
            path = config.neev.metrics.socket
        recorder = await self._stack.enter_async_context(reporting(path, _PROCESS))
        if recorder is not None:
            names = () if config is None else configured_names(config, self._environ)
            self.metrics = LiteLLMMetrics(recorder, names)
        return recorder


def refused(error: NeevError) -> ProxyException:
    """Return LiteLLM's form of an error that a client sees."""
    return ProxyException(
        marked(error),
        error.type,
        error.param,
        code=error.status,
        headers=error.headers(),
        openai_code=error.code,
    )


def _caller(principal: Principal) -> Caller:
    if principal is MASTER:
        return Caller(
            api_key=LITELLM_PROXY_MASTER_KEY_ALIAS,
            user_role=LitellmUserRoles.PROXY_ADMIN,
            user_id=proxy_server.litellm_proxy_admin_name,
        )
    # No budgets, no limits: LiteLLM would count what we count. To it an empty list means all models.
    return Caller(
        api_key=principal.key_id,
        key_alias=principal.alias or principal.key_id,
        team_id=principal.team,
        models=[] if principal.models is None else sorted(principal.models) or _NO_MODELS,
        user_role=LitellmUserRoles.INTERNAL_USER,
        allowed_routes=_ROUTES,
    )


custom_auth: Final = LiteLLMAuth(os.environ)
