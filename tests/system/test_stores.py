"""The suites of the store and of admission run for longer: on Redis 7 in place of Valkey 9, and over more steps."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.proxy.serving import ROOT
from tests.store.servers import BINARY_VARIABLE

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

REDIS = "/usr/bin/redis-server"


def test_redis_7_does_all_that_valkey_does():
    version = subprocess.run([REDIS, "--version"], capture_output=True, text=True, check=True).stdout
    assert "v=7." in version
    suites = ["tests/store", "tests/admission", "tests/commands"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-n",
            "2",
            "--dist",
            "loadfile",
            "-p",
            "no:cacheprovider",
            *suites,
        ],
        cwd=ROOT,
        env={**os.environ, BINARY_VARIABLE: REDIS},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 200


def test_no_history_of_5_000_steps_differs_from_the_model():
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "tests/admission/test_state_machine.py",
        ],
        cwd=ROOT,
        env={**os.environ, "TEST_STEPS": "5000"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]
