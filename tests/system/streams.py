"""Holds many streams open at once and says how each ended. Run inside a pod's network.

Usage: streams.py BASE_URL COUNT COUNT_THROUGH_LITELLM; the key in NEEV_TEST_KEY. Prints "open" when the first chunk of each is there,
then one line of JSON: how many ended as they should, and what went wrong with the others.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

import aiohttp

PROMPT = "x-neev-echo: tokens=60,rate=10\nhello"


async def stream(session: aiohttp.ClientSession, url: str, path: str, opened: asyncio.Semaphore) -> str:
    body = {
        "model": "gpt-oss-120b",
        "stream": True,
        "max_tokens": 100,
        "messages": [{"role": "user", "content": PROMPT}],
    }
    last = b"[DONE]" if path.endswith("completions") else b"message_stop"
    received = b""
    try:
        async with session.post(url + path, json=body) as response:
            if response.status != 200:
                opened.release()
                return f"status {response.status}: {(await response.text())[:200]}"
            async for chunk in response.content.iter_any():
                if not received:
                    opened.release()
                received += chunk
    except (aiohttp.ClientError, OSError) as error:
        opened.release()
        return f"{type(error).__name__} after {len(received)} bytes"
    return "whole" if last in received else f"ended early after {len(received)} bytes: {received[-100:]!r}"


async def main(url: str, fast: int, through_litellm: int) -> None:
    opened = asyncio.Semaphore(0)
    headers = {"authorization": f"Bearer {os.environ['NEEV_TEST_KEY']}"}
    paths = ["/v1/chat/completions"] * fast + ["/v1/messages"] * through_litellm
    timeout = aiohttp.ClientTimeout(total=90)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector) as session:
        tasks = [asyncio.create_task(stream(session, url, path, opened)) for path in paths]
        for _ in tasks:
            await opened.acquire()
        print("open", flush=True)
        ends = await asyncio.gather(*tasks)
    print(json.dumps({"whole": ends.count("whole"), "other": [end for end in ends if end != "whole"]}))


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
