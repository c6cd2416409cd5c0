"""A gateway worker in front of a server that answers in LiteLLM's place, exactly as a test says."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web

from neev_provider.gateway.options import WorkerOptions
from tests.proxy.serving import ROOT, free_port

KEY = "sk-" + "k3y" * 12
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class InPlaceOfLiteLLM:
    """A real HTTP server; `handler` answers whatever comes but the liveliness probe."""

    port: int
    handler: Handler | None = None
    requests: list[web.Request] = field(default_factory=list)
    runner: web.AppRunner | None = None

    async def start(self) -> None:
        application = web.Application(client_max_size=2**30)
        application.router.add_route("*", "/{path:.*}", self._answer)
        # Cancelled with its client's connection, as a server that notices is.
        self.runner = web.AppRunner(
            application, handler_cancellation=True, access_log=None, shutdown_timeout=0.1
        )
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()
            self.runner = None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/health/liveliness":
            return web.json_response("alive")
        self.requests.append(request)
        assert self.handler is not None
        return await self.handler(request)


@dataclass
class Gateway:
    """The worker, and what answers behind it."""

    url: str
    litellm: InPlaceOfLiteLLM
    process: asyncio.subprocess.Process
    session: aiohttp.ClientSession

    async def until_state(self, wanted: str) -> None:
        """Wait until `/readyz` tells this of LiteLLM."""
        async with asyncio.timeout(20):
            while True:
                async with self.session.get("/readyz") as response:
                    if (await response.json())["litellm"] == wanted:
                        return
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def gateway_before(folder: Path, *, up: bool = True, **limits: float) -> AsyncIterator[Gateway]:
    litellm = InPlaceOfLiteLLM(free_port())
    if up:
        await litellm.start()
    port = free_port()
    options = WorkerOptions(
        number=0,
        config=str(ROOT / "proxy_config.yaml"),
        host="127.0.0.1",
        port=port,
        ready_file=str(folder / "ready"),
        log_level="error",
        litellm_url=f"http://127.0.0.1:{litellm.port}",
        limits=limits,
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "neev_provider.gateway.worker", msgspec.json.encode(options).decode()),
        env={
            **os.environ,
            "LITELLM_MASTER_KEY": KEY,
            "NEEV_API_KEY": "sk-nc-x",
            "NEEV_BASE_URL": "http://127.0.0.1:9/v1",
        },
    )
    try:
        async with asyncio.timeout(20):
            while not (folder / "ready").exists():
                assert process.returncode is None
                await asyncio.sleep(0.02)
        url = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {KEY}"}) as session:
            gateway = Gateway(url, litellm, process, session)
            if up:
                await gateway.until_state("ok")
            yield gateway
    finally:
        process.terminate()
        await process.wait()
        await litellm.stop()
