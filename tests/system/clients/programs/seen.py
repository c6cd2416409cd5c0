"""What the client programs share: the prompts that the test chose, and how an error is told. Imported by them only."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable

PROMPTS: dict[str, str] = json.loads(os.environ["NEEV_TEST_PROMPTS"])
ROOT_URL = os.environ["OPENAI_BASE_URL"].removesuffix("/v1")
BASE_URL = os.environ["OPENAI_BASE_URL"]
KEY = os.environ["OPENAI_API_KEY"]
POOR_KEY = os.environ["NEEV_TEST_POOR_KEY"]  # its budget is used up
MODEL = "gpt-oss-120b"
TOOL = {
    "name": "get_weather",
    "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def error_of(call: Callable[[], object]) -> dict[str, object]:
    """Return what a caller sees of the error that `call` ends with: its class, its status if it has one, its text."""
    try:
        answer = call()
    except Exception as error:
        status = getattr(error, "status_code", None)
        return {"class": type(error).__name__, "status": status, "says": str(error)}
    return {"class": None, "status": None, "says": repr(answer)}


def cut_short(pieces: Iterable[str]) -> dict[str, object]:
    """Read a stream that breaks; return the pieces that arrived before the error, and the error."""
    arrived: list[str] = []
    return {**error_of(lambda: arrived.extend(filter(None, pieces))), "pieces": arrived}
