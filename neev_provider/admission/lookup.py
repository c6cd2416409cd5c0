"""Virtual keys and teams as they are: one by its id, alias or token, or all, with what they have used; the audit.

Writes nothing. `keys.py` builds its changes on it.
"""

from __future__ import annotations

import contextlib
import hmac
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from neev_provider.admission import tokens
from neev_provider.admission.aliases import Aliases
from neev_provider.admission.audit import AuditEntry, read_audit
from neev_provider.admission.index import Index
from neev_provider.admission.records import KeyInfo, TeamInfo
from neev_provider.admission.rules import Clock
from neev_provider.admission.scripts import key_name
from neev_provider.admission.subjects import Subjects
from neev_provider.errors import RequestError, redact

if TYPE_CHECKING:
    from neev_provider.store import Store

__all__ = ["Lookup", "no_such_key", "no_such_team"]


class Lookup:
    """The keys and teams of a store, to be read.

    Args:
        store: that holds them.
        clock: the scripts'.
    """

    def __init__(self, store: Store, *, clock: Clock | None = None) -> None:
        self._store: Final = store
        self._clock: Final = clock or Clock()
        self._index: Final = Index(store, self._clock)
        self._subjects: Final = Subjects(store, self._clock)
        self._key_aliases: Final = Aliases("key", store, self._subjects, self._clock)
        self._team_aliases: Final = Aliases("team", store, self._subjects, self._clock)

    async def key(self, key_id: str) -> KeyInfo:
        """Return a key.

        Raises:
            RequestError: there is none of this id.
            ServerError: the store is away.
        """
        found = [
            info for info in await self._subjects.describe(tokens.tag_of(key_id), key_id) if info.id == key_id
        ]
        keys = [info for info in found if isinstance(info, KeyInfo)]
        if not keys:
            raise no_such_key(key_id)
        return keys[0]

    async def key_of_id(self, key_id: str) -> KeyInfo | None:
        """Return the key of this id; None if there is none."""
        try:
            return await self.key(key_id)
        except RequestError:
            return None

    async def key_of_token(self, token: str) -> KeyInfo | None:
        """Return the key whose id a token names, whether or not its secret is right; None if there is none."""
        key_id = tokens.id_of(token)
        return None if key_id is None else await self.key_of_id(key_id)

    async def key_of_digest(self, digest: bytes) -> KeyInfo | None:
        """Return the key whose token has this SHA-256, None if there is none; reads all keys."""
        return next((key for key in await self.list_keys() if key.digest == digest), None)

    async def key_of_alias(self, alias: str) -> KeyInfo | None:
        """Return the key of this alias; None if there is none."""
        key_id = await self._key_aliases.holder(alias)
        return None if key_id is None else await self.key_of_id(key_id)

    async def find_key(self, word: str) -> KeyInfo:
        """Return the key that a person means: by its token, id or alias.

        Raises:
            RequestError: there is none.
            ServerError: the store is away.
        """
        key_id = tokens.id_of(word)
        if key_id is not None:
            return await self.key(key_id)
        found = await self.key_of_alias(word)
        if found is None and tokens.is_key_id(word):
            found = await self.key(word)
        if found is None:
            # Perhaps a secret that was copied in part.
            raise no_such_key(redact(word))
        return found

    async def is_token(self, key_id: str, token: str) -> bool:
        """Tell whether this is a key's present token."""
        name = key_name(tokens.tag_of(key_id), key_id)
        kept = await self._store.call(name, "HGET", name, "secret")
        return isinstance(kept, bytes) and hmac.compare_digest(kept, tokens.digest_of(token))

    async def list_keys(self, *, team: str | None = None) -> list[KeyInfo]:
        """Return all keys, or those of a team, by the time they were made."""
        tags = await self._index.owners() if team is None else [team]
        keys = [info for info in await self._subjects.describe_all(tags) if isinstance(info, KeyInfo)]
        return sorted(keys, key=_age)

    async def list_some(self, most_owners: int) -> list[TeamInfo]:
        """Return teams and keys in one look; those of the first owners (teams, and keys without one) by their ids.

        Raises:
            ServerError: the store is away.
        """
        return await self._subjects.describe_all(sorted(await self._index.owners())[:most_owners])

    async def team(self, team_id: str) -> TeamInfo:
        """Return a team.

        Raises:
            RequestError: there is none of this id.
            ServerError: the store is away.
        """
        found = await self._subjects.describe(team_id, "-") if tokens.is_tag(team_id) else []
        if not found:
            raise no_such_team(team_id)
        return found[0]

    async def find_team(self, word: str) -> TeamInfo:
        """Return the team that a person means: by its id or alias.

        Raises:
            RequestError: there is none.
            ServerError: the store is away.
        """
        with contextlib.suppress(RequestError):
            return await self.team(word)
        holder = await self._team_aliases.holder(word)
        return await self.team(holder or word)

    async def list_teams(self) -> list[TeamInfo]:
        """Return all teams, by the time they were made."""
        found = await self._subjects.describe_all(await self._index.owners())
        return sorted((info for info in found if not isinstance(info, KeyInfo)), key=_age)

    async def audit(self, *, limit: int = 100) -> list[AuditEntry]:
        """Return the last changes, the newest first; of keys and teams that are gone too, for 13 months."""
        return await read_audit(self._store, await self._index.owners(with_retired=True), limit)


def _age(info: TeamInfo) -> tuple[datetime, str]:
    return info.created_at or datetime.min.replace(tzinfo=UTC), info.id


def no_such_key(key_id: str) -> RequestError:
    """Return what a caller is told that names no key."""
    return RequestError("key_not_found", f"There is no key '{key_id}'.", param="key")


def no_such_team(team_id: str) -> RequestError:
    """Return what a caller is told that names no team."""
    return RequestError("team_not_found", f"There is no team '{team_id}'.", param="team_id")
