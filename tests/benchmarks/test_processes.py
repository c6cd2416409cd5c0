"""Whose CPU and memory it is, and that nothing is left behind."""

from __future__ import annotations

import os
import sys
import time

import pytest

from benchmarks.processes import PinnedProcess, ProcessSample, tree

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the rig needs /proc")

# A parent whose child ignores SIGTERM, lives in a session of its own and burns some CPU before it says so.
FAMILY = """
import subprocess, sys, time
child = '''
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
end = time.process_time() + 0.3
while time.process_time() < end: pass
print("up", flush=True)
time.sleep(60)
'''
subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
time.sleep(60)
"""


@pytest.fixture
def family(tmp_path):
    core = min(os.sched_getaffinity(0))
    command = [sys.executable, "-c", FAMILY]
    log = tmp_path / "log"
    with PinnedProcess(
        "family", command, core=core, environ=os.environ, directory=tmp_path, log=log
    ) as process:
        deadline = time.monotonic() + 30
        while process.tail != "up" and time.monotonic() < deadline:
            time.sleep(0.01)
        yield process


def test_a_process_name_may_look_like_anything() -> None:
    fields = ["S", "7", *["0"] * 9, "100", "50", "20", "10", *["0"] * 4, "4242", "0", "3", "0"]
    sample = ProcessSample.parse(f"42 (a) b (c) {' '.join(fields)}")
    assert (sample.pid, sample.name, sample.parent, sample.started) == (42, "a) b (c", 7, 4242)
    assert sample.cpu_seconds == pytest.approx(180 / os.sysconf("SC_CLK_TCK"))
    assert sample.rss_bytes == 3 * os.sysconf("SC_PAGE_SIZE")


def test_cpu_and_memory_of_descendants_count(family: PinnedProcess) -> None:
    samples = family.sample()
    assert len(samples) == 2
    assert samples[1].parent == samples[0].pid
    assert samples[1].cpu_seconds >= 0.25
    assert all(sample.rss_bytes > 1_000_000 for sample in samples)


def test_the_whole_family_stays_on_its_core(family: PinnedProcess) -> None:
    core = min(os.sched_getaffinity(0))
    assert [os.sched_getaffinity(sample.pid) for sample in family.sample()] == [{core}, {core}]


def test_stopping_ends_descendants_that_ignore_sigterm(family: PinnedProcess) -> None:
    pids = [sample.pid for sample in family.sample()]
    family.stop()
    assert not family.alive
    deadline = time.monotonic() + 5  # its new parent has to bury it
    while any(tree(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [sample for pid in pids for sample in tree(pid) if sample.rss_bytes] == []
