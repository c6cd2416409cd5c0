"""Admission and the store, timed and their failures counted, behind the interfaces that they have anyway.

Put in place by the composition roots, so neither knows of metrics.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import hiredis
from typing_extensions import override

from neev_provider import settings
from neev_provider.admission import tokens
from neev_provider.admission.scripts import ADMIT, AUTHENTICATE, SETTLE
from neev_provider.errors import LimitError, NeevError, ServerError
from neev_provider.metrics import families
from neev_provider.metrics.families import NONE
from neev_provider.store import Store
from neev_provider.store.address import parse_address
from neev_provider.store.connection import CallTimeoutError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from neev_provider.admission import Access, Demand, Grant
    from neev_provider.admission.virtual import VirtualKeys
    from neev_provider.metrics.recorder import Recorder
    from neev_provider.store import Script
    from neev_provider.store.address import Address
    from neev_provider.store.connection import Word
    from neev_provider.store.node import Timing

__all__ = ["MeasuredAccess", "MeasuredStore", "open_store", "watch_admission"]

_OPERATIONS: Final = {ADMIT.sha: ("admit",), AUTHENTICATE.sha: ("authenticate",), SETTLE.sha: ("settle",)}
_OTHER: Final = ("other",)
_ADMITTED: Final = ("admitted",)
_REFUSED: Final = ("refused",)
_ERROR: Final = ("error",)


class MeasuredAccess:
    """An `Access` whose admissions are counted.

    Args:
        access: that decides.
        recorder: where to.
    """

    def __init__(self, access: Access, recorder: Recorder) -> None:
        self._access: Final = access
        self._recorder: Final = recorder
        self.check_form: Final = access.check_form
        self.authenticate: Final = access.authenticate

    async def admit(self, token: str | None, demand: Demand, *, ticket: str | None = None) -> Grant:
        """Do as `Access.admit`."""
        began = perf_counter()
        try:
            grant = await self._access.admit(token, demand, ticket=ticket)
        except NeevError as error:
            result = _ERROR if isinstance(error, ServerError) else _REFUSED
            self._recorder.observe(families.ADMISSION, result, perf_counter() - began)
            if isinstance(error, LimitError) and error.limit:
                self._count_rejection(error, token)
            raise
        self._recorder.observe(families.ADMISSION, _ADMITTED, perf_counter() - began)
        return grant

    def _count_rejection(self, error: LimitError, token: str | None) -> None:
        key_id = (None if token is None else tokens.id_of(token)) or NONE
        labels = (error.limit, error.scope, tokens.team_of(key_id) or NONE, key_id)
        self._recorder.add(families.LIMIT_REJECTIONS, labels)


class MeasuredStore(Store):
    """A store whose calls are timed, and whose failures are counted.

    Args:
        address: where it is.
        recorder: where to.
        timing: bounds of its calls.
    """

    def __init__(self, address: Address, recorder: Recorder, timing: Timing | None = None) -> None:
        super().__init__(address, timing)
        self._recorder: Final = recorder

    @override
    async def call(self, name: str, *words: Word) -> Any:
        began = perf_counter()
        try:
            return await super().call(name, *words)
        except ServerError as error:
            self._recorder.add(families.STORE_ERRORS, (_kind(error),))
            raise
        finally:
            self._recorder.observe(families.STORE_CALL, _OTHER, perf_counter() - began)

    @override
    async def run(self, script: Script, names: Sequence[str], args: Sequence[Word]) -> Any:
        began = perf_counter()
        try:
            return await super().run(script, names, args)
        except ServerError as error:
            self._recorder.add(families.STORE_ERRORS, (_kind(error),))
            raise
        finally:
            operation = _OPERATIONS.get(script.sha, _OTHER)
            self._recorder.observe(families.STORE_CALL, operation, perf_counter() - began)


def watch_admission(recorder: Recorder, store: Store, keys: VirtualKeys) -> None:
    """Count what admission and the store know of themselves."""
    recorder.watch(families.BREAKER_OPEN, (), lambda: not store.is_open)
    recorder.watch(families.PENDING_SETTLES, (), lambda: keys.queued)
    recorder.follow(families.LOGGED_SETTLES, (), lambda: keys.lost)
    recorder.follow(families.EXPIRED_LEASES, (), lambda: keys.expired)


def _kind(error: ServerError) -> str:
    """Return what was wrong with the store, which is what the error was made for (`store/node.py`)."""
    cause = error.__context__
    if isinstance(cause, hiredis.ReplyError):
        return "refused"
    return "timeout" if isinstance(cause, TimeoutError | CallTimeoutError) else "connection"


def open_store(url: str, recorder: Recorder | None) -> Store:
    """Return the store of a URL, measured if somebody counts; it connects at the first call.

    Raises:
        ConfigError: the URL cannot be read.
    """
    if recorder is None:
        return Store.from_url(url, source=settings.STORE_VARIABLE)
    return MeasuredStore(parse_address(url, source=settings.STORE_VARIABLE), recorder)
