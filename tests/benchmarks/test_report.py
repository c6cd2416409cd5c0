"""What the figures mean, and which are not shown."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from benchmarks.load import LoadResult
from benchmarks.report import as_markdown, as_tables, notes, ratios, times_others
from benchmarks.results import (
    FLOOR,
    ContestantResult,
    Report,
    Round,
    Settings,
    cpu_ms_per_request,
    cpu_us_per_chunk,
    requests_per_cpu_second,
)

SETTINGS = Settings(seconds=2, rounds=3, connections=16, streams=2, chunks=100, chunks_per_second=100)


def load(answered: int = 100, p50: float = 1.0, per_second: float = 50.0, **errors: int) -> LoadResult:
    return LoadResult(
        answered=answered, per_second=per_second, errors=errors, p50_ms=p50, p99_ms=p50 * 2, seconds=2.0
    )


def measured(**changes) -> Round:
    fields = {
        "single": load(),
        "single_cpu": 0.1,
        "parallel": load(answered=1000),
        "parallel_cpu": 2.0,
        "streamed": load(answered=2),
        "streamed_cpu": 0.02,
        "memory_bytes": 80_000_000,
        "memory_by_process": [50_000_000, 30_000_000],
        "foreign_share": 0.0,
    }
    return Round(**(fields | changes))


def result(name: str, *rounds: Round, **fields) -> ContestantResult:
    return ContestantResult(name=name, what="a thing", rounds=list(rounds), **fields)


def report(*contestants: ContestantResult, **fields) -> Report:
    floor = result(FLOOR, measured(single=load(p50=0.25), parallel=load(per_second=20_000)))
    fields = {"shared_core": False, "machine": {"cores": "2"}, **fields}
    return Report(date="2026-01-01", settings=SETTINGS, floor=floor, contestants=list(contestants), **fields)


def cell(page: str, row: str, column: int) -> str:
    return next(line for line in page.splitlines() if line.startswith(f"| {row}")).split("|")[column].strip()


def test_cpu_is_divided_by_what_it_was_spent_on() -> None:
    assert cpu_ms_per_request(measured()) == pytest.approx(2.0)
    assert requests_per_cpu_second(measured()) == pytest.approx(500)
    assert cpu_us_per_chunk(measured(), SETTINGS) == pytest.approx(100)


def test_streams_that_failed_have_no_cost_per_chunk() -> None:
    refused = measured(streamed=load(answered=1, refused=1), streamed_cpu=0.0001)
    assert cpu_us_per_chunk(refused, SETTINGS) is None
    page = as_markdown(report(result("gateway", refused)))
    assert cell(page, "CPU µs per chunk", 3) == "-"
    assert "gateway: failed or wrong answers: 1 x refused" in page


def test_the_reported_figure_is_the_median_of_the_rounds() -> None:
    rounds = [measured(single=load(p50=p50)) for p50 in (9.0, 1.0, 2.0)]
    page = as_markdown(report(result("gateway", *rounds)))
    assert cell(page, "p50 ms at 1 ", 3) == "2.00"


def test_the_floor_is_taken_off_the_added_latency() -> None:
    page = as_markdown(report(result("gateway", measured())))
    assert [cell(page, "added p50 ms", column) for column in (2, 3)] == ["-", "0.75"]


def test_memory_is_shown_process_by_process() -> None:
    page = as_markdown(report(result("a", measured()), result("b", failure="did not start")))
    assert [cell(page, "of it by process", column) for column in (3, 4)] == ["50 + 30", "-"]


def test_contestants_are_compared_with_litellm() -> None:
    slow = measured(parallel_cpu=60.0, streamed_cpu=0.5)
    lines = ratios(report(result("gateway", measured()), result("litellm", slow)))
    assert lines == [
        "gateway: 500 requests per CPU second (rounds 500 to 500)",
        "litellm: 17 requests per CPU second (rounds 17 to 17)",
        "gateway / litellm: 30.0 x the requests, 25.0 x the chunks per CPU second",
    ]


def test_a_contestant_that_did_not_start_is_named_with_its_reason() -> None:
    failed = report(result("gateway", failure="ended while starting; it said last: no such option"))
    assert notes(failed) == ["gateway: ended while starting; it said last: no such option"]
    assert cell(as_markdown(failed), "ready s", 3) == "-"
    assert ratios(failed) == []


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"foreign_share": 0.3}, "gateway: others took 30% of its core; compare ratios, not figures"),
        (
            {"parallel": load(per_second=19_000)},
            "gateway: near the rig's own limit; its requests per second are a lower bound",
        ),
    ],
)
def test_what_spoils_a_figure_is_said(changes, note) -> None:
    assert notes(report(result("gateway", measured(**changes)))) == [note]


def test_a_single_core_is_said() -> None:
    assert notes(report(shared_core=True))[0].startswith("Only one core")


def test_a_report_survives_its_json() -> None:
    original = report(result("gateway", measured(), ready_seconds=0.5))
    assert msgspec.json.decode(msgspec.json.encode(original), type=Report) == original


@pytest.mark.parametrize("width", [60, 80, 200])
def test_tables_are_as_wide_as_the_terminal_at_most_and_no_figure_is_cut(width: int) -> None:
    names = ["gateway-many-keys", "nginx", "litellm-openai", "portkey", "ferrogw"]
    console = Console(width=width, file=io.StringIO(), color_system=None)
    for table in as_tables(report(*(result(name, measured()) for name in names)), width):
        console.print(table)
    shown = console.file.getvalue()
    assert "…" not in shown
    for name in names:
        assert name in shown
    assert shown.count(" 2.000 ") == len(names)  # CPU ms per request; the floor's are 20


def test_the_first_contestant_is_compared_with_every_other() -> None:
    other = measured(parallel_cpu=6.0, streamed_cpu=0.01)
    assert times_others(report(result("gateway", measured()), result("portkey", other))) == [
        "gateway / portkey: 3.0 x the requests, 0.50 x the chunks per CPU second"
    ]
