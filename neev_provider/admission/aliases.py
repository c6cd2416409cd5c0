"""Whose an alias is: one key's, one team's, whoever else asks for it at the same time.

The aliases lie in a slot of their own, so a record and its alias are never written at once. An alias is claimed
first, and the record must be written within some seconds of that: whoever finds a claim that is older, and no record
with the alias, can tell that there will be none, and takes the alias over. Called by `keys.py` and `lookup.py`.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from neev_provider.admission import tokens
from neev_provider.admission.scripts import CLAIM, INDEX_PREFIX
from neev_provider.errors import RequestError
from neev_provider.store import Script

if TYPE_CHECKING:
    from neev_provider.admission.rules import Clock
    from neev_provider.admission.subjects import Subjects
    from neev_provider.store import Store

__all__ = ["Aliases", "Claim"]

_ALIASES: Final = INDEX_PREFIX + "aliases"  # `key:<alias>` or `team:<alias>` to a claim (claim.lua)
_FREE: Final = Script.of(
    "return redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] and redis.call('HDEL', KEYS[1], ARGV[1]) or 0"
)
_WRITTEN_WITHIN_MS: Final = 10_000
_FRESH_MS: Final = 30_000  # longer, since the nodes of a cluster have clocks of their own


class Claim:
    """By what somebody holds an alias.

    Attributes:
        word: as it is stored; no two are the same.
        holder: id of who took it.
        at: when, in ms; 0 if unknown.
        until: before when the holder's record must be written, in ms.
    """

    __slots__ = ("at", "holder", "until", "word")

    def __init__(self, word: bytes) -> None:
        holder, _, rest = word.decode().partition(" ")
        self.word: Final = word
        self.holder: Final = holder
        self.at: Final = int(rest.partition(" ")[0] or 0)
        self.until: Final = self.at + _WRITTEN_WITHIN_MS


class Aliases:
    """The aliases of a store's keys, or of its teams. All methods raise ServerError if it is away.

    Args:
        kind: `key` or `team`.
        store: that holds them.
        subjects: the records.
        clock: the scripts'.
    """

    def __init__(self, kind: str, store: Store, subjects: Subjects, clock: Clock) -> None:
        self._kind: Final = kind
        self._store: Final = store
        self._subjects: Final = subjects
        self._clock: Final = clock

    async def holder(self, alias: str) -> str | None:
        """Return the id that an alias names; None for none. What it names may be gone."""
        claim = await self._stands(alias)
        return None if claim is None else claim.holder

    async def claim_of(self, alias: str | None, holder: str) -> Claim | None:
        """Return by what somebody holds an alias, to free it later; None if by nothing."""
        claim = None if alias is None else await self._stands(alias)
        return None if claim is None or claim.holder != holder else claim

    async def claim(self, alias: str | None, owner: str) -> Claim | None:
        """Take an alias for a record that is written next.

        Returns:
            The claim, before whose end the record must be written; None if there is nothing to take.

        Raises:
            RequestError: it is another's.
        """
        if alias is None:
            return None
        seen = b""
        while True:
            nonce = secrets.token_hex(8)
            words = (INDEX_PREFIX, self._clock.moved, self._field(alias), owner, nonce, seen)
            word, now = await self._store.run(CLAIM, (_ALIASES,), words)
            claim = Claim(word)
            if word.endswith(f" {nonce}".encode()):
                return claim
            if await self._bears(claim.holder, alias):
                if claim.holder == owner:
                    return None
                raise self._taken(alias, f"is taken by another {self._kind}")
            if claim.holder != owner and abs(now - claim.at) < _FRESH_MS:
                raise self._taken(
                    alias, f"is just being taken by another {self._kind}; if that fails, it is free soon"
                )
            seen = word

    async def give_up(self, alias: str | None, claim: Claim | None) -> None:
        """Let an alias go whose record was not written, unless the holder bears it by another write."""
        if alias is not None and claim is not None and not await self._bears(claim.holder, alias):
            await self.free(alias, claim)

    async def free(self, alias: str | None, claim: Claim | None) -> None:
        """Let an alias go, unless it has been claimed anew meanwhile."""
        if alias is not None and claim is not None:
            await self._store.run(_FREE, (_ALIASES,), (self._field(alias), claim.word))

    async def _stands(self, alias: str) -> Claim | None:
        found = await self._store.call(_ALIASES, "HGET", _ALIASES, self._field(alias))
        return None if found is None else Claim(found)

    async def _bears(self, holder: str, alias: str) -> bool:
        """Tell whether there is a record of this id with this alias."""
        is_key = self._kind == "key"
        found = await self._subjects.describe(tokens.tag_of(holder), holder if is_key else "-")
        return any(info.id == holder and info.alias == alias for info in found)

    def _field(self, alias: str) -> str:
        return f"{self._kind}:{alias}"

    def _taken(self, alias: str, why: str) -> RequestError:
        return RequestError("invalid_value", f"The alias '{alias}' {why}.", param="alias")
