"""What can be wrong with a connection. Raised by this package, put into a client's words by `upstream_faults.py`."""

from __future__ import annotations

__all__ = [
    "CertificateError",
    "ConnectTimeoutError",
    "DisconnectedError",
    "NoConnectionError",
    "ProtocolError",
    "TLSError",
    "UnresolvedError",
    "WireError",
]


class WireError(Exception):
    """The connection, not the answer, is at fault.

    NoConnectionError       nothing was sent
      ConnectTimeoutError   in no time
      UnresolvedError       the host's name has no address
      TLSError              no secure connection
        CertificateError    the host's certificate is not valid
    DisconnectedError       the connection broke while an answer was expected
    ProtocolError           the answer is not HTTP/1.1
    """


class NoConnectionError(WireError):
    """There is no connection."""


class ConnectTimeoutError(NoConnectionError):
    """There was no connection in time."""


class UnresolvedError(NoConnectionError):
    """The host's name has no address."""


class TLSError(NoConnectionError):
    """There is no secure connection."""


class CertificateError(TLSError):
    """The host's certificate is not valid."""


class DisconnectedError(WireError):
    """The connection broke while an answer was expected."""


class ProtocolError(WireError):
    """The answer is not HTTP/1.1."""
