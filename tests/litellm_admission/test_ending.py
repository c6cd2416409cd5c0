"""The LiteLLM process ends as soon as it has nothing more to write."""

from __future__ import annotations

import subprocess
import sys

from tests.proxy.serving import ROOT

ENDING = """
import atexit, gc
atexit.register(lambda: print("frozen:", gc.get_freeze_count()))  # runs after what is registered later
from neev_provider import litellm_server
litellm_server.run_server = lambda: 0
litellm_server.main()
"""


def test_it_does_not_look_for_circles_in_everything_that_it_has_imported():
    done = subprocess.run(
        [sys.executable, "-c", ENDING], cwd=ROOT, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.rpartition("frozen: ")[2]) > 100_000
