"""A worker that cannot serve says so in one line."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import msgspec

from neev_provider.gateway.options import WorkerOptions
from tests.gateway.litellm_stub import KEY, ROOT


def test_an_address_that_somebody_took_meanwhile_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = WorkerOptions(
            number=0,
            config=str(ROOT / "proxy_config.yaml"),
            host="127.0.0.1",
            port=taken.getsockname()[1],
            ready_file=str(tmp_path / "ready"),
        )
        done = subprocess.run(
            [sys.executable, "-m", "neev_provider.gateway.worker", msgspec.json.encode(options).decode()],
            env={**os.environ, "LITELLM_MASTER_KEY": KEY, "NEEV_API_KEY": "sk-nc-x"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    address = f"127.0.0.1:{options.port}"
    assert done.returncode == 2
    assert done.stderr == (
        f"error: --port: {address}: cannot be listened on (Address already in use). Choose another with --port.\n"
    )
