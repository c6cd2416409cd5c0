"""The Lua scripts, put together from their files, and the Redis names that they use. Called by this package only."""

from __future__ import annotations

from importlib import resources
from typing import Final

from neev_provider.store import Script

__all__ = [
    "ADMIT",
    "AUTHENTICATE",
    "CLAIM",
    "DESCRIBE",
    "INDEX_PREFIX",
    "RECORD",
    "RENEW",
    "REPLAY",
    "SETTLE",
    "SWEEP",
    "TOTAL",
    "TOTAL_NAME",
    "TOTAL_PREFIX",
    "key_name",
    "prefix_of",
    "seen_name",
]

_LUA: Final = resources.files("neev_provider.admission") / "lua"


def _script(*parts: str) -> Script:
    return Script.of(
        "\n".join((_LUA / f"{part}.lua").read_text(encoding="utf-8") for part in ("common", *parts))
    )


ADMIT: Final = _script("identify", "admit")
AUTHENTICATE: Final = _script("identify", "authenticate")
SETTLE: Final = _script("charge", "settle")
REPLAY: Final = _script("charge", "replay")
CLAIM: Final = _script("claim")
RENEW: Final = _script("renew")
SWEEP: Final = _script("sweep")
RECORD: Final = _script("subject", "record")
DESCRIBE: Final = _script("subject", "describe")
TOTAL: Final = _script("total")


def prefix_of(tag: str) -> str:
    """Return how the names of an owner begin; the braces put them into one slot of a cluster."""
    return f"neev:{{{tag}}}:"


def key_name(tag: str, key_id: str) -> str:
    """Return the name of a key's record."""
    return f"neev:{{{tag}}}:key:{key_id}"


def seen_name(tag: str, process: str) -> str:
    """Return the name of the number of a process's last settle."""
    return f"neev:{{{tag}}}:seen:{process}"


# Owners' tags have no tilde, so these are names of nobody's.
TOTAL_PREFIX: Final = prefix_of("~total")
TOTAL_NAME: Final = TOTAL_PREFIX + "total"
INDEX_PREFIX: Final = prefix_of("~index")
