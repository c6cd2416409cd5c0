"""`docs/emulator.md` lists what the code knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from neev_provider.emulator.faults import FAULTS, SHAPES
from neev_provider.emulator.steering import ECHO_KEYS

MANUAL = Path(__file__).parents[2] / "docs" / "emulator.md"
APPLIES_TO = {"any": "all", "chat": "chat", "stream": "streams", "speech": "speech", "selection": "-"}


def cell(text):
    return text.replace("|", "\\|")


TABLES = {
    "faults": [f"| `{cell(kind.usage)}` | {APPLIES_TO[kind.scope]} | {kind.help} |" for kind in FAULTS],
    "shapes": [f"| `{name}` | {text} |" for name, text in SHAPES.items()],
    "echo keys": [f"| `{key.usage}` | {key.help} |" for key in ECHO_KEYS],
}


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_of_the_manual_are_those_of_the_code(name):
    text = MANUAL.read_text()
    begin = f"<!-- {name}: generated from the code, checked by a test -->\n"
    table = text.partition(begin)[2].partition(f"\n<!-- end of {name} -->")[0]
    assert table.split("\n")[2:] == TABLES[name]
