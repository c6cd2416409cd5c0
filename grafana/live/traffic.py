"""What clients do: chats and streams of several models by several keys, speech, LiteLLM's routes, mistakes, faults.

The emulator is steered by the first lines of a message, so faults need nothing but requests. `everything` makes each
thing happen once; `mixed` goes on for a while, in waves. Called by tests/system and `preview/`.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from grafana.live.product import BALANCED, BROKEN, FALLING, REFUSED, UNPRICED, VOICE

__all__ = ["Call", "everything", "mixed", "send"]

_CHAT: Final = "/v1/chat/completions"
_SPEECH: Final = "/v1/audio/speech"
_MESSAGES: Final = "/v1/messages"
_IN_FLIGHT: Final = 150
_NUMBERS: Final = itertools.count()

UNKNOWN_KEY: Final = "sk-neev-nobody.x"


@dataclass(frozen=True)
class Call:
    """One kind of request.

    Attributes:
        key: alias of the key; None: one that nobody was given.
        model: public name.
        path: route.
        fault: of the emulator, for this request.
        echo: how the emulator answers.
        stream: whether the answer is one.
        leave_after: chunks after which the client goes away.
        fields: more of the body.
        weight: how often, beside the others.
    """

    key: str | None
    model: str = BALANCED
    path: str = _CHAT
    fault: str = ""
    echo: str = "tokens=20,prompt-tokens=400"
    stream: bool = False
    leave_after: int | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    weight: float = 1

    def body(self) -> dict[str, Any]:
        """Return the request's body."""
        if self.path == _SPEECH:
            return {"model": self.model, "input": "The quarterly figures are ready. " * 6, "voice": "alloy"}
        lines = [f"x-neev-fault: {self.fault.format(n=next(_NUMBERS))}"] if self.fault else []
        content = "\n".join([*lines, f"x-neev-echo: {self.echo}", "x"])
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": 2000,
            **({"stream": True} if self.stream else {}),
            **self.fields,
        }


async def send(session: aiohttp.ClientSession, call: Call, tokens: dict[str, str]) -> int:
    """Send a request and read its answer; return the status, 0 if it broke off."""
    headers = {"Authorization": f"Bearer {UNKNOWN_KEY if call.key is None else tokens[call.key]}"}
    with suppress(aiohttp.ClientError, TimeoutError):
        async with session.post(call.path, json=call.body(), headers=headers) as response:
            chunks = 0
            async for _ in response.content.iter_any():
                chunks += 1
                if chunks == call.leave_after:
                    response.close()
                    break
            return response.status
    return 0


ONCE: Final = (
    Call("assistant"),
    Call("assistant", stream=True),
    Call("notebooks", FALLING, stream=True, echo="tokens=30,rate=60,prompt-tokens=900"),
    Call("search", VOICE, _SPEECH),
    Call("assistant", path=_MESSAGES),
    Call("assistant", fields={"tags": ["x"]}, stream=True),
    Call("notebooks", fault="status=503,times=1,id=retried-{n}"),
    Call("notebooks", FALLING, fault="status=503,times=1,id=fallen-{n}"),
    Call("chatbot", REFUSED, fault="status=429"),
    Call("chatbot", BROKEN, fault="status=429"),
    Call("chatbot", BROKEN, fault="status=500"),
    Call("chatbot", fault="no-usage"),
    Call("chatbot", fault="cut-after=3", stream=True),
    Call("chatbot", echo="tokens=400,rate=40", stream=True, leave_after=3),
    Call("free", UNPRICED),
    *[Call("limited")] * 4,
    Call("assistant", fields={"temperature": 9}),
    Call("assistant", "no-such-model"),
    Call(None),
    Call("free", path="/v1/nothing"),
)


async def everything(url: str, tokens: dict[str, str]) -> list[int]:
    """Make everything happen that is counted, each on a connection of its own; return the statuses."""
    statuses = []
    for call in ONCE:
        async with aiohttp.ClientSession(url) as session:
            statuses.append(await send(session, call, tokens))
    return statuses


_FAST: Final = "tokens={tokens},rate=90,first={first},prompt-tokens={prompt}"
VOLUME: Final = (
    Call("assistant", BALANCED, stream=True, echo=_FAST, weight=8),
    Call("search", FALLING, echo="tokens=40,rate=200,first=0.1,prompt-tokens={prompt}", weight=7),
    Call("notebooks", "deepseek-v3-2", stream=True, echo=_FAST, weight=3),
    Call("batch-eval", "minimax-m2.7", echo="tokens=90,rate=150,first=0.3,prompt-tokens={prompt}", weight=2.5),
    Call("chatbot", "llama-3.3-70b-versatile", stream=True, echo=_FAST, weight=5),
    Call("chatbot", REFUSED, stream=True, echo="tokens=70,rate=45,first=0.8,prompt-tokens={prompt}", weight=2),
    Call("ci", BALANCED, echo="tokens=8,prompt-tokens={prompt}", weight=0.6),
    Call("search", VOICE, _SPEECH, weight=0.5),
    Call("assistant", path=_MESSAGES, echo="tokens=30,rate=100,prompt-tokens={prompt}", weight=0.5),
    Call("chatbot", stream=True, echo="tokens=300,rate=60,prompt-tokens={prompt}", leave_after=6, weight=0.2),
    Call("limited", weight=0.3),
    Call("assistant", fields={"temperature": 9}, weight=0.25),
    Call("assistant", "no-such-model", weight=0.1),
    Call(None, weight=0.15),
    Call("notebooks", fault="status=503,times=1,id=retried-{n}", weight=0.4),
    Call("notebooks", FALLING, fault="status=503,times=1,id=fallen-{n}", weight=0.3),
    Call("chatbot", fault="no-usage", weight=0.2),
    Call("chatbot", fault="cut-after=3", stream=True, weight=0.08),
    Call("free", UNPRICED, weight=0.05),
)  # fmt: skip
# A bad minute at upstream: one model refused, slow, overloaded.
TROUBLE: Final = (
    Call("chatbot", REFUSED, fault="status=429", weight=2),
    Call("chatbot", REFUSED, fault="status=503", weight=3),
    Call("assistant", stream=True, echo="tokens=120,rate=40,first=3,prompt-tokens={prompt}", weight=3),
    Call("search", FALLING, fault="status=500", weight=1.5),
)


async def mixed(
    url: str,
    tokens: dict[str, str],
    *,
    seconds: float,
    rate: float,
    trouble: tuple[float, float] | None = None,
) -> int:
    """Send requests for a while, and wait for the last answers.

    Args:
        url: of the API.
        tokens: by alias of the key.
        seconds: how long.
        rate: requests per second, on average.
        trouble: when, as parts of the time, upstream has a bad minute.

    Returns:
        how many were sent.
    """
    chance = random.Random(7)  # noqa: S311 - the same traffic every time
    begun, sent = time.monotonic(), 0
    free = asyncio.Semaphore(_IN_FLIGHT)
    async with (
        aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as session,
        asyncio.TaskGroup() as tasks,
    ):

        async def one(call: Call) -> None:
            try:
                await send(session, call, tokens)
            finally:
                free.release()

        while (passed := time.monotonic() - begun) < seconds:
            part = passed / seconds
            in_trouble = trouble is not None and trouble[0] <= part < trouble[1]
            kinds = VOLUME + (TROUBLE if in_trouble else ())
            call = chance.choices(kinds, [kind.weight for kind in kinds])[0]
            await free.acquire()
            tasks.create_task(one(_varied(call, chance)))
            sent += 1
            wave = 1 + 0.45 * math.sin(7 * part * math.pi) + 0.15 * math.sin(31 * part * math.pi)
            await asyncio.sleep(chance.expovariate(rate * wave))
    return sent


def _varied(call: Call, chance: random.Random) -> Call:
    echo = call.echo.format(
        tokens=int(chance.gammavariate(3, 30)) + 5,
        first=round(chance.lognormvariate(-1.4, 0.6), 3),
        prompt=int(chance.lognormvariate(7, 0.9)) + 20,
    )
    return Call(
        call.key,
        call.model,
        call.path,
        call.fault,
        echo,
        call.stream,
        call.leave_after,
        call.fields,
        call.weight,
    )
