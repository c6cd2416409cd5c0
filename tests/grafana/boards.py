"""The dashboards as they are checked in."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
DIRECTORY = ROOT / "grafana" / "dashboards"
BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(DIRECTORY.glob("*.json"))}


def panels(board: dict) -> list[dict]:
    """All panels that show something, also those of rows."""
    flat = [inner for panel in board["panels"] for inner in (panel, *panel.get("panels", []))]
    return [panel for panel in flat if panel["type"] != "row"]


PANELS = [(name, panel) for name, board in BOARDS.items() for panel in panels(board)]
PANEL_NAMES = [f"{name}: {panel['title']}" for name, panel in PANELS]
DRAWN = [(name, panel) for name, panel in PANELS if panel["type"] != "text"]
TARGETS = [(name, panel, target) for name, panel in DRAWN for target in panel["targets"]]
TARGET_NAMES = [f"{name}: {panel['title']} {target['refId']}" for name, panel, target in TARGETS]
