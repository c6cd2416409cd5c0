"""Makes a real call through the gateway, streamed and not: what `helm test` runs. Standard library only.

Usage: test-call.py URL [MODEL]; the key comes in NEEV_TEST_KEY. Exits with 1 and one line that says what to do.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request

READY_SECONDS = 120
CALL_SECONDS = 120


def main() -> None:
    base, wanted = sys.argv[1].rstrip("/"), (sys.argv[2] if len(sys.argv) > 2 else "")
    until_ready(base)
    model = wanted or first_chat_model(base)
    body = {"model": model, "max_tokens": 16, "messages": [{"role": "user", "content": "Say hello."}]}

    with call(base + "/v1/chat/completions", body) as response:
        answer = json.load(response)
        way = response.headers.get("x-neev-path")
    if not answer.get("choices"):
        fail(f"{model} answered without a choice: {json.dumps(answer)[:300]}")
    say(f"{model} answered, way {way}, {answer.get('usage', {}).get('total_tokens')} tokens")

    with call(base + "/v1/chat/completions", {**body, "stream": True}) as response:
        events = [line[6:].strip() for line in response if line.startswith(b"data: ")]
    if events[-1:] != [b"[DONE]"]:
        fail(f"the stream did not end with [DONE] but with {events[-1:]}")
    say(f"{model} streamed {len(events)} events")
    say("ok")


def until_ready(base: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            with urllib.request.urlopen(base + "/readyz", timeout=5):
                return
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(300).decode(errors="replace")
        except OSError as error:
            said = str(error)
        if time.monotonic() > deadline:
            fail(f"{base}/readyz does not answer 200: {said}")
        time.sleep(1)


def first_chat_model(base: str) -> str:
    with call(base + "/v1/models") as response:
        models = json.load(response)["data"]
    chats = [model["id"] for model in models if model.get("modality", "chat") == "chat"]
    if not chats:
        fail("the key may call no model")
    return chats[0]


def call(url: str, body: object = None):
    headers = {"Authorization": "Bearer " + os.environ["NEEV_TEST_KEY"], "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    try:
        return urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=CALL_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(500).decode(errors="replace")
        advice = {
            401: "Does helmTest.existingSecret hold a key of this gateway?",
            403: "Name a key that may call models in helmTest.existingSecret.",
        }.get(error.code, "The gateway's log says more.")
        fail(f"{url} answered {error.code}: {said}\n{advice}")
    except OSError as error:
        fail(f"{url}: {error}")


def say(text: str) -> None:
    print(text, flush=True)


def fail(text: str) -> None:
    print("error: " + text, file=sys.stderr, flush=True)
    sys.exit(1)


main()
