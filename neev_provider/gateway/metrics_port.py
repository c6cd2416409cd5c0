"""HTTP for scrapes: `/metrics`, a hint at `/`, and nothing else; says nothing of what it is made of.

prometheus-client's own server answers every path with the metrics and names Python's version. Started by
`metrics_server.py`.
"""

from __future__ import annotations

import socket
from threading import Thread
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.registry import Collector

__all__ = ["start_metrics_port"]

_NAME: Final = "neev-gateway"
_PATH: Final = "/metrics"
_STOP_SECONDS: Final = (
    0.1  # after which it notices at the latest that it is shut down; half a second by default
)
_HINTS: Final = {"/": ("200 OK", b"The metrics are at /metrics.\n")}
_NOT_FOUND: Final = ("404 Not Found", b"There is nothing here; the metrics are at /metrics.\n")


class _Handler(WSGIRequestHandler):
    @override
    def version_string(self) -> str:  # of errors that no application is asked about
        return _NAME

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: scrapes come every few seconds."""


def start_metrics_port(port: int, host: str, registry: Collector) -> tuple[WSGIServer, Thread]:
    """Serve a registry from threads of their own.

    Args:
        port: to listen on.
        host: a name or an address, of version 4 or 6.
        registry: what is served.

    Returns:
        The server, to be shut down and closed, and the thread that ends with it.

    Raises:
        OSError: the address cannot be listened on.
    """
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = infos[0]

    class _Server(ThreadingWSGIServer):
        address_family = family

    server = make_server(str(address[0]), port, _app(registry), _Server, handler_class=_Handler)
    thread = Thread(target=server.serve_forever, args=(_STOP_SECONDS,), name="metrics port", daemon=True)
    thread.start()
    return server, thread


def _app(registry: Collector) -> Callable[..., Iterable[bytes]]:
    metrics = make_wsgi_app(registry)

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        def named(status: str, headers: list[tuple[str, str]]) -> Any:
            return start(status, [*headers, ("Server", _NAME)])

        path = environ["PATH_INFO"]
        if path == _PATH:
            answer: Iterable[bytes] = metrics(environ, named)
            return answer
        status, text = _HINTS.get(path, _NOT_FOUND)
        named(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [text]

    return app
