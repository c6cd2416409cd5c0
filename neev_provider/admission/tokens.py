"""Virtual keys' tokens, `sk-neev-<id>.<secret>`: made, taken apart, and hashed. Asks no store.

The id begins with its owner's tag, so that one look at a token tells which slot of a cluster holds all about it: a
key of a team is `<team>_<8 characters>`, one without a team is its own owner. The secret is 32 random bytes; the
store keeps only the SHA-256 of the whole token, and compares digests without stopping at the first difference.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final

__all__ = ["digest_of", "id_of", "is_key_id", "is_tag", "new_key_id", "new_token", "tag_of"]

_TOKEN: Final = re.compile(r"sk-neev-([A-Za-z0-9-]{1,40}(?:_[a-z0-9]{8})?)\.[A-Za-z0-9_-]{43}")
_KEY_ID: Final = re.compile(r"[A-Za-z0-9-]{1,40}(?:_[a-z0-9]{8})?")
_TAG: Final = re.compile(r"[A-Za-z0-9-]{1,40}")
_LETTERS: Final = "abcdefghijkmnpqrstuvwxyz23456789"  # 32; nothing that is taken for something else
_SECRET_BYTES: Final = 32


def id_of(token: str) -> str | None:
    """Return the public id of a token; None if it has not the form of one."""
    match = _TOKEN.fullmatch(token)
    return None if match is None else match[1]


def tag_of(key_id: str) -> str:
    """Return the tag of a key's owner."""
    return key_id.partition("_")[0]


def team_of(key_id: str) -> str | None:
    """Return the id of a key's team, as its own id tells it; None if it has none."""
    team, separator, _ = key_id.partition("_")
    return team if separator else None


def is_tag(text: str) -> bool:
    """Tell whether a team may have this id."""
    return _TAG.fullmatch(text) is not None


def is_key_id(text: str) -> bool:
    """Tell whether a key may have this id."""
    return _KEY_ID.fullmatch(text) is not None


def digest_of(token: str) -> bytes:
    """Return what the store keeps of a token: 32 bytes."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def new_key_id(team: str | None) -> str:
    """Return a random id for a key, of a team or its own owner."""
    if team is not None:
        return f"{team}_{_random(8)}"
    return f"k{_random(13)}"


def new_token(key_id: str) -> str:
    """Return a new token for a key."""
    return f"sk-neev-{key_id}.{secrets.token_urlsafe(_SECRET_BYTES)}"


def _random(length: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(length))
