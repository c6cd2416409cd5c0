"""`python -m benchmarks`: measure, print, write `benchmarks/results/`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, Final, NoReturn

import msgspec
import typer
from rich.console import Console

from benchmarks import published
from benchmarks.contestants import CONTESTANTS
from benchmarks.report import as_markdown, as_tables, figures, notes, ratios
from benchmarks.results import Settings
from benchmarks.rig import Rig, RigError

RESULTS: Final = Path(__file__).resolve().parent / "results"
_NAMES: Final = ", ".join(contestant.name for contestant in CONTESTANTS)


def main(
    only: Annotated[
        list[str] | None, typer.Option(help=f"Measure only this one; may be given again. One of: {_NAMES}.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.2, max=600, help="Of each closed loop in each round.")
    ] = 3.0,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="How often everything is measured.")] = 3,
    connections: Annotated[int, typer.Option(min=1, max=512, help="Of the loaded measurement.")] = 16,
    streams: Annotated[int, typer.Option(min=1, max=512, help="Parallel streams.")] = 20,
    chunks: Annotated[int, typer.Option(min=1, max=16_000, help="Of each stream.")] = 200,
    rate: Annotated[float, typer.Option(min=1, max=1000, help="Chunks per second of each stream.")] = 100.0,
    json: Annotated[Path, typer.Option(help="Where everything measured is written.")] = RESULTS
    / "latest.json",
    publish: Annotated[
        bool, typer.Option("--publish", help="Put them into docs/performance.md too.")
    ] = False,
    markdown: Annotated[Path, typer.Option(help="Where the table is written.")] = RESULTS / "latest.md",
) -> None:
    """Measure the gateway against LiteLLM: one core each, one rig, one run. Ctrl-C ends everything."""
    console = Console()
    if sys.platform != "linux":
        _fail("the benchmark needs Linux: it pins processes to cores and reads /proc")
    if unknown := set(only or ()) - {contestant.name for contestant in CONTESTANTS}:
        _fail(f"no such contestant: {', '.join(sorted(unknown))}. There are: {_NAMES}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    settings = Settings(
        seconds=seconds,
        rounds=rounds,
        connections=connections,
        streams=streams,
        chunks=chunks,
        chunks_per_second=rate,
    )
    rig = Rig(settings, lambda line: console.print(line, style="dim", highlight=False, markup=False))
    try:
        report = rig.run([contestant for contestant in CONTESTANTS if not only or contestant.name in only])
    except RigError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    for table in as_tables(report, console.width):
        console.print(table)
    for line in (*ratios(report), *notes(report)):
        console.print(line, highlight=False, markup=False)
    json.parent.mkdir(parents=True, exist_ok=True)
    json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    markdown.parent.mkdir(parents=True, exist_ok=True)
    markdown.write_text(as_markdown(report), encoding="utf-8")
    if publish:
        published.publish(published.DOCUMENTS / "performance.md", "bench", figures(report))
    console.print(f"Written: {json}, {markdown}", style="dim", highlight=False, markup=False)
    if any(result.failure for result in report.contestants):
        raise typer.Exit(1)


def _end(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def _fail(problem: str) -> NoReturn:
    typer.echo(f"error: {problem}", err=True)
    raise typer.Exit(2)


if __name__ == "__main__":
    typer.run(main)
