"""What the scripts keep of a subject, as it stands in the store: asking here expires no lease."""

from __future__ import annotations

from typing import Final

__all__ = ["HELD", "PARALLEL", "READ", "SPENT"]

READ: Final = "return {cmsgpack.unpack(redis.call('HGET', KEYS[1], 'a'))}"
"""A script that returns an account's fields; `KEYS[1]` is its name."""
SPENT, HELD, PARALLEL = 3, 4, 5
"""Where they stand in it."""
