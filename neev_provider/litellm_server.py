"""The LiteLLM proxy as a process that ends in order: `python -m neev_provider.litellm_server --config ...`.

LiteLLM's own server dies of the signal that ends it, before its event loop is closed; charges that wait for the store
would be gone without a line. Here SIGTERM ends the process as an exit does, so that `litellm_auth.py` gets to write
what waits, or to keep it in the ledger's file. Started by `gateway/parts.py`.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from litellm import run_server

if TYPE_CHECKING:
    from types import FrameType


def _exit(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)


if __name__ == "__main__":
    # While it serves, the server has a handler of its own; when done, it raises the signal again.
    signal.signal(signal.SIGTERM, _exit)
    sys.exit(run_server())
