"""Writes the table of `docs/reliability.md`: `python -m tests.faults.write_table`."""

from __future__ import annotations

from pathlib import Path

from tests.faults.matrix import table

MANUAL = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN = "<!-- matrix: generated from tests/faults/matrix.py, checked by a test -->\n"
END = "<!-- end of matrix -->"

if __name__ == "__main__":
    before, _, rest = MANUAL.read_text().partition(BEGIN)
    MANUAL.write_text(before + BEGIN + "\n".join(table()) + "\n" + END + rest.partition(END)[2])
