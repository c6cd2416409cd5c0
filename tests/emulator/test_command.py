"""`neev-gateway emulator` as a process: its ready line, its end, its one-line errors, its help."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from neev_provider.emulator.command import emulator, help_text
from neev_provider.emulator.faults import FAULTS, SHAPES
from neev_provider.emulator.steering import ECHO_KEYS
from neev_provider.errors import ConfigError

COMMAND = [sys.executable, "-m", "neev_provider", "emulator"]
READY = re.compile(r"emulator ready on (http://127\.0\.0\.1:\d+) engine=echo\n")


@contextmanager
def started(*options):
    """Start the command; yields the process and its address."""
    process = subprocess.Popen(
        [*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        match = READY.fullmatch(line)
        assert match, line + process.stderr.read()
        yield process, match[1]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_any_free_port_one_ready_line_and_a_quick_clean_end_even_with_open_streams(number):
    with started("--port", "0") as (process, url):
        request = Request(
            url + "/v1/chat/completions",
            b'{"model": "kimi-k3", "stream": true, "messages": [{"role": "user", "content": "a"}]}',
            {
                "authorization": "Bearer sk-nc-x",
                "x-neev-echo": "tokens=1000,rate=1",
                "content-type": "application/json",
            },
        )
        with urlopen(request) as response:
            assert response.readline().startswith(b"data: ")
            asked = time.monotonic()
            process.send_signal(number)
            assert process.wait(10) == 0
            assert time.monotonic() - asked < 2
        assert process.stdout.read() == ""
        assert process.stderr.read() == ""


def test_options_reach_the_emulator():
    with started("--port", "0", "--host", "localhost", "--quirks", "live", "--fault", "status=418") as (
        _,
        url,
    ):
        with urlopen(url + "/_emulator") as response:
            about = response.read()
        assert b'"quirks":"live"' in about
        assert b'"fault":"status=418"' in about


def test_a_port_in_use_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [*COMMAND, "--port", port], capture_output=True, text=True, timeout=30, check=False
        )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"error: emulator: 127.0.0.1:{port}: is in use. Choose another --port (0 is any free one) or --host.\n"
    )


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"engine": "gpt"}, "unknown engine 'gpt'; known are echo, local"),
        ({"quirks": "dead"}, "unknown quirks 'dead'; known are live, none"),
        ({"fault": "statsu=1"}, "unknown fault 'statsu'; did you mean 'status'?"),
        ({"catalog": Path("nowhere.yaml")}, "nowhere.yaml: cannot be read"),
        ({"host": "256.1.1.1"}, "256.1.1.1:0"),
    ],
)
def test_wrong_options_are_one_line(options, problem):
    with pytest.raises(ConfigError) as raised:
        emulator(port=0, **options)
    assert problem in str(raised.value)
    assert "\n" not in str(raised.value)


def test_help_lists_every_fault_shape_and_steering_key():
    text = help_text()
    for kind in FAULTS:
        assert f"- `{kind.usage}`: {kind.help}" in text
    for name in SHAPES:
        assert f"- `{name}`: " in text
    for key in ECHO_KEYS:
        assert f"- `{key.usage}`: {key.help}" in text


def test_help_is_printed_with_every_fault():
    shown = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True).stdout
    for kind in FAULTS:
        assert f"{kind.usage}: " in shown, kind
