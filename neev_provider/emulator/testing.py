"""Start an emulator inside a test suite, and ask it what really happened.

    async with running_emulator() as emulator:
        client = AsyncOpenAI(base_url=emulator.base_url, api_key=emulator.api_key)

    with emulator_in_thread(engine="echo") as emulator:
        ...

Either way it runs in a thread and on an event loop of its own, on a free port of the loopback interface, so a test
that blocks does not block it, and tests may share one across event loops. Public: meant for users' own suites as
well.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from neev_provider.catalog import Catalog
from neev_provider.emulator.app import create_app
from neev_provider.emulator.server import EmulatorServer, listen, run_on_fast_loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from neev_provider.emulator.app import EmulatorApp

__all__ = ["RunningEmulator", "emulator_in_thread", "running_emulator"]

API_KEY: Final = "sk-nc-emulator"
_PATIENCE_SECONDS: Final = 60.0  # for start and stop; loading the local engine takes about 2

T = TypeVar("T")


class RunningEmulator:
    """An emulator that is being served. Its methods may be called from any thread.

    Attributes:
        base_url: what an OpenAI client is given, as `http://127.0.0.1:40123/v1`.
        root_url: the same without `/v1`.
        api_key: a key that it accepts.
    """

    def __init__(self, app: EmulatorApp, root_url: str, loop: asyncio.AbstractEventLoop) -> None:
        self._app = app
        self._loop = loop
        self.root_url = root_url
        self.base_url = root_url + "/v1"
        self.api_key = API_KEY

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of an authorised request."""
        return {"authorization": f"Bearer {self.api_key}"}

    def stats(self) -> dict[str, Any]:
        """Return what GET /_emulator/stats answers."""
        return self._call(
            lambda: {**self._app.stats.snapshot(), "faults_applied": dict(self._app.faults.applied)}
        )

    def requests(self) -> list[dict[str, Any]]:
        """Return the last requests, oldest first, as GET /_emulator/requests answers them."""
        return self._call(self._app.stats.last_requests)

    def set_fault(self, fault: str, *, model: str | None = None, times: int | None = None) -> None:
        """Set the process-wide fault, or that of one model.

        Raises:
            FaultSyntaxError: the fault string is wrong.
        """
        self._call(lambda: self._app.faults.put(fault, model=model, times=times))

    def clear_faults(self) -> None:
        """Forget every process-wide fault and every count of `times`."""
        self._call(self._app.faults.clear)

    def clear(self) -> None:
        """Forget statistics and requests."""
        self._call(self._app.stats.clear)

    def _call(self, function: Callable[[], T]) -> T:
        """Run a function on the emulator's loop, so that it sees no request half counted."""

        async def run() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(_PATIENCE_SECONDS)


@contextmanager
def emulator_in_thread(
    engine: str = "echo",
    *,
    quirks: str | None = None,
    fault: str | None = None,
    catalog: Catalog | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> Iterator[RunningEmulator]:
    """Serve an emulator while the block runs.

    Args:
        engine: `echo` or `local`.
        quirks: "live" to play the live service's defects.
        fault: fault string for every request that brings none.
        catalog: the models; the package's own by default.
        host: address to listen on.
        port: 0 for any free one.

    Raises:
        ConfigError: the address cannot be used, or the engine's packages are missing.
        ValueError: engine, quirks or fault is not known.
    """
    from neev_provider.emulator.engines import make_engine  # noqa: PLC0415 - `local` is heavy

    app = create_app(make_engine(engine), catalog=catalog or Catalog.load(), quirks=quirks, fault=fault)
    server = EmulatorServer(app, listen(host, port))
    ready = threading.Event()
    failures: list[BaseException] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        await server.run(ready.set)

    def run() -> None:
        try:
            run_on_fast_loop(serve())
        except BaseException as error:  # noqa: BLE001 - raised in the thread that asked
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="neev-emulator", daemon=True)
    thread.start()
    try:
        if not ready.wait(_PATIENCE_SECONDS):
            raise TimeoutError("the emulator did not start")
        if failures:
            raise failures[0]
        yield RunningEmulator(app, server.root_url, loops[0])
    finally:
        if thread.is_alive() and loops:
            loops[0].call_soon_threadsafe(server.stop)
        thread.join(_PATIENCE_SECONDS)


@asynccontextmanager
async def running_emulator(
    engine: str = "echo",
    *,
    quirks: str | None = None,
    fault: str | None = None,
    catalog: Catalog | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncIterator[RunningEmulator]:
    """Serve an emulator while the block runs: `emulator_in_thread` for asynchronous tests, same arguments."""
    context = emulator_in_thread(engine, quirks=quirks, fault=fault, catalog=catalog, host=host, port=port)
    emulator = await asyncio.to_thread(context.__enter__)
    try:
        yield emulator
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)
