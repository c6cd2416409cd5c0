"""The `llm` command, configured by a file as its users do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from seen import BASE_URL, KEY, MODEL, POOR_KEY, PROMPTS

LLM = Path(sys.executable).with_name("llm")
FUNCTION = """
def get_weather(city: str) -> str:
    "The weather of a city"
    return "sunny"
"""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LLM, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)


def text(prompt: str, *words: str) -> str:
    done = run("-m", "neev", prompt, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.removesuffix("\n")


def error_of(*words: str) -> dict[str, object]:
    done = run(*words)
    return {
        "class": f"exit {done.returncode}",
        "status": None,
        "says": done.stderr,
        "pieces": done.stdout.split(),
    }


def written_pieces(prompt: str) -> list[str]:
    """Return what each write of the command was, with a slow answer so that writes cannot run together."""
    process = subprocess.Popen([LLM, "-m", "neev", prompt], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    arrived = []
    while piece := os.read(process.stdout.fileno(), 4096):
        arrived.append(piece.decode())
    assert process.wait() == 0
    return [piece for piece in arrived if piece.strip()]


with tempfile.TemporaryDirectory() as home:
    os.environ["LLM_USER_PATH"] = home
    model = {"model_id": "neev", "model_name": MODEL, "api_base": BASE_URL, "api_key_name": "neev"}
    unknown = {**model, "model_id": "unknown", "model_name": "no-such-model"}
    models = [{**entry, "supports_tools": True} for entry in (model, unknown)]
    Path(home, "extra-openai-models.yaml").write_text(json.dumps(models))
    run("keys", "set", "neev", "--value", KEY)
    tool = run("-m", "neev", "--functions", FUNCTION, "--tools-debug", PROMPTS["tool"])
    called = re.search(r"Tool call: (\w+)\((.*)\)", tool.stderr)
    print(
        json.dumps(
            {
                "version": version("llm"),
                "chat": text(PROMPTS["chat"], "--no-stream"),
                "stream": written_pieces(PROMPTS["slow_stream"]),
                "tool": {
                    "name": called[1],
                    "arguments": json.loads(called[2].replace("'", '"')),
                    "then": tool.stdout.strip(),
                },
                "broken_stream": error_of("-m", "neev", PROMPTS["broken_stream"]),
                "bad_request": error_of("-m", "neev", "-o", "max_tokens", "-1", PROMPTS["chat"]),
                "wrong_key": error_of("-m", "neev", "--key", "sk-neev-wrong", PROMPTS["chat"]),
                "over_budget": error_of("-m", "neev", "--key", POOR_KEY, PROMPTS["chat"]),
                "unknown_model": error_of("-m", "unknown", PROMPTS["chat"]),
                "retried": text(PROMPTS["retried"]),
                "waited": text(PROMPTS["waited"]),
                "gave_up": error_of("-m", "neev", PROMPTS["gave_up"]),
            }
        )
    )
