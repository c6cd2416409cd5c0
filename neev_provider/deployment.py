"""Where a call goes, with whose key, and how long it may take.

Responsible for checking these settings before the first call, and for preparing once what every call needs. Not
responsible for choosing among deployments (`routing.py`) nor for calling them (`upstream.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from multidict import CIMultiDict
from typing_extensions import override
from yarl import URL

from neev_provider import __version__
from neev_provider.errors import ConfigError
from neev_provider.wire import Origin

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RESERVED_HEADERS", "Deployment", "Endpoint", "Timeouts", "normalise_base_url", "timeouts_of"]

_USER_AGENT: Final = f"neev-provider/{__version__}"
_VERSION_SEGMENT: Final = re.compile(r"/v\d+[a-z0-9]*$")
_ENDPOINTS: Final = ("/chat/completions", "/audio/speech", "/models")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
_KEY: Final = re.compile(r"[\x21-\x7e]+")
# Ours to set, or the connection's: a deployment's own headers may not change them.
RESERVED_HEADERS: Final = frozenset(
    {
        "accept-encoding",
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


def normalise_base_url(url: str, *, source: str = "base URL", place: str = "") -> str:
    """Return an OpenAI base URL in its one form: no slash at the end, and a version (`/v1`) as its last part.

    Args:
        url: as a person wrote it, with or without `/v1` and trailing slashes.
        source: where it was read from, for the error.
        place: where in there, for the error.

    Raises:
        ConfigError: not http or https, no host, or more in it than scheme, host, port and path. Never quotes the
            URL, which may hold a password.
    """

    def wrong(problem: str, remedy: str = "Give it as https://host/v1.") -> ConfigError:
        return ConfigError(source, place, problem, remedy)

    url = url.strip()
    if not url.isascii() or any(character <= " " for character in url):
        raise wrong("holds blanks or characters that a URL cannot have")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise wrong("is not a URL") from None
    if parts.scheme not in {"http", "https"}:
        raise wrong("is not an http:// or https:// URL")
    if "@" in parts.netloc:
        raise wrong("holds a user name or password", "Put the key into the API key setting.")
    if not parts.hostname:
        raise wrong("names no host")
    if "?" in url or "#" in url:
        raise wrong("holds a query or fragment")
    path = parts.path.rstrip("/")
    if path.endswith(_ENDPOINTS):
        raise wrong("is the URL of one endpoint", "Give the part before it, as https://host/v1.")
    if not _VERSION_SEGMENT.search(path):
        path += "/v1"
    return f"{parts.scheme}://{parts.netloc.lower()}{path}"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a call may take, in seconds.

    Attributes:
        connect: until a connection is made, TLS included.
        idle: until upstream's status is there, counted from the start of an attempt, and from one read of its body to
            the next.
        total: the whole call, with all its retries and the last byte of its body.
    """

    connect: float = 5.0
    idle: float = 120.0
    total: float = 600.0

    def __post_init__(self) -> None:
        """Raise ValueError unless all are positive numbers."""
        for name in ("connect", "idle", "total"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be more than 0 seconds")


def timeouts_of(seconds: float | None, *, streamed: bool) -> Timeouts:
    """Return LiteLLM's one figure for an attempt in our terms.

    For a stream it bounds each wait, as in OpenAI's client, not the whole: a long answer is no fault. An answer that
    comes in one piece may take all of it before its first byte.

    Args:
        seconds: more than 0, or None for our own defaults.
        streamed: whether the answer is a stream.
    """
    ours = Timeouts()
    if seconds is None:
        return ours
    connect = min(seconds, ours.connect)
    if streamed:
        return Timeouts(connect=connect, idle=min(seconds, ours.idle), total=max(seconds, ours.total))
    return Timeouts(connect=connect, idle=seconds, total=seconds)


class Endpoint(NamedTuple):
    """Where a request goes.

    Attributes:
        origin: whom to connect to.
        head: request line and headers, but for the body's length and the blank line; holds the key.
    """

    origin: Origin
    head: bytes

    @override
    def __repr__(self) -> str:
        return f"Endpoint({self.origin})"


@dataclass(frozen=True, slots=True)
class Deployment:
    """One place that serves models, and our account there.

    Attributes:
        name: what logs and metrics call it.
        base_url: OpenAI base URL; kept in the form of `normalise_base_url`.
        api_key: sent to that URL's host and nowhere else; never shown.
        headers: sent with every call beside our own; never shown, for they may hold secrets.

    Raises:
        ConfigError: one of them cannot be used. Names the deployment, never the value.
    """

    name: str
    base_url: str
    api_key: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    chat: Endpoint = field(init=False, repr=False, compare=False)
    speech: Endpoint = field(init=False, repr=False, compare=False)
    models: Endpoint = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        source = f"deployment {self.name}"
        if not _KEY.fullmatch(self.api_key):
            problem = "holds a character that no key has" if self.api_key else "is empty"
            raise ConfigError(
                source, "api_key", problem, "Copy the key again, on one line and without blanks."
            )
        base_url = normalise_base_url(self.base_url, source=source, place="base_url")
        headers = self._request_headers(source)
        values = {
            "base_url": base_url,
            "chat": _endpoint("POST", base_url + "/chat/completions", headers),
            "speech": _endpoint("POST", base_url + "/audio/speech", headers),
            "models": _endpoint("GET", base_url + "/models", headers),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _request_headers(self, source: str) -> CIMultiDict[str]:
        headers = CIMultiDict(
            {
                "authorization": f"Bearer {self.api_key}",
                "user-agent": _USER_AGENT,
                "accept": "*/*",
                # Uncompressed: chunks must not wait in upstream's compressor, and answers are small.
                "accept-encoding": "identity",
                "content-type": "application/json",
            }
        )
        for name, value in self.headers.items():
            place = f"headers.{name}"
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
                raise ConfigError(
                    source, "headers", "hold a name or value that HTTP cannot carry", "Correct it."
                )
            if name.lower() in RESERVED_HEADERS:
                raise ConfigError(source, place, "cannot be set here", "Remove it; the gateway sets it.")
            headers[name] = value
        return headers


def _endpoint(method: str, address: str, headers: Mapping[str, str]) -> Endpoint:
    url = URL(address, encoded=True)
    lines = [f"{method} {url.raw_path} HTTP/1.1", f"host: {url.host_port_subcomponent}"]
    lines += [
        f"{name}: {value}"
        for name, value in headers.items()
        if method == "POST" or name.lower() != "content-type"
    ]
    return Endpoint(Origin.of(url), "".join(line + "\r\n" for line in lines).encode("ascii"))
