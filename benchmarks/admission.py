"""What admission costs: CPU of the gateway's process, and time in Redis, for each request.

Starts its own Valkey, makes keys of teams with every limit and a budget, and admits and settles as the gateway does.
Run: `python -m benchmarks.admission [--keys 10000] [--requests 20000] [--concurrency 20]`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from neev_provider.admission import Demand, Spent
from neev_provider.admission.keys import Keys
from neev_provider.admission.virtual import VirtualKeys
from neev_provider.store import Store

if TYPE_CHECKING:
    from neev_provider.admission import Grant

DEMAND = Demand("model", 200, 500, output_cap=4096, prompt_nanos=100, completion_nanos=400)
SPENT = Spent(prompt_tokens=210, completion_tokens=180, cost_nanos=93_000, model="vendor/model")
LIMITS = {
    "rpm_limit": 10**9,
    "tpm_limit": 10**12,
    "max_parallel_requests": 10**6,
    "max_budget": 1_000_000,
    "budget_duration": "30d",
}
KEYS_PER_TEAM = 10
ROUNDS = 20


@dataclass(frozen=True)
class Figures:
    """Microseconds for each request."""

    cpu: float
    wall: float
    redis_admit: float
    redis_settle: float


async def make_tokens(keys: Keys, count: int, per_team: int = KEYS_PER_TEAM) -> list[str]:
    """Make keys, so many to a team."""
    tokens: list[str] = []
    for number in range(-(-count // per_team)):
        team = await keys.create_team(LIMITS, team_id=f"team-{number}", by="benchmark")
        ends = min(count, len(tokens) + per_team)
        while len(tokens) < ends:  # not all at once: a call to the store has its bound
            made = [
                keys.create_key({**LIMITS, "models": ["model"]}, team=team.id, by="benchmark")
                for _ in range(min(KEYS_PER_TEAM, ends - len(tokens)))
            ]
            tokens += [key.token for key in await asyncio.gather(*made)]
    return tokens


async def measure(
    store: Store, access: VirtualKeys, tokens: list[str], requests: int, concurrency: int
) -> Figures:
    """Admit and settle in rounds, and return the median round's figures: other work on the machine disturbs some."""
    rounds = [await _round(store, access, tokens, requests // ROUNDS, concurrency) for _ in range(ROUNDS)]
    return Figures(*(statistics.median(figures) for figures in zip(*rounds, strict=True)))


async def _round(
    store: Store, access: VirtualKeys, tokens: list[str], requests: int, concurrency: int
) -> tuple[float, float, float, float]:
    """Return microseconds for each request: CPU of this process, wall, admission in Redis, settling in Redis."""
    await store.call("", "CONFIG", "RESETSTAT")
    numbers = iter(range(requests))

    async def client() -> None:
        for _ in numbers:
            grant = await access.admit(random.choice(tokens), DEMAND)
            grant.settle(SPENT)

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(client() for _ in range(concurrency)))
    await access.flush()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    both = await _evalsha_usec(store)
    # The scripts share one statistic, so admission alone is measured once more.
    await store.call("", "CONFIG", "RESETSTAT")
    some = requests // 4
    numbers = iter(range(some))

    async def only_admit() -> list[Grant]:
        return [await access.admit(random.choice(tokens), DEMAND) for _ in numbers]

    grants = [
        grant for made in await asyncio.gather(*(only_admit() for _ in range(concurrency))) for grant in made
    ]
    admit = await _evalsha_usec(store) / some
    for grant in grants:
        grant.settle(SPENT)
    await access.flush()
    return cpu / requests * 1e6, wall / requests * 1e6, admit, max(0.0, both / requests - admit)


async def _evalsha_usec(store: Store) -> float:
    text = (await store.call("", "INFO", "commandstats")).decode()
    line = next(line for line in text.splitlines() if line.startswith("cmdstat_evalsha:"))
    return float(dict(part.split("=") for part in line.partition(":")[2].split(","))["usec"])


async def run(url: str, counts: list[int], requests: int, concurrency: int) -> None:
    """Measure with each number of keys and print a line for each."""
    async with Store.from_url(url) as store:
        print("   keys  in flight  gateway CPU us  wall us  Redis admit us  Redis settle us")
        for count in counts:
            await store.call("", "FLUSHALL", "SYNC")
            tokens = await make_tokens(Keys(store), count)
            async with VirtualKeys(store) as access:
                # A key's first request writes what others find; with many keys that would be most of the measurement.
                for token in tokens:
                    (await access.admit(token, DEMAND)).settle(SPENT)
                await access.flush()
                for in_flight in (1, concurrency):
                    found = await measure(store, access, tokens, requests, in_flight)
                    print(
                        f"{count:7,} {in_flight:10} {found.cpu:15.1f} {found.wall:8.1f} {found.redis_admit:15.1f} "
                        f"{found.redis_settle:16.1f}"
                    )


def main() -> None:
    """Start a Valkey and measure."""
    from tests.store.servers import server  # noqa: PLC0415 - not needed with --url

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, nargs="*", default=[1, 10_000])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=20)
    parser.add_argument("--url", help="of a store that may be emptied; its own by default")
    given = parser.parse_args()
    if given.url:
        uvloop.run(run(given.url, given.keys, given.requests, given.concurrency))
        return
    with tempfile.TemporaryDirectory() as folder:
        running = server(Path(folder))
        try:
            uvloop.run(run(running.url, given.keys, given.requests, given.concurrency))
        finally:
            running.stop()


if __name__ == "__main__":
    main()
