"""Waits for a `serve` that a test started in its own way."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from tests.proxy.serving import READY


def wait_until_ready(process: subprocess.Popen, output: Path, seconds: float = 100) -> None:
    deadline = time.monotonic() + seconds
    while READY not in (text := output.read_text()):
        assert process.poll() is None, f"ended with exit code {process.returncode}:\n{text}"
        assert time.monotonic() < deadline, f"not ready after {seconds} s:\n{text}"
        time.sleep(0.1)
