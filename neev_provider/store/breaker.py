"""Stops asking a server that does not answer, so that its callers fail at once. Called by `client.py`."""

from __future__ import annotations

from typing import Final

__all__ = ["Breaker"]


class Breaker:
    """Opens after some failures in a row, and is closed by a probe that succeeds.

    Args:
        failures: how many in a row open it.
    """

    def __init__(self, failures: int) -> None:
        self._failures: Final = failures
        self._in_a_row = 0

    @property
    def is_open(self) -> bool:
        """Whether nobody should ask."""
        return self._in_a_row >= self._failures

    def failed(self) -> bool:
        """Note a failure; return whether it is the one that opens the breaker."""
        self._in_a_row += 1
        return self._in_a_row == self._failures

    def succeeded(self) -> None:
        """Note a success, which closes the breaker."""
        self._in_a_row = 0
