"""One page a dashboard, with everything in it, and headless Chromium's picture of it. Called by `__main__.py`."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["picture"]

_PAGE: Final = Path(__file__).resolve().parent / "page"
_WIDTH: Final = 1600  # pixels
_ROW: Final = 38  # pixels of a grid row, with the gap below it
_HEAD: Final = 104  # pixels above the first row
_PATIENCE_SECONDS: Final = 120


def picture(board: Mapping[str, Any], file: Path) -> None:
    """Draw a dashboard with its data into a PNG.

    Raises:
        RuntimeError: Chromium made no picture, or the page has failed; with what was said.
    """
    height = _HEAD + _ROW * max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(_page(board))
        command = [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--disable-dev-shm-usage", "--no-first-run", "--disable-component-update"),
            "--disable-background-networking",
            *(f"--user-data-dir={folder}/profile", f"--window-size={_WIDTH},{height}"),
            *("--virtual-time-budget=4000", "--enable-logging=stderr", f"--screenshot={file}", page.as_uri()),
        ]  # fmt: skip
        done = subprocess.run(  # noqa: S603 - a command of ours
            command, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=False
        )
    failed = [line for line in done.stderr.splitlines() if "Uncaught" in line]
    if done.returncode or failed or not file.exists():
        raise RuntimeError(f"no picture of {board['title']}:\n" + ("\n".join(failed) or done.stderr[-2000:]))


def _page(board: Mapping[str, Any]) -> str:
    # A closing tag inside the data would end the script.
    data = json.dumps(board).replace("</", "<\\/")
    parts = {
        "UPLOT_STYLE": (_PAGE / "uplot" / "uPlot.min.css").read_text(),
        "STYLE": (_PAGE / "style.css").read_text(),
        "UPLOT": (_PAGE / "uplot" / "uPlot.iife.min.js").read_text(),
        "DATA": f"const BOARD = {data};",
        "UNITS": (_PAGE / "units.js").read_text(),
        "DRAW": (_PAGE / "draw.js").read_text(),
    }
    page = (_PAGE / "page.html").read_text()
    for name, part in parts.items():
        page = page.replace(f"/*{name}*/", part)
    return page
