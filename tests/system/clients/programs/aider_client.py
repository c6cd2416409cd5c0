"""The `aider` command, which edits a file as the model says. It calls no tools, and retries for a minute.

So a failure that lasts is not tried here. It prints errors, breaking the lines, and ends with exit code 0 all the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

from seen import BASE_URL, KEY, MODEL, PROMPTS

AIDER = Path(sys.executable).with_name("aider")
OPTIONS = (
    *(
        "--no-check-update",
        "--no-analytics",
        "--no-show-model-warnings",
        "--no-show-release-notes",
        "--no-pretty",
    ),
    *("--yes-always", "--no-git", "--edit-format", "whole", "--no-fancy-input"),
)
EDIT = "x-neev-echo: text=" + quote("hello.txt\n```\nhello from the gateway\n```\n") + "\nWrite hello.txt"


def run(message: str, *words: str, model: str = MODEL, key: str = KEY) -> str:
    """Return what aider wrote after its greeting."""
    done = subprocess.run(
        [AIDER, *OPTIONS, "--model", f"openai/{model}", "--message", message, *words],
        env={**os.environ, "OPENAI_API_BASE": BASE_URL, "OPENAI_API_KEY": key, "HOME": os.getcwd()},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    greeting, _, said = done.stdout.partition("Repo-map: disabled")
    assert said, greeting
    return said


def error_of(message: str, **more: str) -> dict[str, object]:
    return {"class": "printed", "status": None, "says": " ".join(run(message, **more).split())}


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    chat = run(PROMPTS["chat"], "--no-stream")
    run(EDIT)
    print(
        json.dumps(
            {
                "version": version("aider-chat"),
                "chat": chat,
                "edit": Path("hello.txt").read_text(),
                "broken_stream": run(PROMPTS["broken_once"]),
                "bad_request": error_of("x-neev-fault: status=400\nhello"),
                "wrong_key": error_of(PROMPTS["chat"], key="sk-neev-wrong"),
                "unknown_model": error_of(PROMPTS["chat"], model="no-such-model"),
                "retried": run(PROMPTS["retried"]),
                "waited": run(PROMPTS["waited"]),
            }
        )
    )
