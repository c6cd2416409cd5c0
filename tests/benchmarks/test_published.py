"""What the benchmarks write into the documents, and that it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.peers import page, summary
from benchmarks.published import DOCUMENTS, IMAGES, README, block_of, publish
from benchmarks.report import figures
from tests.benchmarks.test_report import measured, report, result

BEFORE = "# Title\n\n<!-- speed: written by a command -->\n"
RUN = report(
    result("gateway", measured()),
    result("nginx", measured(), without="everything"),
    machine={"cpu": "a processor", "cores": "2", "system": "Linux", "python": "CPython"},
)
AFTER = "<!-- end of speed -->\n\nMore, and <!-- other: by hand -->\nthat\n<!-- end of other -->\n"


def test_a_block_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text(f"{BEFORE}old\n{AFTER}")
    publish(document, "speed", ["new", "lines"])
    assert document.read_text() == f"{BEFORE}new\nlines\n{AFTER}"
    assert block_of(document, "other") == "that\n"


def test_a_document_without_the_block_is_left_alone(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text(BEFORE)
    with pytest.raises(ValueError, match="no block 'speed'"):
        publish(document, "speed", ["new"])
    assert document.read_text() == BEFORE


def test_a_contestant_is_a_line_with_the_figures_of_both_passes_and_what_it_does_not_do() -> None:
    lines = summary([RUN, RUN])
    assert lines[-1].startswith("| nginx | 500 / 500 | 100 / 100 |")
    assert lines[-1].endswith("| everything |")
    assert "Valkey" in lines[-2]


def test_the_readme_shows_the_table_that_is_written_now() -> None:
    (head,) = [line for line in summary([RUN]) if line.startswith("|  |")]
    assert head in block_of(README, "peers").splitlines()


@pytest.mark.parametrize(("name", "written"), [("peers", page([RUN]).splitlines()), ("bench", figures(RUN))])
def test_the_document_shows_the_figures_that_are_measured_now(name: str, written: list[str]) -> None:
    assert measures(block_of(DOCUMENTS / "performance.md", name).splitlines()) >= measures(written)


def measures(lines: list[str]) -> set[str]:
    """What is measured, but for the words that say how much of it: the first cells of a table."""
    return {re.sub(r"\d+", "N", line.split("|")[1].strip()) for line in lines if line.startswith("|")}


def test_their_pictures_are_there() -> None:
    assert (IMAGES / "peers.png").stat().st_size > 10_000
    assert (IMAGES / "scale.png").stat().st_size > 10_000
    assert "### Keys" in block_of(DOCUMENTS / "scaling.md", "growth")
