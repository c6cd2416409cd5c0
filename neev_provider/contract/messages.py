"""The `messages` array: what each role must bring, and the two changes that upstream needs.

Roles are NeevAI's (system, user, assistant, tool) and OpenAI's `developer`, which becomes `system`. Tool-call history
whose `function.arguments` is not valid JSON is refused upstream; as in the vendor's recipes it becomes `{}`
(`NEEV_API.md`, "Chat request"). Everything else in a message, known or not, is left as it came. Called by `chat.py`.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from neev_provider.contract.schema import Shape, missing

__all__ = ["Messages", "adapt_messages", "check_messages"]

Text = Annotated[str, Meta(description="a string")]


class AnyObject(Shape):
    """A JSON object that nothing is asked of."""


class Part(Shape):
    """A content part. Which types a model understands is upstream's to say."""

    type: Annotated[str, Meta(min_length=1, description="a non-empty string, such as text or image_url")]
    text: Text | None = None


# An empty string is content, as at OpenAI; an empty array is not.
Content = Annotated[
    str | Annotated[list[Annotated[Part, Meta(description="an object with a type")]], Meta(min_length=1)],
    Meta(description="a string or an array of at least 1 content part"),
]


class CalledFunction(Shape):
    """What an assistant called, told back as history. Arguments that are absent become `{}`."""

    name: Annotated[str, Meta(min_length=1, description="a non-empty string")]
    arguments: Annotated[str, Meta(description="a string that holds JSON")] | None = None


class ToolCall(Shape):
    """One call in an assistant message. Clients exist that leave the type out."""

    id: Text
    function: Annotated[CalledFunction, Meta(description="an object with name and arguments")]
    type: Annotated[Literal["function"], Meta(description="function")] | None = None


class SystemMessage(Shape, tag_field="role", tag="system"):
    """`{"role": "system"}`."""

    content: Content
    name: Text | None = None


class DeveloperMessage(Shape, tag_field="role", tag="developer"):
    """`{"role": "developer"}`: OpenAI's newer word for system."""

    content: Content
    name: Text | None = None


class UserMessage(Shape, tag_field="role", tag="user"):
    """`{"role": "user"}`."""

    content: Content
    name: Text | None = None


class AssistantMessage(Shape, tag_field="role", tag="assistant"):
    """`{"role": "assistant"}`. SDKs echo their own answer objects, hence the fields that are null.

    `function_call` (OpenAI's legacy form of a tool call), `refusal` and `audio` stand for content.
    """

    content: Content | None = None
    tool_calls: (
        Annotated[
            list[Annotated[ToolCall, Meta(description="an object with id and function")]],
            Meta(description="an array of tool calls"),
        ]
        | None
    ) = None
    function_call: Annotated[AnyObject, Meta(description="an object")] | None = None
    refusal: Text | None = None
    audio: Annotated[AnyObject, Meta(description="an object")] | None = None
    name: Text | None = None


class ToolMessage(Shape, tag_field="role", tag="tool"):
    """`{"role": "tool"}`: what a tool answered."""

    content: Content
    tool_call_id: Text
    name: Text | None = None


# The order is the one in which an error lists the roles.
Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage
Messages = Annotated[
    list[Annotated[Message, Meta(description="an object with role and content")]],
    Meta(min_length=1, description="an array of at least 1 message"),
]

_JSON: Final = msgspec.json.Decoder(msgspec.Raw)
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])


def check_messages(messages: list[Message]) -> dict[int, Message]:
    """Check what no single field can tell, and find the messages that upstream needs changed.

    Returns:
        Those messages by their position, for `adapt_messages`; mostly none.

    Raises:
        RequestError: an assistant message says nothing, or a text part has no text.
    """
    changed: dict[int, Message] = {}
    for index, message in enumerate(messages):
        content = message.content
        # `type() is`, for isinstance asks a struct's metaclass, which takes as long as decoding the message did.
        if type(content) is list:
            _check_parts(content, f"messages[{index}].content")
        if type(message) is AssistantMessage:
            if content is None and not _says_something(message):
                raise missing(
                    f"messages[{index}].content",
                    "a string or an array of content parts, unless the message has tool_calls",
                )
            if message.tool_calls and any(map(_is_broken, message.tool_calls)):
                changed[index] = message
        elif type(message) is DeveloperMessage:
            changed[index] = message
    return changed


def adapt_messages(messages: msgspec.Raw, changed: dict[int, Message]) -> msgspec.Raw:
    """Return the array with the messages in `changed` adapted and all others byte for byte as they came."""
    adapted: list[object] = []
    for index, raw in enumerate(_ARRAY.decode(messages)):
        message = changed.get(index)
        adapted.append(raw if message is None else _adapt(raw, message))
    return msgspec.Raw(msgspec.json.encode(adapted))


def _check_parts(parts: list[Part], place: str) -> None:
    for index, part in enumerate(parts):
        if part.type == "text" and part.text is None:
            raise missing(f"{place}[{index}].text", "a string")


def _says_something(message: AssistantMessage) -> bool:
    others = (message.function_call, message.refusal, message.audio)
    return bool(message.tool_calls) or any(other is not None for other in others)


def _is_broken(call: ToolCall) -> bool:
    try:
        _JSON.decode(call.function.arguments or "")
    except (msgspec.DecodeError, RecursionError):
        return True
    return False


def _adapt(raw: msgspec.Raw, message: Message) -> dict[str, object]:
    came = _OBJECT.decode(raw)
    if isinstance(message, DeveloperMessage):
        return {**came, "role": "system"}
    if isinstance(message, AssistantMessage) and message.tool_calls:
        calls = _ARRAY.decode(came["tool_calls"])
        mended = [
            _without_arguments(one) if _is_broken(call) else one
            for one, call in zip(calls, message.tool_calls, strict=True)
        ]
        return {**came, "tool_calls": mended}
    return {**came}


def _without_arguments(raw: msgspec.Raw) -> dict[str, object]:
    call = _OBJECT.decode(raw)
    return {**call, "function": {**_OBJECT.decode(call["function"]), "arguments": "{}"}}
