"""`make run` in a terminal: it serves, and Ctrl-C ends all of it."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.proxy.serving import ROOT, descendants, exists, free_port
from tests.system.starting import wait_until_ready

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]


def test_ctrl_c_ends_make_run_and_leaves_no_process(tmp_path):
    port, output = free_port(), tmp_path / "output"
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("NEEV_", "LITELLM_", "MAKE", "MFLAGS"))
    }
    with output.open("wb") as file:
        # In a terminal Ctrl-C reaches the whole foreground process group: make and what it runs.
        make = subprocess.Popen(
            ["make", "run", f"ARGS=--port {port} --state {tmp_path / 'state'} --engine echo"],
            cwd=ROOT, env={**clean, "PYTHONUNBUFFERED": "1"}, stdout=file, stderr=subprocess.STDOUT,
            start_new_session=True)  # fmt: skip
    try:
        # An environment that is older than its lock file is brought up to date first.
        wait_until_ready(make, output, seconds=300)
        below = descendants(make.pid)
        assert len(below) >= 3
        os.killpg(make.pid, signal.SIGINT)
        assert make.wait(30) == -signal.SIGINT  # how a shell knows that its script shall end too
        assert not any(exists(pid) for pid in below)
        assert output.read_text().rstrip().endswith("Stopped.")
    finally:
        if make.poll() is None:
            os.killpg(make.pid, signal.SIGTERM)
            make.wait(30)
