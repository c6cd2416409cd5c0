"""What the way to upstream did wrong, as the one error a client may see.

    before upstream's status   unreachable: `upstream_unavailable`, 503; too slow: `upstream_timeout`, 504
    after it                   a broken body: `upstream_bad_response`, 502; too slow: `upstream_timeout`, 504

Responsible for the connections' exceptions (`wire/`); upstream's own error answers are `errors.from_upstream`'s.
The messages are constant: nothing of a URL, an address or a library's text is in them. Called by `upstream.py` and
`upstream_body.py`.
"""

from __future__ import annotations

from typing import Final

from neev_provider import wire
from neev_provider.errors import UpstreamError
from neev_provider.retry import ConnectError

__all__ = ["TRANSPORT_FAULTS", "bad_response", "before_status", "broken_off", "in_body", "timed_out"]

# Everything that a call or a read can raise; TimeoutError is an OSError.
TRANSPORT_FAULTS: Final = (wire.WireError, OSError)

_NO_CONNECTION: Final = "The model provider cannot be reached."

# The first that fits. What is not a ConnectError is not tried again: it would fail again, or has cost too much.
_BEFORE_STATUS: Final[tuple[tuple[type[Exception], type[UpstreamError], str, str], ...]] = (
    (
        wire.ConnectTimeoutError,
        ConnectError,
        "upstream_timeout",
        "The model provider did not accept a connection in time.",
    ),
    (
        wire.UnresolvedError,
        ConnectError,
        "upstream_unavailable",
        "The model provider's host name cannot be resolved.",
    ),
    (
        wire.CertificateError,
        UpstreamError,
        "upstream_unavailable",
        "The model provider's certificate is not valid.",
    ),
    (
        wire.TLSError,
        ConnectError,
        "upstream_unavailable",
        "A secure connection to the model provider cannot be made.",
    ),
    (wire.NoConnectionError, ConnectError, "upstream_unavailable", _NO_CONNECTION),
    (
        wire.ProtocolError,
        UpstreamError,
        "upstream_bad_response",
        "The model provider's answer is not valid HTTP.",
    ),
    (
        wire.DisconnectedError,
        ConnectError,
        "upstream_unavailable",
        "The model provider closed the connection before it answered.",
    ),
    (Exception, UpstreamError, "upstream_unavailable", _NO_CONNECTION),
)


def before_status(fault: Exception) -> UpstreamError:
    """Return the error for a call that got no status."""
    for kind, error, code, message in _BEFORE_STATUS:
        if isinstance(fault, kind):
            return error(code, message)
    raise AssertionError  # the last row takes everything


def in_body(fault: BaseException) -> UpstreamError:
    """Return the error for a read of a body that failed."""
    return (
        timed_out("The model provider stopped sending.") if isinstance(fault, TimeoutError) else broken_off()
    )


def broken_off() -> UpstreamError:
    """Return the error for an answer that broke off after its status."""
    return bad_response("The model provider's answer broke off before its end.")


def timed_out(message: str) -> UpstreamError:
    """Return the error for an answer that came too late."""
    return UpstreamError("upstream_timeout", message)


def bad_response(message: str, *, status: int | None = None) -> UpstreamError:
    """Return the error for an answer that cannot be used."""
    return UpstreamError("upstream_bad_response", message, upstream_status=status)
