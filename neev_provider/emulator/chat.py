"""`POST /v1/chat/completions`: from a checked body to an engine's call, and the answer that is not streamed.

Streams are `stream.py`'s. Called by `app.py`, which has checked key, faults and body.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from neev_provider.emulator.engine import ChatCall
from neev_provider.emulator.faults import MAX_STALL_SECONDS
from neev_provider.emulator.steering import Steering, read_steering
from neev_provider.emulator.stream import ChatStream
from neev_provider.emulator.thinking import Thinking
from neev_provider.emulator.tools import choose_tools
from neev_provider.emulator.wire import completion, head, usage_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from neev_provider.catalog import Model
    from neev_provider.emulator.engine import Engine, Generation
    from neev_provider.emulator.exchange import Exchange
    from neev_provider.emulator.faults import Faults
    from neev_provider.emulator.stats import Record
    from neev_provider.emulator.steering import Lines

__all__ = ["answer_chat", "build_call", "last_user_text"]

_PLAIN: Final = Steering()


def last_user_text(messages: Any) -> str:
    """Return the text of the last user message; "" if there is none. Bears with any shape: nothing is checked yet."""
    for message in reversed(messages) if isinstance(messages, list) else ():
        if isinstance(message, dict) and message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, str):
                return content
            if isinstance(content, list):
                texts = [part.get("text") for part in content if isinstance(part, dict)]
                return "\n".join(text for text in texts if isinstance(text, str))
            return ""
    return ""


def build_call(body: dict[str, Any], model: Model, lines: Lines, echo: str | None) -> ChatCall:
    """Return what an engine is asked, from a checked request.

    Args:
        body: the request.
        model: its model.
        lines: the last user message's text and the steering that stood in it.
        echo: the `x-neev-echo` header, which wins over the one in the text.

    Raises:
        Refusal: the steering is wrong.
    """
    steering = echo if echo is not None else lines.echo
    stop = body.get("stop")
    return ChatCall(
        model=model.id,
        messages=_without_lines(body["messages"], lines),
        sent_messages=body["messages"],
        text=lines.text,
        n=body.get("n", 1),
        max_tokens=body.get("max_tokens"),
        stop=(stop,) if isinstance(stop, str) else tuple(stop or ()),
        temperature=body.get("temperature"),
        top_p=body.get("top_p"),
        seed=body.get("seed"),
        presence_penalty=body.get("presence_penalty", 0.0),
        frequency_penalty=body.get("frequency_penalty", 0.0),
        json_schema=_json_schema(body.get("response_format")),
        calls=choose_tools(body, lines.text),
        context_window=model.context_window,
        steering=_PLAIN if steering is None else read_steering(steering),
    )


def _without_lines(messages: list[dict[str, Any]], lines: Lines) -> list[dict[str, Any]]:
    if lines.echo is None and lines.fault is None:
        return messages
    index = max(index for index, message in enumerate(messages) if message["role"] == "user")
    return [*messages[:index], {**messages[index], "content": lines.text}, *messages[index + 1 :]]


def _json_schema(response_format: dict[str, Any] | None) -> dict[str, Any] | None:
    if response_format is None or response_format["type"] == "text":
        return None
    if response_format["type"] == "json_object":
        return {}
    schema: dict[str, Any] = response_format["json_schema"]["schema"]
    return schema


async def answer_chat(
    exchange: Exchange,
    engine: Engine,
    call: ChatCall,
    faults: Faults,
    record: Record,
    *,
    stream: bool,
    include_usage: bool,
    stream_started: Callable[[], None],
) -> None:
    """Answer a chat request.

    Args:
        exchange: the request.
        engine: what answers it.
        call: what was asked.
        faults: what goes wrong.
        record: where the generation is noted for the statistics.
        stream: whether the answer is streamed.
        include_usage: whether a stream reports usage.
        stream_started: called once a stream begins.

    Raises:
        Refusal: the engine does not take the prompt; nothing was sent.
        ClientGone: the client left.
    """
    if faults.think is None:
        generation: Generation = engine.chat(call)
    else:
        generation = Thinking(engine, call, closed=faults.think == "closed")
    record.generation = generation
    beginning = head(call.model)
    try:
        if stream:
            events = ChatStream(exchange, generation, call, faults, beginning, include_usage=include_usage)
            await events.run(stream_started)
        else:
            await _answer_whole(exchange, generation, faults, beginning)
    finally:
        await generation.close()
        if faults.cached_tokens is not None:
            record.cached_tokens = min(faults.cached_tokens, generation.prompt_tokens)


async def _answer_whole(
    exchange: Exchange, generation: Generation, faults: Faults, beginning: dict[str, Any]
) -> None:
    if generation.instant:
        choices = await generation.choices()
    else:
        async with exchange.watching():
            choices = await generation.choices()
            # The counts are final before the client has the answer.
            await generation.close()
    body = orjson.dumps(completion(beginning, choices, usage_object(generation, faults), faults))
    if faults.cut_after is None and faults.stall_after is None:
        await exchange.respond(200, body)
        return
    await exchange.start(200, b"application/json", [(b"content-length", str(len(body)).encode())])
    await exchange.write(b"" if 0 in {faults.cut_after, faults.stall_after} else body[: len(body) // 2])
    if faults.cut_after is not None:
        await exchange.drop()
    else:
        await exchange.stall(MAX_STALL_SECONDS)
