"""Tickets: by which one process hands a request that it let in over to another, without it being counted twice.

A ticket is the id of the request's lease with a proof that whoever made it holds the master key, which no client
does. It is good for the key that it was made for alone, and once: who takes the request over ends the lease.
Called by `virtual.py`.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

__all__ = ["TICKET_HEADER", "Tickets"]

TICKET_HEADER: Final = "x-neev-ticket"
"""In which the gateway sends one to LiteLLM. What a client sends under this name does not get through the gateway."""

_PURPOSE: Final = b"neev admission ticket"


class Tickets:
    """Makes and reads tickets.

    Args:
        master_key: of the deployment, the same in all its processes.
    """

    def __init__(self, master_key: str) -> None:
        self._secret: Final = hmac.digest(master_key.encode("utf-8", "replace"), _PURPOSE, hashlib.sha256)

    def make(self, lease: str, key_id: str) -> str:
        """Return the ticket of a lease that a key holds."""
        return f"{lease}.{self._proof(lease, key_id)}"

    def read(self, ticket: str, key_id: str) -> str | None:
        """Return the lease of a ticket; None if nobody of us made it, or for another key."""
        lease, _, proof = ticket.rpartition(".")
        given, right = proof.encode("utf-8", "replace"), self._proof(lease, key_id).encode()
        return lease if hmac.compare_digest(given, right) else None

    def _proof(self, lease: str, key_id: str) -> str:
        said = f"{lease} {key_id}".encode("utf-8", "replace")
        return hmac.new(self._secret, said, hashlib.sha256).hexdigest()
