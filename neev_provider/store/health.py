"""Whether a store may hold budgets: its version, what it evicts, what it keeps over a restart, how fast it answers.

Called at the start, which refuses what is wrong, and by `doctor`, which reports all of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from time import perf_counter, time
from typing import TYPE_CHECKING, Final

from neev_provider.errors import ConfigError

if TYPE_CHECKING:
    from neev_provider.store.client import Store

__all__ = ["StoreHealth", "check_store"]

_OLDEST: Final = (6, 2)
_FIELD: Final = re.compile(rb"^([a-z_]+):(.*?)\r?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """What one server says of itself.

    Attributes:
        server: its address.
        product: `valkey` or `redis`.
        version: of the product.
        policy: `maxmemory-policy`.
        max_memory: bytes; 0 for no bound.
        append_only: whether every write is kept over a restart.
        snapshots: whether a snapshot has been or will be written.
        latency: seconds of one round trip.
        clock_skew: seconds that its clock is ahead of this machine's.
    """

    server: str
    product: str
    version: str
    policy: str
    max_memory: int
    append_only: bool
    snapshots: bool
    latency: float
    clock_skew: float

    @property
    def keeps_data(self) -> bool:
        """Whether keys and budgets survive a restart of the server."""
        return self.append_only or self.snapshots


async def check_store(store: Store) -> list[StoreHealth]:
    """Ask every server.

    Returns:
        What they say; a server that may not hold budgets is an error instead.

    Raises:
        ConfigError: too old, or it evicts what it should keep.
        ServerError: away.
    """
    infos = await store.each_node("INFO")
    begun = perf_counter()
    clocks = await store.each_node("TIME")
    latency = (perf_counter() - begun) / len(clocks)
    now = time()
    found = []
    for server, raw in infos.items():
        fields = {key.decode(): value.decode() for key, value in _FIELD.findall(raw)}
        seconds, micros = clocks[server]
        health = StoreHealth(
            server=server,
            product="valkey" if "valkey_version" in fields else "redis",
            version=fields.get("valkey_version") or fields.get("redis_version", "0"),
            policy=fields.get("maxmemory_policy", ""),
            max_memory=int(fields.get("maxmemory", "0")),
            append_only=fields.get("aof_enabled") == "1",
            snapshots=fields.get("rdb_last_save_time", "0") != "0" and fields.get("rdb_saves", "0") != "0",
            latency=latency,
            clock_skew=int(seconds) + int(micros) / 1e6 - now,
        )
        # Valkey tells under this name which Redis it is compatible with.
        compatible = tuple(int(part) for part in re.findall(r"\d+", fields.get("redis_version", "0")))
        _refuse(health, compatible)
        found.append(health)
    return found


def _refuse(health: StoreHealth, compatible: tuple[int, ...]) -> None:
    if compatible < _OLDEST:
        raise ConfigError(
            "store", health.server, f"is Redis {health.version}", "Use Redis 6.2 or newer, or Valkey."
        )
    if health.policy.startswith("allkeys"):
        raise ConfigError(
            "store",
            health.server,
            f"has maxmemory-policy {health.policy}, which would evict keys and budgets",
            "Set maxmemory-policy noeviction.",
        )
    if health.policy.startswith("volatile") and health.max_memory:
        # The days' spend has an end, and so have the numbers by which a charge that is told again counts once.
        raise ConfigError(
            "store",
            health.server,
            f"has maxmemory-policy {health.policy} and a maxmemory, and would evict what was spent and charge twice",
            "Set maxmemory-policy noeviction.",
        )
