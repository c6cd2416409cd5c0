"""`serve --store redis://...`: a check mark stands for a store that answered, and for nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.proxy.serving import ROOT, free_port, serving
from tests.store.servers import server

WORDS = ("--no-litellm", "--engine", "echo")


def line(output: str) -> str:
    (found,) = [line for line in output.splitlines() if line[2:].startswith("store ")]
    return found


def test_one_that_answers_has_its_mark(tmp_path):
    running = server(tmp_path / "valkey")
    try:
        with serving(tmp_path / "serve", *WORDS, "--store", running.url) as served:
            assert line(served.output).startswith("✓ store")
    finally:
        running.stop()


def test_one_that_is_away_has_none_and_the_gateway_serves_all_the_same(tmp_path):
    with serving(tmp_path, *WORDS, "--store", f"redis://127.0.0.1:{free_port()}") as served:
        assert line(served.output) == "… store       redis: does not answer; it is tried again"


@pytest.mark.parametrize("url", ["redis://127.0.0.1:notaport", "redis://127.0.0.1:99999"])
def test_one_whose_url_cannot_be_read_is_not_shown_at_all(tmp_path, url):
    command = [sys.executable, "-m", "neev_provider", "serve", *WORDS, "--state", tmp_path, "--store", url]
    ports = ["--port", str(free_port()), "--metrics-port", "0"]
    done = subprocess.run([*command, *ports], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --store: ")
