"""What the admin routes work on: keys and teams as LiteLLM's callers name them.

A key goes by its token, its id, the SHA-256 of its token (as with LiteLLM) or its alias. Called by the admin routes.
"""

from __future__ import annotations

import asyncio
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from neev_provider.admission import tokens
from neev_provider.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from neev_provider.admission.keys import Keys
    from neev_provider.admission.records import KeyInfo
    from neev_provider.store import Store

__all__ = ["Desk", "page_of", "sorted_by", "told"]

T = TypeVar("T")
R = TypeVar("R")

_AT_ONCE: Final = 100
_KEY_ID: Final = re.compile(r"[A-Za-z0-9-]{1,40}(?:_[a-z0-9]{8})?")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Desk:
    """The keys and teams of a gateway, and where its spend stands.

    Attributes:
        keys: keys and teams.
        store: that holds the spend.
    """

    keys: Keys
    store: Store

    async def key(self, name: str, param: str = "key") -> KeyInfo:
        """Return the key of a token, an id or a token's SHA-256.

        Raises:
            RequestError: there is none; 404, and what was named is not repeated, for it may be a secret.
            ServerError: the store is away.
        """
        found = None
        if tokens.id_of(name) is not None:
            found = await self.keys.key_of_token(name)
        elif _KEY_ID.fullmatch(name):
            found = await self.keys.key_of_id(name)
        elif _DIGEST.fullmatch(name):
            found = await self.keys.key_of_digest(bytes.fromhex(name))
        if found is None:
            raise _no_key(param)
        return found

    async def spender(self, name: str, param: str) -> str:
        """Return the id of a key as `key` does; one that is gone has an id and spend too."""
        key_id = tokens.id_of(name) or name
        return key_id if _KEY_ID.fullmatch(key_id) else (await self.key(name, param)).id

    async def key_of_alias(self, alias: str, param: str) -> KeyInfo:
        """Return the key of an alias. Errors as `key`."""
        found = await self.keys.key_of_alias(alias)
        if found is None:
            raise _no_key(param)
        return found

    async def keys_of_team(self, team: str | None) -> list[KeyInfo]:
        """Return the keys of a team, all keys for None; none of a team that cannot be."""
        return await self.keys.list_keys(team=team) if team is None or tokens.is_tag(team) else []


def _no_key(param: str) -> RequestError:
    return RequestError("key_not_found", "There is no such key.", param=param)


async def told(items: Sequence[T], tell: Callable[[T], R]) -> list[R]:
    """Return what is told of each; requests for models get their turn in between, however many there are."""
    found: list[R] = []
    for start in range(0, len(items), _AT_ONCE):
        found += map(tell, items[start : start + _AT_ONCE])
        await asyncio.sleep(0)
    return found


def page_of(items: Sequence[T], page: int, size: int) -> tuple[Sequence[T], int]:
    """Return one page, counted from 1, and how many there are."""
    return items[(page - 1) * size : page * size], math.ceil(len(items) / size)


def sorted_by(items: Sequence[T], value_of: Callable[[T], Any], *, descending: bool) -> list[T]:
    """Return items by a value; those without one last."""
    with_value = sorted((item for item in items if value_of(item) is not None), key=value_of)
    if descending:
        with_value.reverse()
    return [*with_value, *(item for item in items if value_of(item) is None)]
