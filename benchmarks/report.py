"""A run as a table for the terminal, and as Markdown for the repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from rich.table import Table

from benchmarks.results import (
    FLOOR,
    cpu_ms_per_request,
    cpu_us_per_chunk,
    requests_per_cpu_second,
    when_answered,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.results import ContestantResult, Report, Round

__all__ = ["added_p50", "as_markdown", "as_tables", "figures", "notes", "ratios", "table_of", "times_others"]

_BASELINES: Final = ("litellm", "litellm-openai")  # what the others are compared with
_NOISE_SHARE: Final = 0.05  # of the contestant's core, from which on a run is called disturbed
_RIG_BOUND_SHARE: Final = 0.7  # of the floor's rate, from which on the rig and not the contestant is measured
_NONE: Final = "-"
_AROUND_TITLE: Final = 4  # a table's two borders, and a blank on both sides
_AROUND_CELL: Final = 3


class _Column(NamedTuple):
    title: str
    cell: Callable[[Report, ContestantResult], str]


def _median(
    figure: Callable[[Report, Round], float | None], form: str
) -> Callable[[Report, ContestantResult], str]:
    def cell(report: Report, result: ContestantResult) -> str:
        value = result.median(lambda measured: figure(report, measured))
        return _NONE if value is None else format(value, form)

    return cell


def _not_for_floor(
    cell: Callable[[Report, ContestantResult], str],
) -> Callable[[Report, ContestantResult], str]:
    return lambda report, result: _NONE if result.name == FLOOR else cell(report, result)


def added_p50(report: Report, result: ContestantResult) -> float | None:
    """Return the median latency at one connection, less the floor's, in milliseconds."""
    own, floor = (
        one.median(lambda measured: when_answered(measured.single, measured.single.p50_ms))
        for one in (result, report.floor)
    )
    return None if own is None or floor is None else own - floor


def _added_p50(report: Report, result: ContestantResult) -> str:
    value = added_p50(report, result)
    return _NONE if value is None else f"{value:.2f}"


def _ready(_report: Report, result: ContestantResult) -> str:
    return _NONE if result.ready_seconds is None else f"{result.ready_seconds:.2f}"


def _by_process(_report: Report, result: ContestantResult) -> str:
    """Return the last round's; processes do not come and go."""
    parts = result.rounds[-1].memory_by_process if result.rounds else []
    return " + ".join(f"{part / 1e6:.0f}" for part in parts) or _NONE


def _columns(report: Report) -> tuple[_Column, ...]:
    at = f"at {report.settings.connections} connections"
    return (
        _Column(
            f"req/s {at}", _median(lambda _, r: when_answered(r.parallel, r.parallel.per_second), ",.0f")
        ),
        _Column("CPU ms per request", _median(lambda _, r: cpu_ms_per_request(r), ".3f")),
        _Column("p50 ms at 1", _median(lambda _, r: when_answered(r.single, r.single.p50_ms), ".2f")),
        _Column("p99 ms at 1", _median(lambda _, r: when_answered(r.single, r.single.p99_ms), ".2f")),
        _Column("added p50 ms", _not_for_floor(_added_p50)),
        _Column(f"p50 ms {at}", _median(lambda _, r: when_answered(r.parallel, r.parallel.p50_ms), ".2f")),
        _Column(f"p99 ms {at}", _median(lambda _, r: when_answered(r.parallel, r.parallel.p99_ms), ".2f")),
        _Column("CPU µs per chunk", _median(lambda s, r: cpu_us_per_chunk(r, s.settings), ".1f")),
        _Column(
            "first event p50 ms", _median(lambda _, r: when_answered(r.streamed, r.streamed.p50_ms), ".1f")
        ),
        _Column("streams took s", _median(lambda _, r: when_answered(r.streamed, r.streamed.seconds), ".2f")),
        _Column("memory MB", _median(lambda _, r: r.memory_bytes / 1e6, ".0f")),
        _Column("of it by process, parents first", _by_process),
        _Column("ready s", _ready),
    )


def _rows(report: Report) -> list[tuple[str, list[str]]]:
    columns = _columns(report)
    return [
        (result.name, [column.cell(report, result) for column in columns])
        for result in (report.floor, *report.contestants)
    ]


def as_tables(report: Report, width: int) -> list[Table]:
    """Return the medians, a contestant a column, in as many tables as it takes for none to be wider than `width`."""
    titles = [column.title for column in _columns(report)]
    left = width - max(map(len, titles)) - _AROUND_TITLE
    groups: list[list[tuple[str, list[str]]]] = []
    room = 0
    for name, cells in _rows(report):
        needed = max(len(name), *map(len, cells)) + _AROUND_CELL
        if not groups or needed > room:
            groups.append([])
            room = left
        groups[-1].append((name, cells))
        room -= needed
    tables = []
    for number, group in enumerate(groups):
        table = Table(title=None if number else f"Medians of {report.settings.rounds} rounds")
        table.add_column("", no_wrap=True)
        for name, _ in group:
            table.add_column(name, justify="right", no_wrap=True)
        for row, title in enumerate(titles):
            table.add_row(title, *(cells[row] for _, cells in group))
        tables.append(table)
    return tables


def ratios(report: Report) -> list[str]:
    """Return each contestant's requests per CPU second, and how they compare with LiteLLM's."""
    lines: list[str] = []
    measured = [result for result in report.contestants if result.rounds]
    for result in measured:
        value, spread = result.median(requests_per_cpu_second), result.spread(requests_per_cpu_second)
        if value is not None and spread is not None:
            low, high = spread
            lines.append(
                f"{result.name}: {value:,.0f} requests per CPU second (rounds {low:,.0f} to {high:,.0f})"
            )
    bases = [result for result in measured if result.name in _BASELINES]
    lines += [_times(report, result, base) for result in measured if result not in bases for base in bases]
    return lines


def times_others(report: Report) -> list[str]:
    """Return what a CPU second of the first contestant does, in multiples of what one of each other does."""
    first, *others = [result for result in report.contestants if result.rounds]
    return [_times(report, first, other) for other in others]


def _times(report: Report, result: ContestantResult, base: ContestantResult) -> str:
    requests = _quotient(result.median(requests_per_cpu_second), base.median(requests_per_cpu_second))
    chunks = _quotient(_chunk_cost(report, base), _chunk_cost(report, result))
    return f"{result.name} / {base.name}: {requests} x the requests, {chunks} x the chunks per CPU second"


def _chunk_cost(report: Report, result: ContestantResult) -> float | None:
    return result.median(lambda measured: cpu_us_per_chunk(measured, report.settings))


def notes(report: Report) -> list[str]:
    """Return what a reader must know to trust the figures, or not to."""
    lines: list[str] = []
    if report.shared_core:
        lines.append(
            "Only one core: contestants, mock upstream and load generator share it. CPU figures hold; "
            "requests per second and latencies do not."
        )
    floor = report.floor.median(lambda measured: measured.parallel.per_second) or 0.0
    for result in (report.floor, *report.contestants):
        if result.failure:
            lines.append(f"{result.name}: {result.failure}")
        if result.errors:
            errors = ", ".join(f"{count} x {what}" for what, count in sorted(result.errors.items()))
            lines.append(f"{result.name}: failed or wrong answers: {errors}")
        foreign = result.median(lambda measured: measured.foreign_share) or 0.0
        if result is not report.floor and not report.shared_core and foreign > _NOISE_SHARE:
            lines.append(f"{result.name}: others took {foreign:.0%} of its core; compare ratios, not figures")
        rate = result.median(lambda measured: measured.parallel.per_second) or 0.0
        if result is not report.floor and rate > _RIG_BOUND_SHARE * floor:
            lines.append(
                f"{result.name}: near the rig's own limit; its requests per second are a lower bound"
            )
    return lines


def as_markdown(report: Report) -> str:
    """Return the run as a page that stands by itself."""
    return "\n".join(["# Benchmark", "", "The method is in `docs/performance.md`.", "", *figures(report), ""])


def figures(report: Report) -> list[str]:
    """Return when, where and how it was measured, and all of it, as lines of Markdown."""
    settings = report.settings
    asked = (
        f"Medians of {settings.rounds} interleaved rounds of {settings.seconds:g} s at one and at "
        f"{settings.connections} connections; {settings.streams} streams of {settings.chunks} chunks at "
        f"{settings.chunks_per_second:g} per second."
    )
    machine = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    described = [
        f"* **{result.name}**: {result.what}{_in_brackets(result.versions)}"
        for result in (report.floor, *report.contestants)
    ]
    return [
        f"{report.date}, by `make bench`. {asked}",
        "",
        f"Machine: {machine}.",
        "",
        *described,
        "",
        *table_of(report),
        "",
        *(f"* {line}" for line in (*ratios(report), *notes(report))),
    ]


def table_of(report: Report) -> list[str]:
    """Return the medians as lines of a Markdown table, a contestant a column."""
    rows = _rows(report)
    body = [
        [column.title, *(cells[number] for _, cells in rows)]
        for number, column in enumerate(_columns(report))
    ]
    return [
        _line(["", *(name for name, _ in rows)]),
        _line(["---", *["---:"] * len(rows)]),
        *map(_line, body),
    ]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _in_brackets(versions: dict[str, str]) -> str:
    return f" ({', '.join(f'{name} {version}' for name, version in versions.items())})" if versions else ""


def _quotient(dividend: float | None, divisor: float | None) -> str:
    if not dividend or not divisor:
        return _NONE
    quotient = dividend / divisor
    return f"{quotient:.2f}" if quotient < 1 else f"{quotient:.1f}"
