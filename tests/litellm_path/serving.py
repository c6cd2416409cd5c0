"""Runs the gateway in front of a given LiteLLM, and what plays LiteLLM or is it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import uvicorn
from aiohttp import web

from neev_provider.admission import Principal
from neev_provider.admission.static import StaticKeys
from neev_provider.config import load_config
from neev_provider.gateway.app import Gateway
from neev_provider.gateway.exchange import Limits
from neev_provider.gateway.litellm_path import LiteLLMPath
from neev_provider.gateway.services import Services
from neev_provider.retry import NO_RETRIES
from neev_provider.routing import Router
from neev_provider.upstream import Upstream
from tests.proxy.serving import ROOT, free_port

KEY = "sk-of-a-client"
MASTER_KEY = "sk-" + "a1" * 20
PROVIDER_KEY = "sk-nc-emulator"


@dataclass
class Request:
    """What reached LiteLLM."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        return [value for given, value in self.headers if given.lower() == name]


@dataclass
class PlayedLiteLLM:
    """A server that answers as it is told to, and remembers what it was asked."""

    url: str
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    reads_body: bool = True
    requests: list[Request] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when whoever asked has closed the connection before it had its answer."""

    def forget(self) -> None:
        self.answer, self.reads_body = None, True
        self.requests.clear()
        self.gone.clear()

    def answers(self, status: int, body: bytes = b"", **headers: str) -> None:
        async def answer(_: web.Request) -> web.Response:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            return web.Response(status=status, body=body, headers=names)

        self.answer = answer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/health/liveliness":
            return web.Response(text='"I\'m alive!"')
        target = request.raw_path
        seen = Request(request.method, target, list(request.headers.items()))
        self.requests.append(seen)
        try:
            if self.reads_body:
                seen.body = await request.read()
            return await self.answer(request)
        except (asyncio.CancelledError, ConnectionError):
            self.gone.set()
            raise


@contextlib.asynccontextmanager
async def playing() -> AsyncIterator[PlayedLiteLLM]:
    port = free_port()
    played = PlayedLiteLLM(f"http://127.0.0.1:{port}")
    app = web.Application(client_max_size=100_000_000)
    app.router.add_route("*", "/{path:.*}", played.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield played
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def scripted(
    *, to: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
) -> AsyncIterator[str]:
    """Serve connections by hand: for answers that no server library would give."""
    tasks = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            await reader.readuntil(b"\r\n\r\n")
            await to(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", free_port())
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def gateway_before(
    path: LiteLLMPath,
    *,
    config: Path = ROOT / "proxy_config.yaml",
    environ: dict[str, str] | None = None,
    fast_path: bool = False,
    limits: Limits | None = None,
) -> AsyncIterator[str]:
    """Serve the real application; yields its address."""
    environ = {"NEEV_API_KEY": PROVIDER_KEY, "LITELLM_MASTER_KEY": MASTER_KEY, **(environ or {})}
    loaded = load_config(config, environ)
    async with Upstream(retry=NO_RETRIES) as upstream:
        services = Services(
            router=Router(loaded, environ),
            upstream=upstream,
            access=StaticKeys({KEY: Principal("tester"), MASTER_KEY: Principal("master")}),
            catalog=lambda: loaded.catalog,
            limits=limits or Limits(),
            litellm=path,
            fast_path=fast_path,
        )
        port = free_port()
        server = uvicorn.Server(
            uvicorn.Config(
                Gateway(services), "127.0.0.1", port, http="httptools", ws="none", lifespan="off",
                log_config=None, access_log=False, proxy_headers=False, timeout_graceful_shutdown=1,
                timeout_keep_alive=600,  # on a busy machine tests are further apart than the default of 5 s
            )
        )  # fmt: skip
        server.capture_signals = contextlib.nullcontext  # the test runner's signals stay its own
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = server.force_exit = True
            await serving
            await path.close()


def session_of(url: str) -> aiohttp.ClientSession:
    """Return a client with a key."""
    headers = {"Authorization": f"Bearer {KEY}"}
    return aiohttp.ClientSession(
        url, headers=headers, auto_decompress=False, timeout=aiohttp.ClientTimeout(total=20)
    )


@contextlib.contextmanager
def running_litellm(folder: Path, config: Path, base_url: str) -> Iterator[str]:
    """Run LiteLLM itself as `serve` does; yields its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NEEV_")}
    environ = {
        **clean,
        "PYTHONPATH": str(ROOT),
        "NEEV_BASE_URL": base_url,
        "NEEV_API_KEY": PROVIDER_KEY,
        "LITELLM_MASTER_KEY": MASTER_KEY,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
        "HF_HUB_OFFLINE": "1",
        "OTEL_SDK_DISABLED": "true",
    }
    program = "import sys; from litellm import run_server; sys.exit(run_server())"
    log = folder / "litellm.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                program,
                "--config",
                str(config),
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
            ],
            env=environ,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        started = time.monotonic()
        while not _is_up(url):
            if process.poll() is not None or time.monotonic() - started > 90:
                raise AssertionError(f"LiteLLM did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(url + "/health/liveliness", timeout=2):
            return True
    except OSError:
        return False
