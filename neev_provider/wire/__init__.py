"""HTTP/1.1 to upstream: pooled connections, one request at a time on each, parsed by httptools.

Only what a relay needs: a request that is ready goes out in one write, an answer's body is handed over as it arrives,
and what had arrived before a connection broke is not lost. No redirects, cookies, proxies or decompression. A general
client costs 100 us more of CPU for a call and 20 us more for a chunk (docs/performance.md). Called by `upstream.py`;
time limits of a whole call are its caller's.
"""

from neev_provider.wire.connection import Origin
from neev_provider.wire.faults import (
    CertificateError,
    ConnectTimeoutError,
    DisconnectedError,
    NoConnectionError,
    ProtocolError,
    TLSError,
    UnresolvedError,
    WireError,
)
from neev_provider.wire.pool import Answer, Pool, headers_of

__all__ = [
    "Answer",
    "CertificateError",
    "ConnectTimeoutError",
    "DisconnectedError",
    "NoConnectionError",
    "Origin",
    "Pool",
    "ProtocolError",
    "TLSError",
    "UnresolvedError",
    "WireError",
    "headers_of",
]
