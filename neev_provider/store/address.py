"""Reads a store's URL: where its servers are and how to log in. Opens no connection. Called by `client.py`.

    redis://[user:password@]host[:port][/db]           valkey:// is the same
    rediss://...?ssl_ca_certs=ca.pem                   TLS
    unix://[user:password@]/path/to.sock[?db=1]
    redis+sentinel://[user:password@]host[:port],host2[:port]/service[/db]
    redis+cluster://[user:password@]host[:port],host2[:port]

`rediss+sentinel` and `rediss+cluster` are the same over TLS.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from neev_provider.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Address", "Endpoint", "Kind", "parse_address"]

Kind = Literal["single", "sentinel", "cluster"]

_SOURCE: Final = "store"
_FORMS: Final = (
    "Use redis://host:6379, rediss://host (TLS), unix:///path.sock, redis+sentinel://host:26379,host2/service "
    "or redis+cluster://host:6379,host2."
)
_PORTS: Final[Mapping[Kind, int]] = {"single": 6379, "sentinel": 26379, "cluster": 6379}
_TLS_OPTIONS: Final = frozenset(
    {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"}
)
_OPTIONS: Final = _TLS_OPTIONS | {"db", "sentinel_username", "sentinel_password"}
_SCHEMES: Final = frozenset({"redis", "rediss", "unix"})
_KINDS: Final[Mapping[str, Kind]] = {"": "single", "sentinel": "sentinel", "cluster": "cluster"}
_MAX_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server: a TCP address or a Unix socket.

    Attributes:
        host: name or address; the socket's path if `port` is 0.
        port: TCP port; 0 for a Unix socket.
    """

    host: str
    port: int

    def __str__(self) -> str:
        if self.port == 0:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a store is; shows no password.

    Attributes:
        kind: one server, servers found by Sentinels, or a cluster.
        endpoints: the server, the Sentinels, or some of the cluster's nodes.
        username: of the store's user; "" for the default user.
        password: of that user; "" for none.
        db: number of the database.
        service: the Sentinels' name of the primary.
        sentinel_username: the Sentinels' own user.
        sentinel_password: of that user.
        tls: how to check the server; None without TLS.
    """

    kind: Kind
    endpoints: tuple[Endpoint, ...]
    username: str = ""
    password: str = field(default="", repr=False)
    db: int = 0
    service: str = ""
    sentinel_username: str = ""
    sentinel_password: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return ",".join(map(str, self.endpoints))


def parse_address(url: str, *, source: str = _SOURCE) -> Address:
    """Read a store's URL.

    Args:
        url: in one of the forms above.
        source: file or variable that it stands in, for the error.

    Raises:
        ConfigError: it cannot be read; never quotes it, for it may hold a password.
    """
    try:
        return _parse(url)
    except _UnreadableError as error:
        raise ConfigError(source, "", error.problem, error.remedy) from None


class _UnreadableError(ValueError):
    """What is wrong with a URL, and what to do about it; without the URL."""

    def __init__(self, problem: str, remedy: str = _FORMS) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


def _parse(url: str) -> Address:
    try:
        parts = urlsplit(url.strip())
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise _UnreadableError("the store's URL cannot be read") from None
    if "://" not in url:
        raise _UnreadableError("is not the URL of a store")
    scheme, _, variant = parts.scheme.replace("valkey", "redis").partition("+")
    if scheme not in _SCHEMES or variant not in _KINDS or (scheme == "unix" and variant):
        raise _UnreadableError(f"'{parts.scheme[:20]}' is not a scheme of a store's URL")
    kind = _KINDS[variant]
    for unknown in sorted(options.keys() - _OPTIONS):
        known = f"Known: {', '.join(sorted(_OPTIONS))}."
        raise _UnreadableError(f"the store's URL has the unknown option '{unknown[:40]}'", known)
    login, _, hosts = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    path = [unquote(part) for part in parts.path.split("/") if part]
    if scheme == "unix":
        endpoints = _socket(parts.path, hosts)
        path = []
    else:
        endpoints = _endpoints(hosts, kind)
    service = ""
    if kind == "sentinel":
        if not path:
            raise _UnreadableError(
                "the Sentinels' URL does not name the service", "Use redis+sentinel://host:26379/mymaster."
            )
        service = path.pop(0)
    return Address(
        kind,
        endpoints,
        unquote(username),
        unquote(password),
        _db(path, options, kind),
        service,
        options.get("sentinel_username", ""),
        options.get("sentinel_password", ""),
        _tls_of(scheme, options),
    )


def _socket(path: str, hosts: str) -> tuple[Endpoint, ...]:
    if not path.startswith("/") or hosts:
        raise _UnreadableError("the store's socket must be an absolute path", "Use unix:///path/to.sock.")
    return (Endpoint(unquote(path), 0),)


def _endpoints(hosts: str, kind: Kind) -> tuple[Endpoint, ...]:
    endpoints = tuple(_endpoint(host, _PORTS[kind]) for host in hosts.split(","))
    if kind == "single" and len(endpoints) > 1:
        raise _UnreadableError(
            "the store's URL names several servers", "Use redis+cluster:// or redis+sentinel://."
        )
    return endpoints


def _db(path: list[str], options: Mapping[str, str], kind: Kind) -> int:
    text = path.pop(0) if path else options.get("db", "0")
    if path or not (text.isascii() and text.isdigit()):
        raise _UnreadableError("the store's URL does not end with the number of a database")
    if kind == "cluster" and int(text):
        raise _UnreadableError("a cluster has the database 0 only", "Leave the number away.")
    return int(text)


def _tls_of(scheme: str, options: Mapping[str, str]) -> ssl.SSLContext | None:
    if scheme != "rediss":
        if options.keys() & _TLS_OPTIONS:
            raise _UnreadableError("the store's URL has TLS options without TLS", "Use rediss://.")
        return None
    try:
        return _tls(options)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _UnreadableError(
            f"the store's certificates cannot be read ({reason})", "Name PEM files by ssl_ca_certs=..."
        ) from None


def _endpoint(text: str, default_port: int) -> Endpoint:
    """Read `host`, `host:port`, `[::1]` or `[::1]:port`; an absent host is this machine.

    Raises:
        _UnreadableError: it is none of these.
    """
    host, port = text, ""
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise _UnreadableError("the store's URL has an address that cannot be read")
        port = rest[1:]
    elif ":" in text:
        host, _, port = text.rpartition(":")
        if ":" in host:
            raise _UnreadableError("the store's URL has an address that needs brackets")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) <= _MAX_PORT):
        raise _UnreadableError("the store's URL has a port that is not one")
    return Endpoint(unquote(host) or "127.0.0.1", int(port or default_port))


def _tls(options: Mapping[str, str]) -> ssl.SSLContext:
    """Return how the server is checked.

    Raises:
        OSError: a file cannot be read.
        ValueError: an option has a value that it cannot have.
    """
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs") or None)
    required = options.get("ssl_cert_reqs", "required")
    check = options.get("ssl_check_hostname", "true").lower()
    if required not in {"required", "none"} or check not in {"true", "false"}:
        raise ValueError("ssl_cert_reqs is required or none, ssl_check_hostname true or false")
    if required == "none" or check == "false":
        context.check_hostname = False
    if required == "none":
        context.verify_mode = ssl.CERT_NONE
    if options.get("ssl_certfile"):
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile") or None)
    return context
