"""The processes' metrics, scraped as Prometheus would."""

from __future__ import annotations

import os
import signal
import time
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from tests.gateway.test_aborted_streams import worker_of
from tests.proxy.serving import free_port, serving


def scrape(port: int) -> dict[tuple[str, str], float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
        families = text_string_to_metric_families(response.read().decode())
        return {
            (sample.name, sample.labels.get("process", "")): sample.value
            for family in families
            for sample in family.samples
        }


def test_a_worker_that_dies_is_seen_started_again_and_counted(tmp_path):
    port = free_port()
    with serving(tmp_path, "--no-litellm", "--engine", "echo", "--metrics-port", str(port)) as running:
        before = scrape(port)
        assert before[("neev_process_up", "gateway-0")] == 1
        assert before[("neev_process_up", "emulator")] == 1
        assert before[("neev_process_restarts_total", "gateway-0")] == 0
        assert before[("neev_build_info", "")] == 1
        os.kill(worker_of(running), signal.SIGKILL)
        deadline = time.monotonic() + 20
        while True:
            now = scrape(port)
            if (
                now[("neev_process_up", "gateway-0")] == 1
                and now[("neev_process_restarts_total", "gateway-0")] == 1
            ):
                break
            assert time.monotonic() < deadline, now
            time.sleep(0.05)
        with urllib.request.urlopen(running.root_url + "/readyz", timeout=5) as response:
            assert response.status == 200


def test_a_port_that_is_taken_is_named(tmp_path):
    import subprocess
    import sys

    from tests.proxy.serving import ROOT

    port = free_port()
    with serving(tmp_path / "one", "--no-litellm", "--engine", "echo", "--metrics-port", str(port)):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "neev_provider", "serve", "--no-litellm", "--port", str(free_port())),
                *("--metrics-port", str(port), "--state", str(tmp_path / "two")),
            ],
            cwd=ROOT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert done.returncode == 2
    assert f"--metrics-port: 127.0.0.1:{port}: cannot be listened on" in done.stderr
