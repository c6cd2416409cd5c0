"""Keys that the configuration names: no store, no limits, no account."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

from neev_provider.admission.terms import FreeGrant, Principal
from neev_provider.admission.tokens import digest_of
from neev_provider.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from neev_provider.admission.terms import Demand, Grant

__all__ = ["StaticKeys"]


class StaticKeys:
    """Keys that the configuration names; compared in constant time.

    Args:
        keys: token to its holder.
    """

    def __init__(self, keys: Mapping[str, Principal]) -> None:
        # By their digests: comparing texts of unlike lengths ends at once, and so tells a key's length.
        self._keys: Final = [(digest_of(token), principal) for token, principal in keys.items()]

    def check_form(self, token: str | None) -> None:
        """Do as `Access.check_form`; the keys are at hand, so this is the whole check."""
        self._holder(token)

    async def authenticate(self, token: str | None) -> Principal:
        """Do as `Access.authenticate`."""
        return self._holder(token)

    async def admit(self, token: str | None, demand: Demand, *, ticket: str | None = None) -> Grant:  # noqa: ARG002 - nothing was taken
        """Do as `Access.admit`."""
        principal = self._holder(token)
        if not principal.may_call(demand.model):
            raise RequestError("model_not_allowed", f"This key may not call '{demand.model}'.", param="model")
        return FreeGrant(principal)

    def _holder(self, token: str | None) -> Principal:
        if token is None:
            raise RequestError(
                "invalid_api_key", "No API key given. Send it as a header: Authorization: Bearer <key>."
            )
        given = digest_of(token)
        found = [principal for known, principal in self._keys if hmac.compare_digest(known, given)]
        if not found:
            raise RequestError("invalid_api_key", "The API key is not known here.")
        return found[0]
