"""Child processes: readiness, failure to start, restart, and nothing left behind."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from neev_provider.errors import ConfigError
from neev_provider.gateway import supervisor as module
from neev_provider.gateway.supervisor import Child, ChildSpec, Supervisor


def spec(tmp_path: Path, code: str, *, name: str = "child", **more) -> ChildSpec:
    """A Python child that is ready once it has made the file `ready`."""
    ready = tmp_path / "ready"
    prelude = f"import os, signal, sys, time, pathlib\nhere = pathlib.Path({str(tmp_path)!r})\n"

    async def is_ready() -> bool:
        return ready.exists()

    return ChildSpec(
        name=name,
        command=[sys.executable, "-c", prelude + code],
        environ=os.environ,
        log=tmp_path / "log" / "child.log",
        ready=is_ready,
        **more,
    )


SERVE = "(here / 'pids').open('a').write(f'{os.getpid()}\\n'); (here / 'ready').touch(); time.sleep(60)"


def pids(tmp_path: Path) -> list[int]:
    return [int(line) for line in (tmp_path / "pids").read_text().split()]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


async def until(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


async def test_leaving_stops_every_child(tmp_path):
    async with Supervisor() as supervisor:
        await supervisor.start(spec(tmp_path, SERVE))
        assert alive(pids(tmp_path)[0])
    assert not alive(pids(tmp_path)[0])


SLOW = """
def note(word):
    with (here.parent / "events").open("a") as file:
        file.write(f"{word} {here.name}\\n")

def end(*_):
    note("told")
    time.sleep(0.5)
    note("ended")
    sys.exit()

signal.signal(signal.SIGTERM, end)
(here / "ready").touch()
time.sleep(60)
"""


async def test_leaving_stops_neighbours_of_one_word_together_and_what_they_use_after_them(tmp_path):
    async with Supervisor() as supervisor:
        for name, word in (
            ("store", "used"),
            ("emulator", "used"),
            ("gateway", "using"),
            ("litellm", "using"),
        ):
            (tmp_path / name).mkdir()
            await supervisor.start(spec(tmp_path / name, SLOW, name=name, stops_with=word))
    events = [line.split() for line in (tmp_path / "events").read_text().splitlines()]
    assert [word for word, _ in events] == ["told", "told", "ended", "ended"] * 2
    assert {name for _, name in events[:4]} == {"gateway", "litellm"}


async def test_leaving_stops_a_late_child_in_the_place_that_was_kept_for_it(tmp_path):
    async with Supervisor() as supervisor:
        for name in ("store", "gateway", "litellm"):
            (tmp_path / name).mkdir()
        await supervisor.start(spec(tmp_path / "store", SLOW, name="store"))
        supervisor.keep_place("litellm")
        await supervisor.start(spec(tmp_path / "gateway", SLOW, name="gateway"))
        supervisor.start_behind(spec(tmp_path / "litellm", SLOW, name="litellm"), lambda *_: None)
        await until(lambda: supervisor.up.get("litellm"))
    events = [line.split() for line in (tmp_path / "events").read_text().splitlines()]
    assert [name for word, name in events if word == "told"] == ["gateway", "litellm", "store"]


async def test_leaving_stops_what_a_child_started_itself(tmp_path):
    code = "import subprocess; p = subprocess.Popen(['sleep', '60']); (here / 'grandchild').write_text(str(p.pid))\n"
    async with Supervisor() as supervisor:
        await supervisor.start(spec(tmp_path, code + SERVE))
    await until(lambda: not alive(int((tmp_path / "grandchild").read_text())))  # a kill takes a moment


async def test_a_child_that_ignores_sigterm_is_killed(tmp_path):
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVE
    async with Supervisor() as supervisor:
        await supervisor.start(spec(tmp_path, deaf, stop_seconds=0.2))
    assert not alive(pids(tmp_path)[0])


async def test_a_child_that_ends_while_starting_is_reported_with_its_last_words(tmp_path):
    async with Supervisor() as supervisor:
        with pytest.raises(
            ConfigError,
            match=r"child: ended with exit code 3 while starting: no such luck\. All of it is in .*child\.log",
        ):
            await supervisor.start(spec(tmp_path, "print('no such luck'); sys.exit(3)"))


async def test_a_child_that_never_gets_ready_is_reported_and_stopped(tmp_path):
    code = "(here / 'pids').write_text(str(os.getpid())); time.sleep(60)"
    async with Supervisor() as supervisor:
        with pytest.raises(ConfigError, match=r"was not ready after 1 s"):
            await supervisor.start(spec(tmp_path, code, ready_seconds=1))
    assert not alive(pids(tmp_path)[0])


async def test_a_child_that_dies_is_started_again(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_BACKOFF_SECONDS", (0.01,))
    async with Supervisor() as supervisor:
        await supervisor.start(spec(tmp_path, SERVE))
        for round_ in (1, 2):
            os.kill(pids(tmp_path)[-1], signal.SIGKILL)
            await until(lambda round_=round_: len(pids(tmp_path)) == round_ + 1)
        assert alive(pids(tmp_path)[-1])
    assert not any(alive(pid) for pid in pids(tmp_path))


@pytest.mark.parametrize("trouble", ["log", "process"])
async def test_a_child_that_cannot_be_started_again_just_now_is_tried_on(tmp_path, monkeypatch, trouble):
    monkeypatch.setattr(module, "_BACKOFF_SECONDS", (0.01,))
    start, refused = Child.start, 0

    async def refuse(*_, **__):
        nonlocal refused
        refused += 1
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    child = spec(tmp_path, SERVE)
    async with Supervisor() as supervisor:
        await supervisor.start(child)
        if trouble == "log":
            shutil.rmtree(child.log.parent)
            child.log.parent.write_text("in the way")
        else:
            monkeypatch.setattr(Child, "start", refuse)
        os.kill(pids(tmp_path)[-1], signal.SIGKILL)
        await until(lambda: supervisor.restarts.get("child", 0) >= 3)
        assert not supervisor.up["child"]
        child.log.parent.unlink() if trouble == "log" else monkeypatch.setattr(Child, "start", start)
        await until(lambda: len(pids(tmp_path)) == 2 and supervisor.up["child"])
    assert not any(alive(pid) for pid in pids(tmp_path))


async def test_a_child_that_ends_while_starting_is_tried_on_though_its_log_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_BACKOFF_SECONDS", (0.01,))
    reports = []
    code = "(here / 'log' / 'child.log').unlink(); sys.exit(3)"
    async with Supervisor() as supervisor:
        supervisor.start_behind(spec(tmp_path, code), lambda failure, _: reports.append(str(failure)))
        await until(lambda: len(reports) >= 2)
    assert "ended with exit code 3 while starting." in reports[1]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
async def test_children_die_with_a_supervisor_that_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import asyncio, sys, pathlib, os\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_supervisor import SERVE, spec\n"
        "from neev_provider.gateway.supervisor import Supervisor\n"
        "async def main():\n"
        "    async with Supervisor() as s:\n"
        f"        await s.start(spec(pathlib.Path({str(tmp_path)!r}), SERVE))\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, str(script))
    await until(lambda: (tmp_path / "pids").exists())
    await until(lambda: (tmp_path / "pids").read_text())
    parent.kill()
    await parent.wait()
    await until(lambda: not alive(pids(tmp_path)[0]))


class TestBehind:
    """A child that nobody waits for."""

    async def test_it_is_reported_when_it_serves(self, tmp_path):
        reports = []
        async with Supervisor() as supervisor:
            supervisor.start_behind(
                spec(tmp_path, SERVE), lambda failure, seconds: reports.append((failure, seconds))
            )
            assert supervisor.up.get("child", False) is False
            await until(lambda: reports)
            assert supervisor.up["child"] is True
        assert reports[0][0] is None
        assert reports[0][1] > 0
        assert not alive(pids(tmp_path)[0])

    async def test_it_is_reported_each_time_that_it_fails_and_tried_again(self, tmp_path, monkeypatch):
        monkeypatch.setattr(module, "_BACKOFF_SECONDS", (0.01,))
        reports = []
        async with Supervisor() as supervisor:
            supervisor.start_behind(
                spec(tmp_path, "print('no such luck'); sys.exit(3)"),
                lambda failure, _: reports.append(str(failure)),
            )
            await until(lambda: len(reports) >= 2)
            assert supervisor.restarts["child"] >= 1
        assert "ended with exit code 3 while starting: no such luck" in reports[1]

    async def test_leaving_does_not_wait_until_it_serves(self, tmp_path):
        code = "(here / 'pids').write_text(str(os.getpid()) + chr(10)); time.sleep(60)"
        async with Supervisor() as supervisor:
            supervisor.start_behind(spec(tmp_path, code), lambda *_: None)
            await until(lambda: (tmp_path / "pids").exists() and pids(tmp_path))
        assert not alive(pids(tmp_path)[0])


async def test_kill_ends_a_child_that_ignores_sigterm_without_waiting(tmp_path):
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVE
    async with asyncio.timeout(30), Supervisor() as supervisor:
        await supervisor.start(spec(tmp_path, deaf, stop_seconds=3600))
        supervisor.kill()
    assert not alive(pids(tmp_path)[0])


async def test_what_an_earlier_start_left_does_not_count_as_ready(tmp_path):
    (tmp_path / "ready").touch()
    code = "time.sleep(0.3)\n" + SERVE
    async with Supervisor() as supervisor:
        await supervisor.start(spec(tmp_path, code, ready_file=tmp_path / "ready"))
        assert alive(pids(tmp_path)[0])
