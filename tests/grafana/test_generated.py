"""What is checked in is what is generated."""

from __future__ import annotations

import subprocess
import sys

import pytest

from grafana.generate import HERE, generated
from tests.grafana.boards import ROOT

FILES = generated()


@pytest.mark.parametrize("path", FILES, ids=str)
def test_the_file_is_what_is_generated_now(path):
    assert (HERE / path).read_text() == FILES[path], "run `make dashboards`"


def test_no_other_dashboard_lies_about():
    assert {path.name for path in (HERE / "dashboards").iterdir()} == {
        path.name for path in FILES if path.parent.name == "dashboards"
    }


def test_the_command_says_so_too():
    done = subprocess.run(
        [sys.executable, "-m", "grafana.generate", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
