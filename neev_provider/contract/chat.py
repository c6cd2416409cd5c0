"""`POST /v1/chat/completions`: what a request must hold and what of it goes upstream.

The ranges are NeevAI's (`NEEV_API.md`, "Chat request"); what that page calls unknown (seed, logprobs, json_schema,
image parts, ...) passes unchecked. Called by the gateway's chat route and, with Python objects, by the adapter.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from neev_provider.contract.fields import LITELLM_ONLY_FIELDS, refuse_forbidden
from neev_provider.contract.messages import AnyObject, Messages, Text, adapt_messages, check_messages
from neev_provider.contract.sampling import (  # noqa: TC001 - msgspec reads them
    Choices,
    Flag,
    Penalty,
    Stop,
    Temperature,
    TokenLimit,
    TopP,
)
from neev_provider.contract.schema import ModelName, Schema, Shape, invalid, read_fields
from neev_provider.errors import RequestError
from neev_provider.usage import size_as_ascii

if TYPE_CHECKING:
    from collections.abc import KeysView, Mapping

__all__ = ["ChatBody", "ChatRequest", "object_to_json", "parse_chat", "parse_chat_object"]

_Name = Annotated[str, Meta(min_length=1, description="a non-empty string")]
_Type = Annotated[Literal["function"], Meta(description="function")]


class Function(Shape):
    name: _Name
    description: Text | None = None
    parameters: Annotated[AnyObject, Meta(description="an object, a JSON schema")] | None = None


class Tool(Shape):
    type: _Type
    function: Annotated[Function, Meta(description="an object with a name")]


class ChosenFunction(Shape):
    name: _Name


class ToolChoice(Shape):
    function: Annotated[ChosenFunction, Meta(description="an object with a name")]
    type: _Type | None = None


class ResponseFormat(Shape):
    type: Annotated[
        Literal["text", "json_object", "json_schema"],
        Meta(description="one of text, json_object, json_schema"),
    ]


class StreamOptions(Shape):
    include_usage: Flag | None = None


class ChatBody(Shape):
    """A chat request: the fields that NeevAI states a rule for; others are passed on. null counts as absent."""

    model: ModelName
    messages: Messages
    temperature: Temperature | None = None
    top_p: TopP | None = None
    n: Choices | None = None
    stream: Flag | None = None
    stop: Stop = None
    max_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    response_format: Annotated[ResponseFormat, Meta(description="an object with a type")] | None = None
    tools: (
        Annotated[
            list[Annotated[Tool, Meta(description="an object with type and function")]],
            Meta(description="an array of function tools"),
        ]
        | None
    ) = None
    tool_choice: Annotated[
        Literal["none", "auto", "required"] | ToolChoice | None,
        Meta(description="none, auto, required or an object that names a function"),
    ] = None
    stream_options: Annotated[StreamOptions, Meta(description="an object")] | None = None


_SCHEMA: Final = Schema(ChatBody)
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
# What a model bills as prompt, in raw JSON.
_PROMPT_FIELDS: Final = ("messages", "tools", "functions", "response_format")
_NEVER_DROPPED: Final = frozenset({"model", "messages", "stream"})


class ChatRequest(msgspec.Struct, frozen=True, eq=False, gc=False, kw_only=True):
    """A chat request that NeevAI will understand.

    Attributes:
        model: the name the client asked for.
        stream: whether the answer is to be streamed.
        n: how many completions are wanted, 1 to 128.
        max_tokens: the client's own bound of the output in tokens, or None. `max_completion_tokens` wins over
            `max_tokens`.
        include_usage: whether the client asked to be shown usage in its stream.
        prompt_bytes: size of messages, tools, functions and response_format as raw JSON, for token estimates; what
            is not ASCII counts as the ASCII that would be as many tokens.
        has_tools: whether any tool is offered.
        litellm_only: the fields that only LiteLLM understands; not empty = the request is LiteLLM's to answer.
    """

    model: str
    stream: bool
    n: int
    max_tokens: int | None
    include_usage: bool
    prompt_bytes: int
    has_tools: bool
    litellm_only: frozenset[str]
    _body: dict[str, msgspec.Raw]
    _stream_options: dict[str, msgspec.Raw]  # without include_usage

    @property
    def fields(self) -> KeysView[str]:
        """Names of the top-level fields as upstream knows them (`max_completion_tokens` is `max_tokens`)."""
        return self._body.keys()

    def encode(
        self,
        *,
        model: str,
        include_usage: bool = False,
        max_tokens: int | None = None,
        refused: frozenset[str] = frozenset(),
    ) -> bytes:
        """Return the body for upstream: the client's, with the changes of DESIGN section 3 and no others.

        Args:
            model: upstream's id of the model.
            include_usage: whether to ask for usage; matters for streams only.
            max_tokens: the output bound to send in place of the client's, if any.
            refused: fields that this model does not take, by upstream's names. model, messages and stream stay.
        """
        body: dict[str, Any] = {**self._body, "model": model}
        if max_tokens is not None:
            body["max_tokens"] = max_tokens
        if self.stream:
            self._ask_for_usage(body, include_usage)
        for name in refused - _NEVER_DROPPED:
            body.pop(name, None)
        return msgspec.json.encode(body)

    def _ask_for_usage(self, body: dict[str, Any], include_usage: bool) -> None:
        if include_usage:
            body["stream_options"] = {**self._stream_options, "include_usage": True}
        elif self._stream_options:
            body["stream_options"] = self._stream_options
        else:
            body.pop("stream_options", None)


def parse_chat(body: bytes) -> ChatRequest:
    """Read and check the body of a chat request.

    Raises:
        RequestError: whatever is wrong with it, with `param`. Nothing else is raised, whatever the bytes.
    """
    fields = read_fields(body)
    refuse_forbidden(fields, _SCHEMA.fields)
    checked = _SCHEMA.check(body)
    changed = check_messages(checked.messages)
    _check_tool_choice(checked)
    if changed:
        fields["messages"] = adapt_messages(fields["messages"], changed)
    if "max_completion_tokens" in fields:
        fields = _with_one_limit(fields, checked)
    options = checked.stream_options
    other_options = {} if options is None else _OBJECT.decode(fields["stream_options"])
    other_options.pop("include_usage", None)
    return ChatRequest(
        model=checked.model,
        stream=checked.stream is True,
        n=checked.n or 1,
        max_tokens=checked.max_completion_tokens or checked.max_tokens,
        include_usage=checked.stream is True and options is not None and options.include_usage is True,
        prompt_bytes=_prompt_bytes(fields, is_ascii=body.isascii()),
        has_tools=bool(checked.tools),
        litellm_only=LITELLM_ONLY_FIELDS.intersection(fields),
        _body=fields,
        _stream_options=other_options,
    )


def _prompt_bytes(fields: Mapping[str, msgspec.Raw], *, is_ascii: bool) -> int:
    parts = [fields[name] for name in _PROMPT_FIELDS if name in fields]
    return sum(map(len, parts)) if is_ascii else sum(size_as_ascii(bytes(part)) for part in parts)


def parse_chat_object(fields: Mapping[str, Any]) -> ChatRequest:
    """Read and check a chat request held as Python objects, as `json.loads` would give them.

    Raises:
        RequestError: as `parse_chat`; also for what JSON cannot express: NaN, bytes, objects, lone surrogates.
    """
    return parse_chat(object_to_json(fields))


def object_to_json(fields: Mapping[str, Any]) -> bytes:
    """Return a body held as Python objects as the bytes that it would be sent as.

    Raises:
        RequestError: it holds what JSON cannot express.
    """
    try:
        return _to_json(dict(fields))
    except _NOT_JSON:
        raise _inexpressible(fields) from None


_NOT_JSON: Final = (TypeError, ValueError, RecursionError)


def _to_json(value: object) -> bytes:
    # Not msgspec's encoder: it writes NaN as null and bytes as base64, which would hide the mistake.
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _inexpressible(fields: Mapping[str, Any]) -> RequestError:
    """Find the field that JSON cannot express."""
    for name, value in fields.items():
        try:
            _to_json({name: None})
        except _NOT_JSON:
            break  # a name that cannot be written cannot be told either
        try:
            _to_json(value)
        except _NOT_JSON:
            return invalid(str(name), "something that JSON can express")
    return RequestError("invalid_json", "The request cannot be written as JSON.")


def _check_tool_choice(checked: ChatBody) -> None:
    choice = checked.tool_choice
    if isinstance(choice, ToolChoice) and all(
        tool.function.name != choice.function.name for tool in checked.tools or ()
    ):
        raise invalid("tool_choice", "none, auto, required or the name of one of the tools")


def _with_one_limit(fields: dict[str, msgspec.Raw], checked: ChatBody) -> dict[str, msgspec.Raw]:
    """Return the fields with `max_completion_tokens` called `max_tokens`, where it stands."""
    dropped = "max_completion_tokens" if checked.max_completion_tokens is None else "max_tokens"
    return {
        "max_tokens" if name == "max_completion_tokens" else name: value
        for name, value in fields.items()
        if name != dropped
    }
