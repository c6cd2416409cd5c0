"""The other gateways, as data: how each is started on the rig, and what it does not do that ours must.

Besides the words of `contestants.py` there is `{repository}`. They are installed by `make bench-peers`: nginx from
Debian, rolter and ferrogw from wheels, Portkey's from npm. Those that bind every interface are why that target runs
the rig in a network namespace of its own.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Final

from benchmarks.contestants import CONTESTANTS, Contestant
from benchmarks.workload import MODEL

__all__ = ["PEERS"]

_PROGRAMS: Final = "{repository}/.venv-bench/bin"
_PORTKEY: Final = "{repository}/benchmarks/portkey/node_modules/@portkey-ai/gateway"
_NO_ACCOUNTS: Final = "no key, limit, budget or cost of a call is looked at"

_NGINX: Final = """
daemon off; worker_processes 1; pid {dir}/pid; error_log {dir}/error.log;
events { worker_connections 1024; }
http {
  access_log off; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s; client_max_body_size 20m; client_body_buffer_size 256k;
  upstream up { server {upstream_host}; keepalive 256; }
  server {
    listen 127.0.0.1:{port}; keepalive_requests 1000000000;
    location / {
      proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }
  }
}
"""
_ROLTER: Final = """
[server]
host = "127.0.0.1"
port = {port}
[[providers]]
name = "bench"
kind = "openai_compatible"
api_base = "{upstream}"
[[routes]]
model = "MODEL"
strategy = "round_robin"
[[routes.targets]]
provider = "bench"
model = "MODEL"
[[virtual_keys]]
key = "{key}"
name = "bench"
models = []
"""
_OURS: Final = {contestant.name: contestant for contestant in CONTESTANTS}

PEERS: Final = (
    replace(
        _OURS["gateway"],
        what="neev-gateway: key, team, every limit, budgets, metrics; one worker",
    ),
    replace(
        _OURS["gateway"],
        name="gateway-many-keys",
        what="the same, its requests taking turns with many keys",
        many_keys=True,
    ),
    Contestant(
        name="nginx",
        what="nginx as a plain proxy: the physical limit",
        without="everything: it copies bytes",
        command=("nginx", "-c", "{dir}/nginx.conf", "-p", "{dir}", "-e", "{dir}/error.log"),
        files={"nginx.conf": lambda: _NGINX},
        version=("nginx", "-v"),
    ),
    Contestant(
        name="rolter",
        what="rolter, a Rust AI gateway: data plane with one static virtual key",
        without="limits and budgets: they need its control plane, PostgreSQL and Redis",
        command=(f"{_PROGRAMS}/rolter", "gateway", "--config", "{dir}/rolter.toml"),
        environ={"RUST_LOG": "error", "TOKIO_WORKER_THREADS": "1", "ROLTER_KEY_PEPPER": "bench"},
        files={"rolter.toml": lambda: _ROLTER.replace("MODEL", MODEL)},
        version=(f"{_PROGRAMS}/rolter", "--version"),
    ),
    Contestant(
        name="ferrogw",
        what="ferrogw, a Go AI gateway",
        without=f"{_NO_ACCOUNTS}; its own limiter is set out of reach",
        command=(f"{_PROGRAMS}/ferrogw", "serve"),
        environ={
            "PORT": "{port}",
            "OPENAI_API_KEY": "sk-bench",
            "OPENAI_BASE_URL": "{upstream}",
            "ALLOW_UNAUTHENTICATED_PROXY": "true",
            "RATE_LIMIT_RPS": "1000000",
            "RATE_LIMIT_BURST": "1000000",
            "GATEWAY_CONFIG": "{dir}/config.json",
            "MASTER_KEY": "{key}",
            "GOMAXPROCS": "1",
            "LOG_LEVEL": "error",
        },
        files={
            "config.json": lambda: json.dumps(
                {"strategy": {"mode": "fallback"}, "targets": [{"virtual_key": "openai"}]}
            )
        },
        model="gpt-4o-mini",  # it serves the names that it knows
        version=(f"{_PROGRAMS}/ferrogw", "version"),
        ready_seconds=30.0,
    ),
    Contestant(
        name="portkey",
        # Newer servers that its range allows make Response objects whose headers it cannot change: its streams fail.
        what="Portkey's AI gateway (Node), open-source part, on the oldest @hono/node-server that it takes",
        without=f"{_NO_ACCOUNTS}: keys and budgets are in its paid part",
        command=(
            f"{_PROGRAMS}/node",
            f"{_PORTKEY}/build/start-server.js",
            "--port={port}",
            "--headless",
        ),
        environ={"NODE_ENV": "production"},
        version=(f"{_PROGRAMS}/node", "-p", f"require('{_PORTKEY}/package.json').version"),
        ready_seconds=30.0,
        headers={
            "authorization": "Bearer {key}",
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": "{upstream}/v1",
        },
    ),
    replace(
        _OURS["litellm-openai"],
        without="limits and budgets of keys: they need PostgreSQL; the master key alone is checked",
    ),
    replace(
        _OURS["litellm"],
        without="limits and budgets of keys: they need PostgreSQL; the master key alone is checked",
    ),
)
