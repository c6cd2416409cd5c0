"""Virtual keys: who may call, how much, and what it cost, kept in Redis or Valkey alone.

Implements `Access` (`terms.py`) by one script and one round trip for each request. The configuration's own keys and
the master key pass too. Made by the composition root; `keys.py` makes and changes the keys themselves,
`lookup.py` finds them.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
from time import monotonic
from typing import TYPE_CHECKING, Final, Self

import msgspec

from neev_provider.admission import tokens
from neev_provider.admission.admitted import ADMITTED, PARALLEL, RPM, TPM, Admitted
from neev_provider.admission.leases import Leases
from neev_provider.admission.outage import KnownKey, KnownKeys
from neev_provider.admission.owners import Owners
from neev_provider.admission.refusals import no_key, refusal, unknown_key
from neev_provider.admission.rules import AdmissionSettings
from neev_provider.admission.scripts import ADMIT, AUTHENTICATE, key_name, prefix_of
from neev_provider.admission.settling import Settle, Settler
from neev_provider.admission.sweeping import sweep_for_ever
from neev_provider.admission.terms import FreeGrant, Principal, Spent
from neev_provider.admission.tickets import Tickets
from neev_provider.admission.total import Total
from neev_provider.errors import RequestError, ServerError
from neev_provider.store.node import UnknownOutcomeError, unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from neev_provider.admission.terms import Access, Demand, Grant
    from neev_provider.store import Store

__all__ = ["MASTER", "VirtualGrant", "VirtualKeys"]

MASTER: Final = Principal("master")
"""Who holds the master key."""

_LOG: Final = logging.getLogger("neev_provider.admission")
_CLOSE_SECONDS: Final = 5.0  # whoever stops a process waits no longer before killing it
_MOST_PRINCIPALS: Final = 20_000
_ABOUT_THE_KEY: Final = frozenset({b"unknown", b"blocked", b"team_blocked", b"expired"})


class VirtualGrant:
    """A request that was let in; see `Grant`."""

    __slots__ = ("_access", "_known", "_settle", "headers", "max_tokens", "principal")

    def __init__(
        self,
        access: VirtualKeys,
        settle: Settle,
        principal: Principal,
        max_tokens: int | None,
        headers: Mapping[bytes, bytes],
        known: KnownKey | None = None,
    ) -> None:
        self._access: Final = access
        self._settle: Settle | None = settle
        self._known: Final = known
        self.principal: Final = principal
        self.max_tokens: Final = max_tokens
        self.headers: Final = headers

    @property
    def ticket(self) -> str | None:
        """Do as `Grant.ticket`; a request that was let in without the store has no lease to take over."""
        if self._settle is None or self._known is not None:
            return None
        return self._access.ticket(self._settle)

    def settle(self, spent: Spent) -> None:
        """Do as `Grant.settle`; a second time changes nothing."""
        settle, self._settle = self._settle, None
        if settle is None:
            return
        settle.prompt_tokens = spent.prompt_tokens
        settle.completion_tokens = spent.completion_tokens
        settle.cost_nanos = spent.cost_nanos or 0
        settle.estimated = spent.estimated
        settle.characters = spent.characters
        settle.model = spent.model
        self._access.settled(settle, self._known)


class VirtualKeys:
    """Keys in a store; `start` it, and `close` it in the end.

    Args:
        store: that holds them.
        settings: the operator's.
        master_key: its holder may do everything but call models, unless the settings say so.
        configured: other keys, which no limit applies to.
    """

    def __init__(
        self,
        store: Store,
        settings: AdmissionSettings | None = None,
        *,
        master_key: str | None = None,
        configured: Access | None = None,
    ) -> None:
        self.settings: Final = settings or AdmissionSettings()
        self.expired = 0
        """How many leases this process found whose holder had died."""
        clock = self.settings.clock
        self._store: Final = store
        self._master: Final = None if master_key is None else tokens.digest_of(master_key)
        self._tickets: Final = None if master_key is None else Tickets(master_key)
        self._configured: Final = configured
        self._settler: Final = Settler(
            store, max_queued=self.settings.max_queued, clock=clock, on_charged=self._charged
        )
        process = self._settler.process
        self._leases: Final = Leases(store, process, seconds=self.settings.lease_seconds, clock=clock)
        self.total: Final = Total(
            store,
            process,
            budget_nanos=self.settings.budget_nanos,
            period=self.settings.budget_period,
            clock=clock,
        )
        self._owners: Final = Owners(store)
        self._known: Final = (
            KnownKeys(seconds=self.settings.remember_seconds, parallel=self.settings.outage_parallel)
            if self.settings.on_store_outage == "allow"
            else None
        )
        self._principals: Final[dict[tuple[str, str, str], Principal]] = {}
        self._tasks: Final[list[asyncio.Task[None]]] = []

    @property
    def queued(self) -> int:
        """Settles that are not written yet."""
        return self._settler.queued

    @property
    def lost(self) -> int:
        """Settles that were logged because they could not be written."""
        return self._settler.lost

    async def start(self) -> None:
        """Begin what goes on in the background: leases, sweeps, the gateway's total."""
        with contextlib.suppress(ServerError):  # it is tried again every second
            await self.total.tell()
        process, settings = self._settler.process, self.settings
        for work in (
            self._leases.renew_for_ever(),
            self.total.tell_for_ever(),
            self._owners.note_for_ever(),
            self._settler.watch_for_ever(),
            sweep_for_ever(self._store, process, self._expired, settings.clock, settings.lease_seconds),
        ):
            self._tasks.append(asyncio.create_task(work))

    async def flush(self) -> None:
        """Return when everything that was settled is written."""
        await self._settler.flush()

    async def close(self, grace: float = _CLOSE_SECONDS) -> None:
        """Write what is not written yet, for `grace` seconds; log the rest as lines that can be replayed."""
        await self._settler.close(grace)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(ServerError):
            await self.total.tell()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def check_form(self, token: str | None) -> None:
        """Do as `Access.check_form`."""
        if token is None:
            raise no_key()
        if tokens.id_of(token) is None and not self._is_master(token):
            if self._configured is None:
                raise unknown_key()
            self._configured.check_form(token)

    async def authenticate(self, token: str | None) -> Principal:
        """Do as `Access.authenticate`."""
        if token is None:
            raise no_key()
        key_id = tokens.id_of(token)
        if key_id is None:
            return await self._authenticate_other(token)
        digest, tag = tokens.digest_of(token), tokens.tag_of(key_id)
        words = (prefix_of(tag), self.settings.clock.moved, key_id, digest)
        try:
            status, *rest = await self._store.run(AUTHENTICATE, (key_name(tag, key_id),), words)
        except ServerError:
            known = None if self._known is None else self._known.find(digest)
            if known is None:
                raise
            return known.principal
        if status != b"ok":
            if self._known is not None:
                self._known.forget(digest)
            raise refusal(status, (), None)
        return self._principal(key_id, *(text.decode() for text in rest))

    async def admit(self, token: str | None, demand: Demand, *, ticket: str | None = None) -> Grant:
        """Do as `Access.admit`."""
        if token is None:
            raise no_key()
        key_id = tokens.id_of(token)
        if key_id is None:
            return await self._admit_other(token, demand)
        digest, tag = tokens.digest_of(token), tokens.tag_of(key_id)
        settle = Settle(self._settler.process, 0, tag, self._leases.new_id(), key_id, 0)
        tokens_taken, fixed, unit, cap = _worst_case(demand, self.settings.assumed_output)
        total_left = self.total.left()
        words = (
            prefix_of(tag),
            self.settings.clock.moved,
            key_id,
            digest,
            demand.model,
            settle.lease,
            self._leases.milliseconds,
            tokens_taken,
            demand.prompt_tokens,
            fixed,
            unit,
            cap,
            "" if total_left is None else total_left,
            self._handed_over(ticket, key_id),
        )
        try:
            if self.total.is_stale:
                raise unavailable(1.0)
            status, expired, nanos, *rest = await self._store.run(ADMIT, (key_name(tag, key_id),), words)
        except asyncio.CancelledError:
            self._settler.add(settle)  # it may have been let in: give back what was taken
            raise
        except ServerError as error:
            if isinstance(error, UnknownOutcomeError):
                self._settler.add(settle)
            return self._admit_without_store(error, digest, key_id, tag, demand, tokens_taken)
        self._expired(expired, int(nanos))
        if status == b"no":
            code, *details = rest
            if self._known is not None and code in _ABOUT_THE_KEY:
                self._known.forget(digest)
            raise refusal(code, details, demand)
        grant = self._grant(ADMITTED.decode(rest[0]), settle, digest, demand)
        if not self._owners.is_noted(settle.tag, settle.at):
            await self._note_owner(settle, grant)
        return grant

    def ticket(self, settle: Settle) -> str | None:
        """Return what lets another process take a request over; None without a master key, which proves it."""
        return None if self._tickets is None else self._tickets.make(settle.lease, settle.key_id)

    def _handed_over(self, ticket: str | None, key_id: str) -> str:
        """Return the lease that a ticket of this key names, "" if there is none."""
        if ticket is None or self._tickets is None:
            return ""
        return self._tickets.read(ticket, key_id) or ""

    def settled(self, settle: Settle, known: KnownKey | None) -> None:
        """Charge what a grant's request did cost; called by the grant."""
        if known is None:
            self._leases.release(settle.lease)
        else:
            KnownKeys.give_back(known, settle.held_nanos - settle.cost_nanos)
        self._settler.add(settle)

    async def _note_owner(self, settle: Settle, grant: VirtualGrant) -> None:
        """Have the owner on record before upstream is called: if this process dies, others look there for leases."""
        try:
            await self._owners.note(settle.tag, settle.at)
        except asyncio.CancelledError:
            grant.settle(Spent())
            raise

    def _grant(self, admitted: Admitted, settle: Settle, digest: bytes, demand: Demand) -> VirtualGrant:
        settle.held_nanos, settle.at = admitted.held_nanos, admitted.at
        cap, left = admitted.max_tokens, admitted.left
        principal = self._principal(settle.key_id, admitted.who, admitted.team_models)
        self._leases.hold(settle.lease, settle.tag)
        self.total.hold(settle.held_nanos)
        headers = admitted.headers()
        max_tokens = None
        if left >= 0:
            asked = demand.output_cap if demand.max_tokens is None else demand.max_tokens
            if cap < asked:
                headers[b"x-neev-max-tokens-clamped"] = b"%d" % cap
            if asked and (cap < asked or demand.max_tokens is None):
                max_tokens = cap
        if self._known is not None:
            known = KnownKey(
                principal,
                rpm=admitted.lowest(RPM),
                tpm=admitted.lowest(TPM),
                parallel=admitted.lowest(PARALLEL),
                left=None if left < 0 else left,
                seen_at=monotonic(),
            )
            self._known.remember(digest, known)
        return VirtualGrant(self, settle, principal, max_tokens, headers)

    def _admit_without_store(
        self, error: ServerError, digest: bytes, key_id: str, tag: str, demand: Demand, tokens_taken: int
    ) -> VirtualGrant:
        """Let a known key in if the operator chose so.

        Raises:
            NeevError: the store's error, or why the key is not let in.
        """
        known = None if self._known is None or error.code != "store_unavailable" else self._known.find(digest)
        if known is None or self._known is None:
            raise error
        _, fixed, unit, cap = _worst_case(demand, self.settings.assumed_output)
        nanos = 0 if fixed == "" else int(fixed) + unit * cap
        self._known.take(known, demand, tokens_taken, nanos)
        settle = Settle(
            self._settler.process,
            0,
            tag,
            self._leases.new_id(),
            key_id,
            int(self.settings.clock.now() * 1000),
            held_nanos=nanos,
        )
        self.total.hold(nanos)
        self._owners.note_later(tag, settle.at)
        max_tokens = cap if known.left is not None and demand.max_tokens is None and cap else None
        return VirtualGrant(self, settle, known.principal, max_tokens, {}, known)

    def _principal(self, key_id: str, who: str, team_models: str) -> Principal:
        """Return who holds a key, as the store just told; made once for the same words."""
        words = (key_id, who, team_models)
        principal = self._principals.get(words)
        if principal is None:
            alias, team, models = who.split("\0")
            allowed = [
                frozenset(msgspec.json.decode(text, type=list[str])) for text in (models, team_models) if text
            ]
            principal = Principal(
                key_id,
                frozenset.intersection(*allowed) if allowed else None,
                alias or None,
                team or None,
                is_limited=True,
            )
            if len(self._principals) >= _MOST_PRINCIPALS:
                self._principals.clear()
            self._principals[words] = principal
        return principal

    def _is_master(self, token: str) -> bool:
        return self._master is not None and hmac.compare_digest(self._master, tokens.digest_of(token))

    async def _authenticate_other(self, token: str) -> Principal:
        if self._is_master(token):
            return MASTER
        if self._configured is None:
            raise unknown_key()
        return await self._configured.authenticate(token)

    async def _admit_other(self, token: str, demand: Demand) -> Grant:
        if self._is_master(token):
            if self.settings.master_may_call_models:
                return FreeGrant(MASTER)
            raise RequestError(
                "model_not_allowed",
                "The master key has no budget, so it does not call models. Make a virtual key for that.",
                param="model",
            )
        if self._configured is None:
            raise unknown_key()
        return await self._configured.admit(token, demand)

    def _charged(self, nanos: int, released: int) -> None:
        self.total.charge(nanos, released)

    def _expired(self, count: int, nanos: int) -> None:
        if count:
            self.expired += count
            self.total.charge(nanos, 0)
            _LOG.warning("%d leases of processes that died were charged with their prompts", count)


def _worst_case(demand: Demand, assumed_output: int) -> tuple[int, int | str, int, int]:
    """Return tokens to take, nano-USD of the prompt ("" if unpriced), nano-USD per token of the cap, and the cap."""
    cap = demand.output_cap if demand.max_tokens is None else demand.max_tokens
    assumed = min(assumed_output, demand.output_cap) if demand.max_tokens is None else demand.max_tokens
    taken = demand.prompt_tokens + assumed * demand.choices
    if demand.prompt_nanos is None or demand.completion_nanos is None:
        return taken, "", 0, cap
    fixed = demand.prompt_tokens * demand.prompt_nanos + demand.flat_nanos
    return taken, fixed, demand.completion_nanos * demand.choices, cap
