"""The rig as a whole, with the mock upstream itself as contestant; its own process, because it adopts and kills."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.contestants import CONTESTANTS, filled
from benchmarks.processes import tree

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the rig needs /proc")

REPOSITORY = Path(__file__).parents[2]
RIG = """
import msgspec, sys
from benchmarks.contestants import Contestant
from benchmarks.results import Settings
from benchmarks.rig import Rig

seconds = float(sys.argv[1])
path = {"PYTHONPATH": sys.argv[2]}
mock = ("{python}", "-m", "benchmarks.upstream", "--port", "{port}", "--rate", "1000")
contestants = [
    Contestant(name="good", what="", command=mock, environ=path),
    Contestant(name="broken", what="", command=("{python}", "-c", "raise SystemExit('no such option')")),
    Contestant(name="missing", what="", command=("/nonexistent/program",)),
]
if len(sys.argv) > 3:
    contestants.append(Contestant(name="deserter", what="", command=("{python}", "-c", sys.argv[3])))
settings = Settings(seconds=seconds, rounds=1, connections=2, streams=2, chunks=5, chunks_per_second=1000)
report = Rig(settings, lambda line: print(line, file=sys.stderr, flush=True)).run(contestants)
print(msgspec.json.encode(report).decode())
"""


# Starts a child in a session of its own and ends, so that nobody knows the child any more; and tells its id.
DESERTER = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print("left", child.pid, flush=True)
"""


def rig(directory: Path, seconds: float, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RIG, str(seconds), str(REPOSITORY), *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_good_are_measured_and_the_broken_are_reported(tmp_path: Path) -> None:
    with rig(tmp_path, 0.2, DESERTER) as process:
        output, progress = process.communicate(timeout=60)
    assert process.returncode == 0, progress
    assert list(tmp_path.iterdir()) == []
    report = json.loads(output)
    good, broken, missing, deserter = report["contestants"]
    assert len(report["floor"]["rounds"]) == len(good["rounds"]) == 1
    measured = good["rounds"][0]
    assert measured["single"]["answered"] > 0
    assert measured["parallel"]["errors"] == measured["streamed"]["errors"] == {}
    assert measured["streamed"]["answered"] == 2
    assert measured["parallel_cpu"] > 0
    assert measured["memory_bytes"] > 1_000_000
    assert 0 < good["ready_seconds"] < 30
    assert "no such option" in broken["failure"]
    assert _gone(int(deserter["failure"].split("left ")[1]))
    assert missing["failure"].startswith("did not start")


@pytest.mark.parametrize(
    ("number", "arguments"),
    # Whom nobody knows any more is beyond reach when the rig itself is killed.
    [(signal.SIGINT, (DESERTER,)), (signal.SIGKILL, ())],
    ids=["ctrl-c", "kill -9"],
)
def test_nothing_outlives_an_interrupted_run(
    tmp_path: Path, number: signal.Signals, arguments: tuple[str, ...]
) -> None:
    with rig(tmp_path, 30, *arguments) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("round"):
                break
        family = [sample for sample in tree(process.pid) if sample.pid != process.pid]
        assert len(family) >= 2
        process.send_signal(number)
        process.communicate(timeout=30)
    assert process.returncode != 0
    for sample in family:
        assert _gone(sample.pid), sample


def _gone(pid: int) -> bool:
    """Whether the process has ended, or does within a few seconds."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 5)[0])
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda contestant: contestant.name)
def test_every_word_of_a_contestant_is_known(contestant) -> None:
    known = ("python", "bin", "dir", "port", "metrics_port", "upstream", "key", "store", "virtual_key")
    texts = [*contestant.command, *contestant.environ.values(), *contestant.headers.values()]
    assert [text for text in texts if "{" in filled(text, dict.fromkeys(known, "x"))] == []
    assert "127.0.0.1" in contestant.command
    for make in contestant.files.values():
        assert make()
