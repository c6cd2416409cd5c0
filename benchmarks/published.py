"""Puts a run's tables into the documents, each between two marks. Called by the benchmarks with `--publish`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["DOCUMENTS", "IMAGES", "README", "block_of", "publish"]

_REPOSITORY: Final = Path(__file__).resolve().parent.parent
README: Final = _REPOSITORY / "README.md"
DOCUMENTS: Final = _REPOSITORY / "docs"
IMAGES: Final = DOCUMENTS / "images"


def block_of(document: Path, name: str) -> str:
    """Return what stands between a block's marks.

    Raises:
        ValueError: the document has no such block.
    """
    return _parts(document, name)[1]


def publish(document: Path, name: str, lines: Iterable[str]) -> None:
    """Replace what stands between a block's marks.

    Raises:
        ValueError: the document has no such block.
    """
    before, _, after = _parts(document, name)
    document.write_text(before + "\n".join(lines) + "\n" + after, encoding="utf-8")


def _parts(document: Path, name: str) -> tuple[str, str, str]:
    text = document.read_text(encoding="utf-8")
    start, end = f"<!-- {name}: ", f"<!-- end of {name} -->"
    before, found, rest = text.partition(start)
    by, closed, rest = rest.partition(" -->\n")
    block, ended, after = rest.partition(end)
    if not (found and closed and ended):
        raise ValueError(f"{document.name} has no block '{name}': {start}... --> and {end}")
    return before + start + by + closed, block, end + after
