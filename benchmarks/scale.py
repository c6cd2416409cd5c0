"""How the gateway's cost grows: with keys, teams, days of spend, parallel streams and workers.

Run: `python -m benchmarks.scale [--quick]`. Writes `benchmarks/results/scale.md` and `scale.json`; what it means is
in `docs/scaling.md`. CPU and time in the store are what is compared: rates depend on the machine and its neighbours.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
import uvloop
from rich.console import Console

from benchmarks import published
from benchmarks.admission import DEMAND, KEYS_PER_TEAM, SPENT, make_tokens, measure
from benchmarks.contestants import CONTESTANTS
from benchmarks.results import ContestantResult, Settings, cpu_ms_per_request, cpu_us_per_chunk
from benchmarks.rig import Rig
from neev_provider.admission.keys import Keys
from neev_provider.admission.rules import AdmissionSettings, Clock
from neev_provider.admission.spend import read_spend
from neev_provider.admission.virtual import VirtualKeys
from neev_provider.store import Store

RESULTS: Final = Path(__file__).resolve().parent / "results"
KEY_COUNTS: Final = (1, 10, 100, 1_000, 10_000)
TEAM_COUNTS: Final = (1, 10, 100, 1_000)
KEYS_OF_TEAMS: Final = 1_000
DAY_COUNTS: Final = (1, 30, 100, 400)
SPENDERS: Final = 50  # keys that spend every day
STREAM_COUNTS: Final = (1, 20, 100, 500)
IN_FLIGHT: Final = 20
_OF_ADMISSION: Final = ("gateway CPU µs", "store µs: admit", "store µs: settle", "store MB")
_LARGE: Final = 1000  # numbers from here on are shown without fractions


class Curve(msgspec.Struct, frozen=True):
    """One table.

    Attributes:
        title: what grows.
        columns: what is measured, with units.
        rows: the size, and its figures.
    """

    title: str
    columns: list[str]
    rows: list[list[float]]


async def by_keys(url: str, requests: int) -> Curve:
    """Admit and settle with ever more keys, twenty requests in flight."""
    async with Store.from_url(url) as store:
        rows = [await _with_keys(store, count, KEYS_PER_TEAM, requests, count) for count in KEY_COUNTS]
    return Curve("Keys (ten to a team, every limit and a budget)", ["keys", *_OF_ADMISSION], rows)


async def by_teams(url: str, requests: int) -> Curve:
    """Admit and settle with as many keys of ever more teams, twenty requests in flight."""
    async with Store.from_url(url) as store:
        rows = [
            await _with_keys(store, KEYS_OF_TEAMS, KEYS_OF_TEAMS // teams, requests, teams)
            for teams in TEAM_COUNTS
        ]
    return Curve(f"Teams ({KEYS_OF_TEAMS:,} keys shared out among them)", ["teams", *_OF_ADMISSION], rows)


async def _with_keys(store: Store, count: int, per_team: int, requests: int, size: int) -> list[float]:
    """Return a row: `size`, and what an admission and its settling cost with so many keys."""
    await store.call("", "FLUSHALL", "SYNC")
    tokens = await make_tokens(Keys(store), count, per_team)
    async with VirtualKeys(store) as access:
        for token in tokens:
            (await access.admit(token, DEMAND)).settle(SPENT)
        await access.flush()
        found = await measure(store, access, tokens, requests, IN_FLIGHT)
    return [size, found.cpu, found.redis_admit, found.redis_settle, await _memory(store) / 1e6]


async def by_days(url: str) -> Curve:
    """Spend on ever more days, and read the report of all of them."""
    rows: list[list[float]] = []
    async with Store.from_url(url) as store:
        for days in DAY_COUNTS:
            await store.call("", "FLUSHALL", "SYNC")
            tokens = await make_tokens(Keys(store), SPENDERS)
            empty = await _memory(store)
            clock = Clock()
            async with VirtualKeys(store, AdmissionSettings(clock=clock)) as access:
                for day in range(days):
                    clock.moved = -(days - 1 - day) * 86_400_000
                    for token in tokens:
                        (await access.admit(token, DEMAND)).settle(SPENT)
                    await access.flush()
                grown = await _memory(store) - empty
                today, began = datetime.now(UTC), time.perf_counter()
                read = await read_spend(store, today - timedelta(days=days), today)
                took = time.perf_counter() - began
                found = await measure(store, access, tokens, 2_000, IN_FLIGHT)
            rows.append([days, found.redis_admit, found.redis_settle, took * 1000, len(read), grown / 1e6])
    columns = ["days", "store µs: admit", "store µs: settle", "report ms", "rows of the report", "store MB"]
    return Curve(f"Days of spend ({SPENDERS} keys, each day one model)", columns, rows)


async def _memory(store: Store) -> int:
    text = (await store.call("", "INFO", "memory")).decode()
    line = next(line for line in text.splitlines() if line.startswith("used_memory:"))
    return int(line.partition(":")[2])


def by_streams(say: Console, seconds: float, rounds: int) -> Curve:
    """Hold ever more streams open, twenty chunks a second each."""
    gateway = next(one for one in CONTESTANTS if one.name == "gateway")
    rows: list[list[float]] = []
    for streams in STREAM_COUNTS:
        settings = _settings(seconds, rounds, streams)
        (result,) = _run(say, settings, [gateway])
        chunk = result.median(lambda measured, settings=settings: cpu_us_per_chunk(measured, settings)) or 0.0
        memory = result.rounds[-1].memory_by_process[-1] / 1e6
        first = result.rounds[-1].streamed.p50_ms
        rows.append([streams, chunk, chunk * streams * settings.chunks_per_second / 1e4, first, memory])
    columns = ["streams", "CPU µs per chunk", "% of a core", "first event p50 ms", "worker MB"]
    return Curve("Parallel streams (twenty chunks a second each)", columns, rows)


def by_workers(say: Console, seconds: float, rounds: int) -> Curve:
    """Serve by one worker and by two, and by two gateways that share a store, on one core."""
    gateway = next(one for one in CONTESTANTS if one.name == "gateway")
    two = replace(gateway, name="two workers", command=(*_without_workers(gateway.command), "--workers", "2"))
    beside = replace(gateway, name="a gateway beside another")
    rows: list[list[float]] = []
    for number, contestants in enumerate(([gateway], [two], [gateway, beside])):
        result = _run(say, _settings(seconds, rounds, 20), contestants)[-1]
        cost = result.median(cpu_ms_per_request) or 0.0
        rows.append([number + 1, cost, result.rounds[-1].memory_bytes / 1e6])
    columns = ["1: one worker, 2: two, 3: two gateways", "CPU ms per request", "MB of the one measured"]
    return Curve("Workers and gateways on one store", columns, rows)


def _without_workers(command: tuple[str, ...]) -> tuple[str, ...]:
    place = command.index("--workers")
    return command[:place] + command[place + 2 :]


def _settings(seconds: float, rounds: int, streams: int) -> Settings:
    return Settings(
        seconds=seconds, rounds=rounds, connections=16, streams=streams, chunks=60, chunks_per_second=20.0
    )


def _run(say: Console, settings: Settings, contestants: list) -> list[ContestantResult]:
    cores = os.sched_getaffinity(0)
    try:
        report = Rig(settings, lambda line: say.print(line, style="dim", highlight=False)).run(contestants)
    finally:
        os.sched_setaffinity(0, cores)  # a rig keeps this process to its own core
    for result in report.contestants:
        if result.failure or not result.rounds:
            raise typer.BadParameter(f"{result.name}: {result.failure or 'nothing was measured'}")
    return report.contestants


def page(curves: list[Curve]) -> str:
    """Return the tables as Markdown."""
    lines = [
        f"{datetime.now(UTC).isoformat(timespec='minutes')}, by `python -m benchmarks.scale`.",
    ]
    for curve in curves:
        lines += ["", f"### {curve.title}", "", f"| {' | '.join(curve.columns)} |"]
        lines.append(f"|{'---:|' * len(curve.columns)}")
        lines += [f"| {' | '.join(_shown(value) for value in row)} |" for row in curve.rows]
    return "\n".join([*lines, ""])


def _draw(directory: Path) -> None:
    """Have the curves drawn by the environment that has what draws them."""
    python = Path(__file__).resolve().parent.parent / ".venv-bench" / "bin" / "python"
    script = Path(__file__).resolve().parent / "scale_chart.py"
    subprocess.run(
        [python, script, directory / "scale.json", directory / "scale.png"],
        check=True,
        env={**os.environ, "MPLCONFIGDIR": str(directory)},
    )


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or value >= _LARGE else f"{value:.3g}"


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Shorter, noisier.")] = False,
    directory: Annotated[Path, typer.Option(help="Where results are written.")] = RESULTS,
    publish: Annotated[bool, typer.Option("--publish", help="Put them into docs/ too.")] = False,
) -> None:
    """Measure how cost grows."""
    from tests.store.servers import server  # noqa: PLC0415 - found from the repository's root only

    say = Console()
    requests = 2_000 if quick else 10_000
    with tempfile.TemporaryDirectory() as folder:
        running = server(Path(folder))
        try:
            curves = [
                uvloop.run(by_keys(running.url, requests)),
                uvloop.run(by_teams(running.url, requests)),
                uvloop.run(by_days(running.url)),
            ]
        finally:
            running.stop()
    seconds, rounds = (0.5, 1) if quick else (2.0, 3)
    curves += [by_streams(say, seconds, rounds), by_workers(say, seconds, rounds)]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "scale.json").write_bytes(msgspec.json.format(msgspec.json.encode(curves), indent=1) + b"\n")
    text = page(curves)
    (directory / "scale.md").write_text(f"# Growth\n\n{text}", encoding="utf-8")
    _draw(directory)
    if publish:
        published.publish(published.DOCUMENTS / "scaling.md", "growth", text.splitlines())
        shutil.copy(directory / "scale.png", published.IMAGES / "scale.png")
    say.print(text, markup=False, highlight=False)


if __name__ == "__main__":
    typer.run(main)
