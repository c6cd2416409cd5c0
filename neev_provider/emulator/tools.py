"""Which of the offered tools an answer calls, and what arguments a schema would accept.

Both engines ask here which tools to call, so that `tool_choice` means the same in both:

- `none`, or no tools: none. A named function: that one.
- `required`: the tools that the last user message mentions, else the first one.
- `auto` or absent: the tools that it mentions, if the last message is the user's; else none.
- `parallel_tool_calls: false`: at most one.

A message mentions a tool if it holds all words of the tool's name; a leading verb such as `get` may be missing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["Tool", "choose_tools", "example", "resolve", "type_of"]

_WORDS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
_VERBS: Final = frozenset(
    {
        "call",
        "check",
        "do",
        "fetch",
        "find",
        "get",
        "list",
        "look",
        "lookup",
        "query",
        "read",
        "run",
        "search",
    }
)


@dataclass(frozen=True, slots=True)
class Tool:
    """One function that may be called."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)


def choose_tools(body: dict[str, Any], text: str) -> tuple[Tool, ...]:
    """Return the tools that the answer to a checked chat request calls.

    Args:
        body: the request.
        text: its last user message's text.
    """
    choice = body.get("tool_choice") or "auto"
    tools = [_tool(item["function"]) for item in body.get("tools") or []]
    if not tools or choice == "none":
        return ()
    if isinstance(choice, dict):
        name = choice["function"]["name"]
        return tuple(tool for tool in tools if tool.name == name)[:1]
    if choice == "auto" and body["messages"][-1]["role"] != "user":
        return ()
    said = {word.lower() for word in _WORDS.findall(text)}
    chosen = [tool for tool in tools if _mentioned(tool.name, said)]
    if choice == "required" and not chosen:
        chosen = tools[:1]
    return tuple(chosen[:1] if body.get("parallel_tool_calls") is False else chosen)


def _tool(function: dict[str, Any]) -> Tool:
    description = function.get("description")
    return Tool(
        function["name"],
        description if isinstance(description, str) else "",
        function.get("parameters") or {},
    )


def _mentioned(name: str, said: set[str]) -> bool:
    words = [word.lower() for word in _WORDS.findall(name)]
    if len(words) > 1 and words[0] in _VERBS:
        words = words[1:]
    return bool(words) and said.issuperset(words)


_MAX_DEPTH: Final = 8
_SAMPLES: Final[dict[str, Any]] = {"integer": 1, "number": 1.5, "boolean": True, "null": None}


def example(schema: Any, text: str) -> Any:
    """Return a value that a JSON schema accepts, the same for the same arguments.

    Understands what tool schemas are made of: types, enums, constants, defaults, ranges, lengths, nesting, `anyOf`,
    `oneOf`, `allOf` and local references. Patterns and formats are not fulfilled.

    Args:
        schema: the schema.
        text: what strings are made of.
    """
    return _example(schema, text, schema, 0)


def _example(schema: Any, text: str, root: Any, depth: int) -> Any:
    schema = resolve(schema, root)
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return None
    given = _given(schema)
    if given is not None:
        return given
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return _example(schema[key][0], text, root, depth + 1)
    kind = type_of(schema)
    if kind == "object":
        return _object(schema, text, root, depth)
    if kind == "array":
        count = max(1, _bound(schema, "minItems", 1))
        return [_example(schema.get("items", {}), text, root, depth + 1) for _ in range(min(count, 16))]
    if kind == "string":
        return _string(schema, text)
    return _clamped(schema, kind) if kind in {"integer", "number"} else _SAMPLES.get(kind)


def _given(schema: dict[str, Any]) -> Any:
    """Return a value that stands in the schema itself, or None."""
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    for key in ("enum", "examples"):
        if schema.get(key):
            return schema[key][0]
    return None


def type_of(schema: dict[str, Any]) -> str:
    """Return the type that a schema names, the first of several, or the one that its other keywords suggest."""
    kind = schema.get("type", "object" if "properties" in schema or "allOf" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0] if kind else "string"
    return str(kind)


def _object(schema: dict[str, Any], text: str, root: Any, depth: int) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required: list[str] = []
    for part in [schema, *schema.get("allOf", [])]:
        part = resolve(part, root)  # noqa: PLW2901 - the same part, resolved
        if isinstance(part, dict):
            properties |= part.get("properties") or {}
            required += part.get("required") or []
    names = [name for name in properties if name in required] or list(properties)
    return {name: _example(properties[name], text, root, depth + 1) for name in names}


def resolve(schema: Any, root: Any) -> Any:
    """Return what a schema refers to, a bounded number of steps away; None if there is nothing."""
    for _ in range(_MAX_DEPTH):
        if not isinstance(schema, dict) or not isinstance(schema.get("$ref"), str):
            return schema
        found: Any = root
        for step in schema["$ref"].removeprefix("#").split("/"):
            if step:
                found = (
                    found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
                )
        schema = found
    return None


def _bound(schema: dict[str, Any], key: str, default: int) -> int:
    value = schema.get(key)
    return value if isinstance(value, int) else default


def _string(schema: dict[str, Any], text: str) -> str:
    value = text[: _bound(schema, "maxLength", 200)]
    return value.ljust(min(_bound(schema, "minLength", 0), 10_000), "x")


def _clamped(schema: dict[str, Any], kind: str) -> float:
    value: float = _SAMPLES[kind]
    low, high = schema.get("minimum"), schema.get("maximum")
    if isinstance(low, int | float) and value < low:
        value = low
    if isinstance(high, int | float) and value > high:
        value = high
    return int(value) if kind == "integer" else value
