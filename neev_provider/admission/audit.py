"""Who changed which key or team, and when: read from the stream that every change leaves at its owner.

Called by `lookup.py`.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from neev_provider.admission.scripts import prefix_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from neev_provider.store import Store

__all__ = ["AuditEntry", "read_audit"]

_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change.

    Attributes:
        at: when.
        by: who, as the caller said.
        action: `create`, `update`, `block`, `unblock`, `rotate` or `revoke`.
        kind: `key` or `team`.
        id: of the key or team.
        changes: attribute to its new value; never a secret.
    """

    at: datetime
    by: str
    action: str
    kind: str
    id: str
    changes: Mapping[str, Any]


async def read_audit(store: Store, owners: Sequence[str], limit: int) -> list[AuditEntry]:
    """Return the last changes of some owners, the newest first.

    Raises:
        ServerError: the store is away.
    """
    entries: list[AuditEntry] = []
    for start in range(0, len(owners), _AT_ONCE):
        names = [prefix_of(tag) + "audit" for tag in owners[start : start + _AT_ONCE]]
        found = await asyncio.gather(
            *(store.call(name, "XREVRANGE", name, "+", "-", "COUNT", limit) for name in names)
        )
        entries += [_audit_entry(fields) for stream in found for _, fields in stream]
    return sorted(entries, key=lambda entry: entry.at, reverse=True)[:limit]


def _audit_entry(flat: list[bytes]) -> AuditEntry:
    fields = {flat[i]: flat[i + 1] for i in range(0, len(flat), 2)}
    what = json.loads(fields[b"what"])
    return AuditEntry(
        datetime.fromtimestamp(int(fields[b"at"]) / 1000, UTC),
        fields[b"by"].decode(),
        what["action"],
        what["kind"],
        what["id"],
        what["changes"],
    )
