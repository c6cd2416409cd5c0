"""The LiteLLM proxy as a process that ends in order: `python -m neev_provider.litellm_server --config ...`.

LiteLLM tells what a call did cost some time behind its answer, and its server dies of the signal that ends it before
its event loop is closed; what the last calls did cost would be gone without a line. Here the loop's last requests are
told first, and SIGTERM then ends the process as an exit does, so that `litellm_auth.py` gets to write what waits, or
to keep it in the ledger's file. Started by `gateway/parts.py`.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import signal
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn

from litellm import run_server
from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER
from litellm.proxy import proxy_server

from neev_provider.litellm_admission import accounts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from types import FrameType

    _Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]

_REPORT_SECONDS: Final = 5.0  # for the last reports, once all requests are answered


def main() -> NoReturn:
    """Serve until SIGTERM."""
    router = proxy_server.app.router
    router.lifespan_context = _reporting_at_last(router.lifespan_context)
    # While it serves, the server has a handler of its own; when done, it raises the signal again.
    signal.signal(signal.SIGTERM, _exit)
    # Nothing is left to be tidied up, and looking for circles in all that LiteLLM has imported took four seconds.
    atexit.register(gc.freeze)
    sys.exit(run_server())


def _reporting_at_last(lifespan: _Lifespan) -> _Lifespan:
    """Return a lifespan in which nothing that was answered stays unreported."""

    @asynccontextmanager
    async def reporting(app: Any) -> AsyncIterator[Any]:
        async with lifespan(app) as state:
            yield state
            with suppress(TimeoutError):
                async with asyncio.timeout(_REPORT_SECONDS):
                    await GLOBAL_LOGGING_WORKER.flush()
            accounts.settle_unreported()

    return reporting


def _exit(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)


if __name__ == "__main__":
    main()
