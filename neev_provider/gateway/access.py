"""Opens what a gateway asks who may call: virtual keys in the store, or, without one, the configuration's keys alone.

Called by `worker.py`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from neev_provider import settings
from neev_provider.admission import Principal
from neev_provider.admission.keys import Keys
from neev_provider.admission.rules import NANOS, AdmissionSettings, period_of
from neev_provider.admission.static import StaticKeys
from neev_provider.admission.virtual import MASTER, VirtualKeys
from neev_provider.errors import ServerError
from neev_provider.gateway.environment import MASTER_KEY_VARIABLE
from neev_provider.metrics.measured import MeasuredAccess, MeasuredStore, watch_admission
from neev_provider.store import Store, check_store
from neev_provider.store.address import parse_address

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AsyncExitStack

    from neev_provider.admission import Access
    from neev_provider.config import ProxyConfig
    from neev_provider.config_schema import AdmissionOptions
    from neev_provider.metrics import Recorder

__all__ = ["Opened", "admission_settings", "open_access", "open_store"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """What was opened.

    Attributes:
        access: who may call.
        keys: the virtual keys and teams; None without a store.
        store: that holds them; None if there is none.
    """

    access: Access
    keys: Keys | None = None
    store: Store | None = None


async def open_access(
    config: ProxyConfig, environ: Mapping[str, str], stack: AsyncExitStack, recorder: Recorder | None = None
) -> Opened:
    """Return who may call; what was begun for it ends with `stack`.

    Args:
        config: with keys of its own, and the operator's settings.
        environ: names the store, and holds the master key.
        stack: ends what is begun here.
        recorder: counts; None: nothing is counted.

    Raises:
        ConfigError: the store's URL cannot be read; it is too old, or evicts what it should keep.
    """
    keys = {token: Principal(alias, alias=alias) for token, alias in config.keys.items()}
    master_key = environ[MASTER_KEY_VARIABLE]
    url = settings.store_url(environ)
    if url is None:
        static = StaticKeys({**keys, master_key: MASTER})
        return Opened(static if recorder is None else MeasuredAccess(static, recorder))
    store = await stack.enter_async_context(open_store(url, recorder))
    try:
        await check_store(store)
    except ServerError as error:
        # It may be away for now; requests are refused, or known keys let in, until it is back.
        _log.warning("the store was not looked at: %s", error.message)
    rules = admission_settings(config.neev.admission)
    virtual = VirtualKeys(
        store,
        rules,
        master_key=master_key,
        configured=StaticKeys(keys) if keys else None,
    )
    access = await stack.enter_async_context(virtual)
    keys_of_store = Keys(store, clock=rules.clock)
    if recorder is None:
        return Opened(access, keys_of_store, store)
    watch_admission(recorder, store, access)
    return Opened(MeasuredAccess(access, recorder), keys_of_store, store)


def open_store(url: str, recorder: Recorder | None) -> Store:
    """Return the store of a URL, measured if somebody counts; it connects at the first call.

    Raises:
        ConfigError: the URL cannot be read.
    """
    if recorder is None:
        return Store.from_url(url, source=settings.STORE_VARIABLE)
    return MeasuredStore(parse_address(url, source=settings.STORE_VARIABLE), recorder)


def admission_settings(options: AdmissionOptions) -> AdmissionSettings:
    """Return the operator's settings as admission takes them."""
    budget = options.max_budget
    return AdmissionSettings(
        master_may_call_models=options.master_key_may_call_models,
        on_store_outage=options.on_store_outage,
        remember_seconds=options.remember_seconds,
        lease_seconds=options.lease_seconds,
        # Through text: the binary fraction of 0.1 is not what was meant.
        budget_nanos=None if budget is None else int(Decimal(str(budget)) * NANOS),
        budget_period="" if options.budget_duration is None else period_of(options.budget_duration),
    )
