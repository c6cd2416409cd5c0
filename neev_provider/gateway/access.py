"""Who may call: the interface that admission has, and its simplest form, keys from the configuration.

Called by the routes, once before upstream is asked and once after.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from neev_provider.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Access", "Principal", "StaticKeys"]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling.

    Attributes:
        key_id: public name of the key, for logs and metrics.
        models: public model names that it may call; None = all.
    """

    key_id: str
    models: frozenset[str] | None = None

    def may_call(self, model_name: str) -> bool:
        """Tell whether the model is allowed."""
        return self.models is None or model_name in self.models


class Access(Protocol):
    """Tells who is calling."""

    async def authenticate(self, token: str | None) -> Principal:
        """Return who holds the token.

        Raises:
            RequestError: nobody does: 401.
        """


class StaticKeys:
    """Keys that the configuration names; compared in constant time.

    Args:
        keys: token to its holder.
    """

    def __init__(self, keys: Mapping[str, Principal]) -> None:
        self._keys: Final = [(token.encode(), principal) for token, principal in keys.items()]

    async def authenticate(self, token: str | None) -> Principal:
        """Do as `Access.authenticate`."""
        if token is None:
            raise RequestError(
                "invalid_api_key", "No API key given. Send it as a header: Authorization: Bearer <key>."
            )
        given = token.encode("utf-8", "replace")
        found = [principal for known, principal in self._keys if hmac.compare_digest(known, given)]
        if not found:
            raise RequestError("invalid_api_key", "The API key is not known here.")
        return found[0]
