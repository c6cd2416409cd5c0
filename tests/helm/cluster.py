"""What Helm's `lookup` reads of a cluster: discovery and single objects, over HTTP, in memory.

There is no API server to be had as a package. Here Helm only reads: that what it would write is right is checked
against the Kubernetes schemas.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

_SECRETS = {
    "name": "secrets",
    "singularName": "secret",
    "namespaced": True,
    "kind": "Secret",
    "verbs": ["get", "list"],
}
_DISCOVERY = {
    "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [_SECRETS]},
}
_SECRET = re.compile(r"/api/v1/namespaces/([^/]+)/secrets/([^/?]+)")
_MISSING = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}


class Cluster:
    """What it holds: (namespace, name) to Secret."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self.secrets: dict[tuple[str, str], dict[str, Any]] = {}

    def keep(self, objects: list[dict[str, Any]]) -> None:
        """Have the Secrets among some objects, as after an install."""
        for item in objects:
            if item["kind"] == "Secret":
                self.secrets[item["metadata"]["namespace"], item["metadata"]["name"]] = item

    def get(self, path: str) -> dict[str, Any] | None:
        if match := _SECRET.fullmatch(path):
            return self.secrets.get((match[1], match[2]))
        return _DISCOVERY.get(path)


class _Handler(BaseHTTPRequestHandler):
    cluster: Cluster
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        found = self.cluster.get(self.path.partition("?")[0])
        data = json.dumps(_MISSING if found is None else found).encode()
        self.send_response(404 if found is None else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def running_cluster(directory: Path) -> Iterator[Cluster]:
    cluster = Cluster(directory / "kubeconfig")
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"cluster": cluster}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{server.server_address[1]}"}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "users": [{"name": "test", "user": {}}],
    }
    cluster.kubeconfig.write_text(yaml.safe_dump(config))
    try:
        yield cluster
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
