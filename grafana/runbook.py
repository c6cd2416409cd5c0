"""docs/runbook.md in sections, one an alert. Read by the runbook's dashboard and by links to a section."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["RUNBOOK", "Section", "sections"]

RUNBOOK: Final = Path(__file__).resolve().parents[1] / "docs" / "runbook.md"


@dataclass(frozen=True)
class Section:
    """A section of the runbook: its heading, which is the alert's name, and what stands below it.

    `panel` is the id of the panel that shows it.
    """

    heading: str
    text: str
    panel: int

    @property
    def anchor(self) -> str:
        """What a link to the section ends with."""
        return self.heading.lower()


@cache
def sections() -> dict[str, Section]:
    """Return the sections by heading, in the document's order."""
    parts = RUNBOOK.read_text().split("\n## ")[1:]
    read = [part.partition("\n") for part in parts]
    return {
        heading.strip(): Section(heading.strip(), text.strip(), panel)
        for panel, (heading, _, text) in enumerate(read, start=1)
    }
