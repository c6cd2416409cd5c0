"""What NeevAI accepts: each field's rule as data, and the checks that one table row cannot say.

Written from `neev_openapi.json` and NEEV_API.md alone, apart from the product's `contract.py`: two readings of the
same document catch each other's slips. Strict where the document is: what it does not call nullable may not be
null; `max_completion_tokens` and the role `developer` are refused (unknown to the service; an adapter that forwards
them should find out here). Unknown top-level fields are tolerated. A broken rule is a `Refusal` whose `rule` names
it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

import orjson

from neev_provider.emulator.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CHAT_FIELDS", "SPEECH_FIELDS", "check_chat", "check_speech", "read_json_object"]


def _refuse(param: str, rule: str, message: str, code: str = "invalid_value") -> NoReturn:
    raise Refusal(400, code, message, param=param, rule=rule)


class _Rule(Protocol):
    def check(self, name: str, value: Any) -> None: ...


def _wrong_type(name: str, expected: str) -> NoReturn:
    _refuse(name, f"{name}:type", f"'{name}' must be {expected}.", "invalid_type")


@dataclass(frozen=True, slots=True)
class _Number:
    low: float
    high: float

    def check(self, name: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            _wrong_type(name, "a number")
        if not self.low <= value <= self.high:
            side = "low" if value < self.low else "high"
            _refuse(name, f"{name}:{side}", f"'{name}' must be between {self.low:g} and {self.high:g}.")


@dataclass(frozen=True, slots=True)
class _Integer:
    low: int | None = None
    high: int | None = None
    nullable: bool = False

    def check(self, name: str, value: Any) -> None:
        if value is None and self.nullable:
            return
        if isinstance(value, bool) or not isinstance(value, int):
            _wrong_type(name, "an integer")
        if self.low is not None and value < self.low:
            _refuse(name, f"{name}:low", f"'{name}' must be at least {self.low}.")
        if self.high is not None and value > self.high:
            _refuse(name, f"{name}:high", f"'{name}' must be at most {self.high}.")


@dataclass(frozen=True, slots=True)
class _Of:
    types: tuple[type, ...]
    words: str

    def check(self, name: str, value: Any) -> None:
        if not isinstance(value, self.types):
            _wrong_type(name, self.words)


@dataclass(frozen=True, slots=True)
class _Choice:
    choices: tuple[str, ...]

    def check(self, name: str, value: Any) -> None:
        if value not in self.choices:
            words = " or ".join(f"'{choice}'" for choice in self.choices)
            _refuse(name, f"{name}:unknown", f"'{name}' must be {words}.")


class _Stop:
    most = 4

    def check(self, name: str, value: Any) -> None:
        if value is None or isinstance(value, str):
            return
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            _wrong_type(name, "a string or an array of strings")
        if len(value) > self.most:
            _refuse(name, f"{name}:many", f"'{name}' may hold at most {self.most} strings.")


class _ResponseFormat:
    # json_schema is unknown on the real service; accepted here so that its use can be tried.
    types = ("text", "json_object", "json_schema")

    def check(self, name: str, value: Any) -> None:
        if value is None:
            return
        if not isinstance(value, dict):
            _wrong_type(name, "an object")
        kind = value.get("type")
        if kind not in self.types:
            _refuse(
                f"{name}.type", f"{name}:unknown", f"'{name}.type' must be one of {', '.join(self.types)}."
            )
        if kind == "json_schema":
            inner = value.get("json_schema")
            if not isinstance(inner, dict) or not isinstance(inner.get("schema"), dict):
                _refuse(
                    f"{name}.json_schema", f"{name}:schema", f"'{name}.json_schema.schema' must be an object."
                )


class _Refused:
    def __init__(self, instead: str) -> None:
        self.instead = instead

    def check(self, name: str, value: Any) -> None:  # noqa: ARG002 - whatever the value
        _refuse(
            name,
            f"{name}:refused",
            f"Unsupported parameter: '{name}'. {self.instead}",
            "unsupported_parameter",
        )


_STRING: Final = _Of((str,), "a string")
_BOOLEAN: Final = _Of((bool,), "true or false")
_OBJECT_OR_NULL: Final = _Of((dict, type(None)), "an object")

# Ranges: NEEV_API.md, "Chat request".
CHAT_FIELDS: Final[Mapping[str, _Rule]] = {
    "model": _STRING,
    "messages": _Of((list,), "an array"),
    "temperature": _Number(0, 2),
    "top_p": _Number(0, 1),
    "n": _Integer(1, 128),
    "stream": _BOOLEAN,
    "stop": _Stop(),
    "max_tokens": _Integer(1, nullable=True),
    "presence_penalty": _Number(-2, 2),
    "frequency_penalty": _Number(-2, 2),
    "response_format": _ResponseFormat(),
    "tools": _Of((list, type(None)), "an array"),
    "tool_choice": _Of((str, dict, type(None)), "a string or an object"),
    "user": _STRING,
    "seed": _Integer(nullable=True),
    "logit_bias": _OBJECT_OR_NULL,
    "stream_options": _OBJECT_OR_NULL,
    "max_completion_tokens": _Refused("Use 'max_tokens'."),
}

# NEEV_API.md, "Speech".
SPEECH_FIELDS: Final[Mapping[str, _Rule]] = {
    "model": _STRING,
    "voice": _STRING,
    "input": _STRING,
    "response_format": _Choice(("mp3",)),
    "speed": _Number(0.25, 4),
}

_ROLES: Final = ("system", "user", "assistant", "tool")
_TOOL_CHOICES: Final = ("none", "auto", "required")


def read_json_object(body: bytes, content_type: str | None) -> dict[str, Any]:
    """Return the request body as a JSON object.

    Raises:
        Refusal: it is not JSON, not an object, or declared to be something else.
    """
    if content_type is not None and "json" not in content_type.lower():
        raise Refusal(
            400,
            "invalid_json",
            f"The body must be application/json, not {content_type}.",
            rule="body:media-type",
        )
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refusal(400, "invalid_json", "The body is not valid JSON.", rule="body:json") from None
    if not isinstance(parsed, dict):
        raise Refusal(400, "invalid_json", "The body must be a JSON object.", rule="body:object")
    return parsed


def _check_fields(fields: Mapping[str, _Rule], required: tuple[str, ...], body: dict[str, Any]) -> None:
    for name in required:
        if body.get(name) is None:
            _refuse(
                name,
                f"{name}:missing",
                f"Missing required parameter: '{name}'.",
                "missing_required_parameter",
            )
    for name, value in body.items():
        rule = fields.get(name)
        if rule is not None:
            rule.check(name, value)


def check_speech(body: dict[str, Any]) -> None:
    """Check a speech request's shape; its model and voice are the catalog's to know.

    Raises:
        Refusal: a rule is broken.
    """
    _check_fields(SPEECH_FIELDS, ("model", "voice", "input"), body)
    if not body["input"].strip():
        _refuse("input", "input:empty", "'input' must not be empty.")


def check_chat(body: dict[str, Any]) -> None:
    """Check a chat request's shape; its model is the catalog's to know.

    Raises:
        Refusal: a rule is broken.
    """
    _check_fields(CHAT_FIELDS, ("model", "messages"), body)
    messages = body["messages"]
    if not messages:
        _refuse("messages", "messages:empty", "'messages' must hold at least one message.")
    for index, message in enumerate(messages):
        _check_message(f"messages[{index}]", message)
    if body.get("tools") or body.get("tool_choice") is not None:
        _check_tools(body.get("tools") or [], body.get("tool_choice"))


def _check_message(where: str, message: Any) -> None:
    if not isinstance(message, dict):
        _wrong_type(where, "an object")
    role = message.get("role")
    if role not in _ROLES:
        _refuse(f"{where}.role", "role:unknown", f"'{where}.role' must be one of {', '.join(_ROLES)}.")
    content = message.get("content")
    calls = message.get("tool_calls")
    if isinstance(content, list):
        _check_parts(where, content)
    elif content is None:
        if role != "assistant" or not calls:
            _refuse(
                f"{where}.content",
                "content:missing",
                f"Missing required parameter: '{where}.content'.",
                "missing_required_parameter",
            )
    elif not isinstance(content, str):
        _refuse(
            f"{where}.content",
            "content:type",
            f"'{where}.content' must be a string or an array.",
            "invalid_type",
        )
    if calls is not None:
        _check_tool_history(where, calls)


def _check_parts(where: str, parts: list[Any]) -> None:
    if not parts:
        _refuse(f"{where}.content", "content:missing", f"'{where}.content' must not be empty.")
    for index, part in enumerate(parts):
        place = f"{where}.content[{index}]"
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            _refuse(place, "content:part", f"'{place}' must be an object with a 'type'.", "invalid_type")
        if part["type"] == "text" and not isinstance(part.get("text"), str):
            _refuse(f"{place}.text", "content:part", f"'{place}.text' must be a string.", "invalid_type")


def _check_tool_history(where: str, calls: Any) -> None:
    """Refuse calls whose arguments are not JSON: the service does (NEEV_API.md, certainty B)."""
    if not isinstance(calls, list):
        _wrong_type(f"{where}.tool_calls", "an array")
    for index, call in enumerate(calls):
        place = f"{where}.tool_calls[{index}].function"
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            _refuse(
                place, "tool-history:shape", f"'{place}' must be an object with a 'name'.", "invalid_type"
            )
        try:
            orjson.loads(function.get("arguments") or "")
        except (orjson.JSONDecodeError, TypeError):
            _refuse(f"{place}.arguments", "tool-history:json", f"'{place}.arguments' must be valid JSON.")


def _check_tools(tools: list[Any], choice: Any) -> None:
    names = {_tool_name(f"tools[{index}]", tool) for index, tool in enumerate(tools)}
    if isinstance(choice, str):
        if choice not in _TOOL_CHOICES:
            words = ", ".join(_TOOL_CHOICES)
            _refuse("tool_choice", "tool_choice:unknown", f"'tool_choice' must be one of {words}.")
        if choice == "required" and not names:
            _refuse(
                "tool_choice", "tool_choice:no-tools", "'tool_choice' is 'required' but 'tools' is empty."
            )
    elif choice is not None:
        function = choice.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if choice.get("type", "function") != "function" or not isinstance(name, str):
            _refuse("tool_choice", "tool_choice:shape", "'tool_choice' must name a function.")
        if name not in names:
            _refuse(
                "tool_choice", "tool_choice:unknown-tool", f"'tool_choice' names '{name}', not in 'tools'."
            )


def _tool_name(place: str, tool: Any) -> str:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or tool.get("type") != "function":
        _refuse(place, "tools:shape", f"'{place}' must be an object of type 'function'.")
    place += ".function"
    name = function.get("name")
    if not isinstance(name, str) or not name:
        _refuse(f"{place}.name", "tools:name", f"'{place}.name' must be a string.")
    if not isinstance(function.get("parameters", {}), dict):
        _refuse(f"{place}.parameters", "tools:schema", f"'{place}.parameters' must be an object.")
    return name
