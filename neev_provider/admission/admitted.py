"""What `admit.lua` answers when it lets a request in, and what a client is told of it.

Called by `virtual.py`.
"""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["ADMITTED", "PARALLEL", "RPM", "TPM", "Admitted"]

RPM, TPM, PARALLEL = 0, 2, 4  # where a key's figures stand in `limits`: a limit, then what is left of it
_TEAM: Final = 5  # so far behind stand those of its team
_RESET: Final = b"1m1s"  # when the second of this request has left the window


class Admitted(msgspec.Struct, array_like=True):
    """The script's answer.

    Attributes:
        who: alias, team and models of the key.
        team_models: that its team allows.
        max_tokens: that budgets leave for each choice.
        held_nanos: nano-USD that are reserved.
        at: the store's time in milliseconds.
        limits: requests, tokens and parallel calls, of the key and of its team; -1 where there is none.
        left: nano-USD that budgets leave, -1 without a budget.
    """

    who: str
    team_models: str
    max_tokens: int
    held_nanos: int
    at: int
    limits: list[int]
    left: int

    def headers(self) -> dict[bytes, bytes]:
        """Return the nearer limits, the key's or the team's, in OpenAI's headers; nothing where there is none."""
        headers: dict[bytes, bytes] = {}
        self._add(headers, b"requests", RPM)
        self._add(headers, b"tokens", TPM)
        return headers

    def lowest(self, place: int) -> int | None:
        """Return the lower limit, the key's or the team's; None if there is none."""
        both = self.limits[place], self.limits[place + _TEAM]
        return min((limit for limit in both if limit >= 0), default=None)

    def _add(self, headers: dict[bytes, bytes], what: bytes, place: int) -> None:
        limits = self.limits
        limit, left = limits[place], limits[place + 1]
        team_limit, team_left = limits[place + _TEAM], limits[place + _TEAM + 1]
        if team_limit >= 0 and (limit < 0 or team_left < left):
            limit, left = team_limit, team_left
        if limit >= 0:
            headers[b"x-ratelimit-limit-" + what] = b"%d" % limit
            headers[b"x-ratelimit-remaining-" + what] = b"%d" % left
            headers[b"x-ratelimit-reset-" + what] = _RESET


ADMITTED: Final = msgspec.msgpack.Decoder(Admitted)
