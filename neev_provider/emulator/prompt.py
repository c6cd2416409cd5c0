"""A conversation as the text that SmolLM2 reads (ChatML), and the JSON that its answer is held to.

Pure; called by `local.py`. The model's own template is not used: its default system prompt makes the model's answers
worse, and it knows neither tools nor their results.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from neev_provider.emulator.refusal import Refusal
from neev_provider.emulator.tools import resolve, type_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from neev_provider.emulator.engine import ChatCall

__all__ = ["build_prompt", "constraint", "simplified"]

_SYSTEM: Final = "You are a helpful assistant."
_JSON_SYSTEM: Final = " Answer with one JSON object."
_MARK: Final = "<|im_"  # begins every control token of the model

# Any JSON object, but of a size that a small model comes to the end of.
_ANY_OBJECT: Final = r"""%llguidance {}
start: "{" pair ("," pair){0,4} "}"
pair: NAME ":" value
value: TEXT | NUMBER | "true" | "false" | list
list: "[" TEXT ("," TEXT){0,3} "]"
NAME: /"[a-z][a-z_]{0,23}"/
TEXT: /"[A-Za-z0-9][A-Za-z0-9 .,'-]{0,59}"/
NUMBER: /-?[0-9]{1,6}(\.[0-9]{1,3})?/
"""


def build_prompt(call: ChatCall) -> str:
    """Return the prompt for a call.

    Raises:
        Refusal: a message holds something that is not text.
    """
    turns = [("system", _system(call)), *_turns(call.messages)]
    # A message that holds control tokens must not be able to end its turn.
    written = [f"<|im_start|>{role}\n{text.replace(_MARK, '<| im_')}<|im_end|>\n" for role, text in turns]
    return "".join(written) + "<|im_start|>assistant\n"


def _system(call: ChatCall) -> str:
    said = [_text(message["content"]) for message in call.messages if message["role"] == "system"]
    text = "\n".join(said) or _SYSTEM
    if call.calls:
        tool = call.calls[0]
        names = ", ".join(tool.parameters.get("properties") or {}) or "nothing"
        about = f" ({tool.description})" if tool.description else ""
        return (
            f"{text} Call the function {tool.name}{about}. Give its arguments as JSON with the keys {names}."
        )
    return text + _JSON_SYSTEM if call.json_schema is not None else text


def _turns(messages: Iterable[dict[str, Any]]) -> list[tuple[str, str]]:
    turns: list[tuple[str, str]] = []
    names: dict[Any, str] = {}
    for message in messages:
        role, text = message["role"], _text(message.get("content"))
        if role == "system":
            continue
        if role == "tool":
            name = names.get(message.get("tool_call_id"), "the function")
            turns.append(("user", f"The result of {name} is: {text}"))
            continue
        for made in message.get("tool_calls") or ():
            function = made["function"]
            names[made.get("id")] = function["name"]
            text += f"\nI call {function['name']} with {function['arguments']}."
        turns.append((role, text.strip()))
    return turns


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if any(part["type"] != "text" for part in content):
        raise Refusal(
            400,
            "invalid_value",
            "The emulator's local model reads text only; use --engine echo for other content parts.",
            param="messages",
        )
    return "\n".join(part["text"] for part in content)


def constraint(call: ChatCall) -> dict[str, Any]:
    """Return the fields by which llama.cpp is told what JSON the answer must be; none for plain text."""
    schema = call.calls[0].parameters if call.calls else call.json_schema
    if schema is None:
        return {}
    if not schema and not call.calls:
        return {"grammar": _ANY_OBJECT}
    return {"json_schema": {"x-guidance": {"whitespace_flexible": False}, **simplified(schema)}}


_MAX_DEPTH: Final = 8
_TEXT_LENGTH: Final = 64  # of a string with no limit of its own; small models do not know when to stop
_MAX_ITEMS: Final = 4
_MAX_NUMBER: Final = 1_000_000
_FORMATS: Final = frozenset({"date", "date-time", "time", "uuid"})


def simplified(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema whose values the given one accepts, in words that llama.cpp's grammar knows.

    llama.cpp ignores a schema altogether if it holds a keyword that it does not know, so everything else is left out.
    Objects get no members beyond those named, strings and arrays an end.
    """
    return _simplified(schema, schema, 0)


def _simplified(schema: Any, root: Any, depth: int) -> dict[str, Any]:  # noqa: C901 - one case for each keyword
    schema = resolve(schema, root)
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return {"type": "null"}
    if "const" in schema:
        return {"const": schema["const"]}
    if schema.get("enum"):
        return {"enum": schema["enum"]}
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return {"anyOf": [_simplified(option, root, depth + 1) for option in schema[key]]}
    if isinstance(schema.get("type"), list):
        return {"anyOf": [_simplified({**schema, "type": each}, root, depth + 1) for each in schema["type"]]}
    kind = type_of({"type": "object", **schema} if depth == 0 else schema)
    if kind == "object":
        return _object(schema, root, depth)
    if kind == "array":
        least = _whole(schema.get("minItems"), 0)
        most = max(least, min(_whole(schema.get("maxItems"), _MAX_ITEMS), _MAX_ITEMS))
        items = _simplified(schema.get("items", {}), root, depth + 1)
        return {"type": "array", "items": items, "minItems": least, "maxItems": most}
    if kind == "string":
        return _string(schema)
    if kind in {"integer", "number"}:
        low, high = schema.get("minimum", -_MAX_NUMBER), schema.get("maximum", _MAX_NUMBER)
        return {"type": kind, "minimum": low, "maximum": max(low, high)}
    return {"type": kind if kind in {"boolean", "null"} else "null"}


def _object(schema: dict[str, Any], root: Any, depth: int) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required: list[str] = []
    for part in (schema, *schema.get("allOf", ())):
        resolved = resolve(part, root)
        if isinstance(resolved, dict):
            properties |= resolved.get("properties") or {}
            required += resolved.get("required") or []
    return {
        "type": "object",
        "properties": {name: _simplified(value, root, depth + 1) for name, value in properties.items()},
        "required": [name for name in properties if name in required],
        "additionalProperties": False,
    }


def _string(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("format") in _FORMATS:
        return {"type": "string", "format": schema["format"]}
    least = _whole(schema.get("minLength"), 0)
    most = min(_whole(schema.get("maxLength"), _TEXT_LENGTH), max(_TEXT_LENGTH, least))
    return {"type": "string", "minLength": least, "maxLength": max(least, most)}


def _whole(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default
