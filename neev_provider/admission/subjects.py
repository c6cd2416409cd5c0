"""The records of keys and teams in the store: written with their line in the audit, described with what they used.

Knows nothing of what the attributes mean. Called by `keys.py` and `lookup.py`.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final, Literal

from neev_provider.admission.records import read_subject
from neev_provider.admission.scripts import DESCRIBE, RECORD, key_name, prefix_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from neev_provider.admission.aliases import Claim
    from neev_provider.admission.records import Change, TeamInfo
    from neev_provider.admission.rules import Clock
    from neev_provider.store import Store

__all__ = ["Subjects"]

_AT_ONCE: Final = 100


class Subjects:
    """The records of a store. All methods raise ServerError if it is away.

    Args:
        store: that holds them.
        clock: the scripts'.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store: Final = store
        self._clock: Final = clock

    async def write(
        self,
        mode: Literal["create", "update", "rotate", "delete"],
        tag: str,
        key_id: str,
        change: Change,
        *,
        by: str,
        action: str,
        noted: Mapping[str, Any],
        claim: Claim | None = None,
    ) -> tuple[bytes, TeamInfo | None]:
        """Write one record.

        Args:
            mode: of record.lua.
            tag: of the owner.
            key_id: of the key; "" for the team.
            change: fields to set and to remove.
            by: who does it.
            action: what the audit calls it.
            noted: what the audit says of it; never a secret.
            claim: on the alias that is written; sets how late that may be.

        Returns:
            record.lua's word, `ok` or why nothing was done; and what is there now, as that script saw it: whoever
            asked afterwards might find the store away, though all is done. None if there is nothing.
        """
        what = {"action": action, "kind": "key" if key_id else "team", "id": key_id or tag, "changes": noted}
        words: list[str | bytes | int] = [
            prefix_of(tag),
            self._clock.moved,
            mode,
            f":{key_id}" if key_id else "",
            by,
        ]
        words += [json.dumps(what, default=str), "" if claim is None else claim.until, len(change.set)]
        for name, value in change.set.items():
            words += [name, value]
        done, *subject = await self._store.run(RECORD, (key_name(tag, key_id),), [*words, *change.removed])
        return done, read_subject(subject[0], tag) if subject else None

    async def describe(self, tag: str, key_id: str = "") -> list[TeamInfo]:
        """Return an owner's team, if it has one, and one of its keys, or all of them."""
        words = (prefix_of(tag), self._clock.moved, key_id)
        _, *subjects = await self._store.run(DESCRIBE, (key_name(tag, ""),), words)
        return [read_subject(subject, tag) for subject in subjects]

    async def describe_all(self, tags: Iterable[str]) -> list[TeamInfo]:
        """Return the teams and keys of some owners."""
        found: list[TeamInfo] = []
        waiting = list(tags)
        while waiting:
            some, waiting = waiting[:_AT_ONCE], waiting[_AT_ONCE:]
            for infos in await asyncio.gather(*map(self.describe, some)):
                found += infos
        return found
