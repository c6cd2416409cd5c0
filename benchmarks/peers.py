"""`make bench-peers`: the gateway with all its checks, and other gateways without, in one run on one rig.

Two passes: short prompts and few streams, then long prompts and many streams. Writes a page, a chart and everything
measured to `benchmarks/results/`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer
from rich.console import Console

from benchmarks import published
from benchmarks.peer_contestants import PEERS
from benchmarks.report import added_p50, as_tables, notes, table_of, times_others
from benchmarks.results import (
    FLOOR,
    Report,
    Settings,
    cpu_ms_per_request,
    cpu_us_per_chunk,
    requests_per_cpu_second,
    when_answered,
)
from benchmarks.rig import Rig, RigError

if TYPE_CHECKING:
    from collections.abc import Iterable

RESULTS: Final = Path(__file__).resolve().parent / "results"
_NAMES: Final = ", ".join(peer.name for peer in PEERS)
_KEYS: Final = 10_000
_CHUNKS: Final = 100
_RATE: Final = 50.0  # chunks per second of a stream
_ALL: Final = "- : key, team, limits and budgets are checked in Valkey on every request"
_PASSES: Final = ((1_000, 20), (100_000, 200))  # bytes of the prompt, parallel streams


class Both(msgspec.Struct, frozen=True):
    """Everything measured, a report for each pass."""

    passes: list[Report]


def main(
    only: Annotated[
        list[str] | None, typer.Option(help=f"Only this one; may be given again. One of: {_NAMES}.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.2, max=60, help="Of each closed loop in each round.")] = 3.0,
    rounds: Annotated[int, typer.Option(min=1, max=20, help="How often everything is measured.")] = 3,
    directory: Annotated[Path, typer.Option(help="Where results are written.")] = RESULTS,
    publish: Annotated[
        bool, typer.Option("--publish", help="Put them into README.md and docs/ too.")
    ] = False,
) -> None:
    """Measure other gateways beside ours: one core each, one rig, one run."""
    console = Console()
    if unknown := set(only or ()) - {peer.name for peer in PEERS}:
        typer.echo(f"error: no such contestant: {', '.join(sorted(unknown))}. There are: {_NAMES}", err=True)
        raise typer.Exit(2)
    chosen = [peer for peer in PEERS if not only or peer.name in only]
    reports: list[Report] = []
    cores = os.sched_getaffinity(0)
    for prompt_bytes, streams in _PASSES:
        settings = Settings(
            seconds=seconds,
            rounds=rounds,
            connections=16,
            streams=streams,
            chunks=_CHUNKS,
            chunks_per_second=_RATE,
            prompt_bytes=prompt_bytes,
            keys=_KEYS,
        )
        os.sched_setaffinity(0, cores)  # a rig keeps this process to its own core
        rig = Rig(settings, lambda line: console.print(line, style="dim", highlight=False, markup=False))
        try:
            reports.append(rig.run(chosen))
        except RigError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from None
        for table in as_tables(reports[-1], console.width):
            console.print(table)
        for line in (*times_others(reports[-1]), *notes(reports[-1])):
            console.print(line, highlight=False, markup=False)
    directory.mkdir(parents=True, exist_ok=True)
    data = directory / "peers.json"
    data.write_bytes(msgspec.json.format(msgspec.json.encode(Both(reports)), indent=1) + b"\n")
    (directory / "peers.md").write_text("# The gateway and its peers\n\n" + page(reports), encoding="utf-8")
    _draw(directory, reports)
    if publish:
        published.publish(published.README, "peers", summary(reports))
        published.publish(published.DOCUMENTS / "performance.md", "peers", page(reports).splitlines())
        shutil.copy(directory / "peers.png", published.IMAGES / "peers.png")
    console.print(f"Written: {directory}/peers.json, peers.md, peers.png", style="dim", highlight=False)


def page(reports: list[Report]) -> str:
    """Return the run with all its figures."""
    first = reports[0]
    machine = ", ".join(f"{name} {value}" for name, value in first.machine.items())
    lines = [
        f"{first.date}, by `make bench-peers`. Machine: {machine}.",
        "One core for each contestant, the mock upstream and the load generator on the other; medians of",
        (
            f"{first.settings.rounds} interleaved rounds of {first.settings.seconds:g} s at one and at 16 "
            f"connections; streams of {_CHUNKS} chunks at {_RATE:g} a second."
        ),
    ]
    for report in reports:
        settings = report.settings
        lines += [
            "",
            f"### Prompts of {settings.prompt_bytes // 1000} KB, {settings.streams} parallel streams",
            "",
            *table_of(report),
            "",
            *(f"* {line}" for line in (*times_others(report), *notes(report))),
        ]
    lines += ["", "### What each did not do", ""]
    lines += [
        f"* **{result.name}**{_versions(result.versions)}: {result.what}."
        + (f" Without: {result.without}." if result.without else "")
        for result in first.contestants
    ]
    return "\n".join([*lines, ""])


def summary(reports: list[Report]) -> list[str]:
    """Return the run as one table, a contestant a line; where the passes differ, both figures in one cell."""
    first = reports[0]
    machine = first.machine
    passes = " / ".join(
        f"{report.settings.prompt_bytes // 1000} KB, {report.settings.streams} streams" for report in reports
    )
    lines = [
        (
            f"{first.date[:10]}, {machine['cpu']}, {machine['cores']} cores, one for each contestant, "
            f"{machine['system']}, {machine['python']}. Where there are two figures: prompts of {passes}."
        ),
        "",
        (
            "|  | requests per CPU second | CPU µs per chunk | added p50 ms | memory MB | ready s | "
            "does not do |"
        ),
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for results in zip(*(report.contestants for report in reports), strict=True):
        each = list(zip(reports, results, strict=True))
        cells = [
            _figures((one.median(requests_per_cpu_second) for _, one in each), ",.0f"),
            _figures(
                (
                    one.median(lambda r, report=report: cpu_us_per_chunk(r, report.settings))
                    for report, one in each
                ),
                ",.0f",
            ),
            _figures([added_p50(*each[0])], ".2f"),
            _figures((one.median(lambda r: r.memory_bytes / 1e6) for _, one in each), ".0f"),
            _figures([results[0].ready_seconds], ".2f"),
        ]
        shown = results[0]
        lines.append(
            f"| {shown.name}{_versions(shown.versions)} | {' | '.join(cells)} | {shown.without or _ALL} |"
        )
    return lines


def _figures(values: Iterable[float | None], form: str) -> str:
    return " / ".join("-" if value is None else format(value, form) for value in values)


def _versions(versions: dict[str, str]) -> str:
    return f" ({', '.join(f'{name} {version}' for name, version in versions.items())})" if versions else ""


def figures(reports: list[Report]) -> dict[str, dict[str, list[float | None]]]:
    """Return what the chart shows: by figure and contestant, one value for each pass."""
    wanted = {
        "requests per CPU second": lambda _, measured: requests_per_cpu_second(measured),
        "CPU ms per request": lambda _, measured: cpu_ms_per_request(measured),
        "CPU µs per streamed chunk": lambda report, measured: cpu_us_per_chunk(measured, report.settings),
        "p50 ms at one connection": lambda _, measured: when_answered(
            measured.single, measured.single.p50_ms
        ),
    }
    return {
        title: {
            result.name: [
                next(
                    one.median(lambda measured, report=report, figure=figure: figure(report, measured))
                    for one in report.contestants
                    if one.name == result.name
                )
                for report in reports
            ]
            for result in reports[0].contestants
            if result.name != FLOOR
        }
        for title, figure in wanted.items()
    }


def _draw(directory: Path, reports: list[Report]) -> None:
    """Have the chart drawn by the environment that has what draws it."""
    python = Path(__file__).resolve().parent.parent / ".venv-bench" / "bin" / "python"
    labels = [
        f"{report.settings.prompt_bytes // 1000} KB prompts, {report.settings.streams} streams"
        for report in reports
    ]
    drawn = {"labels": labels, "figures": figures(reports), "caption": _caption(reports[0])}
    script = Path(__file__).resolve().parent / "peer_chart.py"
    subprocess.run(
        [python, script, directory / "peers.png"],
        input=msgspec.json.encode(drawn),
        check=True,
        env={**os.environ, "MPLCONFIGDIR": str(directory)},
    )


def _caption(report: Report) -> str:
    return f"{report.date[:10]}, {report.machine['cpu']}, {report.machine['cores']} cores, one for each contestant"


if __name__ == "__main__":
    sys.exit(typer.run(main))
