"""Opens what a gateway asks who may call: virtual keys in the store, or, without one, the configuration's keys alone.

Called by `worker.py`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neev_provider import settings
from neev_provider.admission import Principal
from neev_provider.admission.keys import Keys
from neev_provider.admission.rules import AdmissionSettings
from neev_provider.admission.static import StaticKeys
from neev_provider.admission.virtual import MASTER, VirtualKeys
from neev_provider.errors import ServerError
from neev_provider.gateway.environment import MASTER_KEY_VARIABLE
from neev_provider.metrics.measured import MeasuredAccess, open_store, watch_admission
from neev_provider.store import Store, check_store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AsyncExitStack

    from neev_provider.admission import Access
    from neev_provider.config import ProxyConfig
    from neev_provider.metrics import Recorder

__all__ = ["Opened", "open_access"]

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
    rules = AdmissionSettings.of(config.neev.admission)
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
