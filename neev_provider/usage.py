"""What a call used: tokens as upstream counted them, what they cost, and an estimate where it did not say.

Responsible for reading usage of any shape, for integer cost, and for the one rule by which tokens are estimated.
Not responsible for prices (`catalog.py`) nor for who pays (`admission.py`). Called by both doors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from neev_provider.sse import Signal, data_of, finish_reason_of, signal_of, usage_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from neev_provider.catalog import Price

__all__ = [
    "StreamMeter",
    "Usage",
    "cost_nanos",
    "estimate_tokens",
    "parse_usage",
    "size_as_ascii",
    "speech_cost_nanos",
]

# A hundred times the largest context in the catalog: a larger count is an upstream's fault, not a bill.
_MAX_TOKENS: Final = 100_000_000

# Bytes of UTF-8 per token. ASCII: OpenAI's rule of thumb for English (help.openai.com, "What are tokens and how
# to count them?"). Other scripts: measured with cl100k_base, 3.0 for Chinese, Japanese and Korean, 4.5 for
# Russian, 2.8 for Arabic, 2.5 for Hindi. English prose comes out 10 to 40 % high, dense JSON 10 % low.
_ASCII_BYTES_PER_TOKEN: Final = 4
_OTHER_BYTES_PER_TOKEN: Final = 3
_NOT_ASCII: Final = bytes(range(128, 256))
_OBJECT_BYTES: Final = 48  # that Python needs for some bytes beside them


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one call.

    Attributes:
        prompt_tokens: tokens read.
        completion_tokens: tokens produced, reasoning included.
        cached_tokens: those of the prompt that upstream had in its cache.
        reasoning_tokens: those of the completion that were reasoning.
        estimated: whether this is our estimate, upstream having given no usable count.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False

    @property
    def total_tokens(self) -> int:
        """Tokens read and produced."""
        return self.prompt_tokens + self.completion_tokens


def parse_usage(value: object) -> Usage | None:
    """Read the `usage` object of an answer or chunk.

    Counts may be integers, whole floats or digits in a string. One of the two counts may be missing if the total
    tells it. Details that make no sense are dropped or cut to the count that holds them.

    Returns:
        None if upstream's count cannot be used: absent, negative, fractional, above 100 million, or all zero
        (which placeholders are, and no real call is).
    """
    if not isinstance(value, dict):
        return None
    prompt, completion = _count(value.get("prompt_tokens")), _count(value.get("completion_tokens"))
    total = _count(value.get("total_tokens"))
    if prompt is None and completion is not None and total is not None:
        prompt = total - completion
    elif completion is None and prompt is not None and total is not None:
        completion = total - prompt
    if prompt is None or completion is None or min(prompt, completion) < 0 or prompt + completion == 0:
        return None
    return Usage(
        prompt,
        completion,
        cached_tokens=min(prompt, _detail(value, "prompt_tokens_details", "cached_tokens")),
        reasoning_tokens=min(completion, _detail(value, "completion_tokens_details", "reasoning_tokens")),
    )


def _count(value: object) -> int | None:
    if isinstance(value, str):
        # isascii() first: isdigit() also takes digits that int() refuses.
        value = int(value) if value.isascii() and value.isdigit() and len(value) < 10 else None  # noqa: PLR2004
    elif isinstance(value, float):
        value = int(value) if value.is_integer() else None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_TOKENS:
        return None
    return value


def _detail(usage: dict[str, Any], group: str, name: str) -> int:
    details = usage.get(group)
    return _count(details.get(name)) or 0 if isinstance(details, dict) else 0


def cost_nanos(price: Price, usage: Usage) -> int:
    """Return what a chat call cost, in integer nano-USD.

    Prompt tokens from upstream's cache cost `price.cached_prompt_nanos` if that is known, else the prompt's price.
    """
    cached_price = price.prompt_nanos if price.cached_prompt_nanos is None else price.cached_prompt_nanos
    return (
        (usage.prompt_tokens - usage.cached_tokens) * price.prompt_nanos
        + usage.cached_tokens * cached_price
        + usage.completion_tokens * price.completion_nanos
    )


def speech_cost_nanos(price: Price, characters: int) -> int:
    """Return what a speech call cost, in integer nano-USD.

    Args:
        price: a speech model's price.
        characters: how many characters are charged.

    Raises:
        ValueError: the price is a chat model's.
    """
    if price.character_nanos is None:
        raise ValueError("the price has no character_nanos")
    return characters * price.character_nanos


def estimate_tokens(content: int | str | bytes) -> int:
    """Estimate tokens without a tokenizer: four ASCII bytes, or three other bytes of UTF-8, to a token.

    Deterministic; rounded up, so that only nothing counts 0.

    Args:
        content: text, UTF-8, or only its length in bytes, which is then taken to be ASCII.

    Raises:
        ValueError: a negative length.
    """
    if isinstance(content, int):
        if content < 0:
            raise ValueError("a length cannot be negative")
        return -(-content // _ASCII_BYTES_PER_TOKEN)
    ascii_bytes, other_bytes = _split_bytes(content)
    return _tokens(ascii_bytes, other_bytes)


def size_as_ascii(content: bytes) -> int:
    """Return the length of an ASCII text that `estimate_tokens` takes for as many tokens as this UTF-8."""
    ascii_bytes, other_bytes = _split_bytes(content)
    return ascii_bytes - (-other_bytes * _ASCII_BYTES_PER_TOKEN // _OTHER_BYTES_PER_TOKEN)


def _tokens(ascii_bytes: int, other_bytes: int) -> int:
    thirds_and_quarters = ascii_bytes * _OTHER_BYTES_PER_TOKEN + other_bytes * _ASCII_BYTES_PER_TOKEN
    return -(-thirds_and_quarters // (_ASCII_BYTES_PER_TOKEN * _OTHER_BYTES_PER_TOKEN))


def _split_bytes(text: str | bytes) -> tuple[int, int]:
    """Return how many bytes of UTF-8 are ASCII and how many are not."""
    if text.isascii():
        return len(text), 0
    encoded = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    ascii_bytes = len(encoded.translate(None, _NOT_ASCII))
    return ascii_bytes, len(encoded) - ascii_bytes


class StreamMeter:
    """Watches a stream's events as they are relayed and says in the end what the stream used.

    Ordinary events are kept as they are, up to a bound, and decoded only when more come or when the stream ends
    without usage: keeping one costs a tenth of decoding it, and most streams are short or end with usage.

    Args:
        prompt_bytes: size of the prompt, for the estimate.
        choices: how many were asked for.

    Attributes:
        done: whether `[DONE]` was seen; a stream that ends without it was cut, unless its choices have `ended`.
    """

    PENDING_BYTES: Final = 32 * 1024
    """How much is kept undecoded: some 250 chunks, and for 1,000 streams at once 32 MB at most."""

    __slots__ = (
        "_ascii_bytes",
        "_begun",
        "_choices",
        "_ended",
        "_finish_reason",
        "_other_bytes",
        "_pending",
        "_prompt_bytes",
        "_room",
        "_usage",
        "done",
    )

    def __init__(self, prompt_bytes: int, choices: int = 1) -> None:
        self.done = False
        self._choices: Final = choices
        # Indexes of choices, kept only where there are several.
        self._begun: set[str] = set()
        self._ended: set[str] = set()
        self._prompt_bytes: Final = prompt_bytes
        self._usage: Usage | None = None
        self._finish_reason: str | None = None
        # What was produced since the last usage: counted, and not yet counted.
        self._ascii_bytes = 0
        self._other_bytes = 0
        self._pending: list[bytes] = []
        self._room = self.PENDING_BYTES

    def observe(self, event: bytes) -> Signal | None:
        """Take note of the next event; return what is special about it, as `signal_of` does."""
        signal = signal_of(event)
        if signal is Signal.DONE:
            self.done = True
        elif signal is None or (signal is Signal.USAGE and not self._take_usage(event)):
            self.keep(event)
        return signal

    def keep(self, event: bytes) -> None:
        """Do as `observe` for an event of which it is known that nothing is special about it."""
        self._pending.append(event)
        self._room -= len(event) + _OBJECT_BYTES
        if self._room < 0:
            self._count_pending()

    @property
    def finish_reason(self) -> str | None:
        """Why a choice ended, as upstream put it; None if none has ended so far."""
        if self._finish_reason is None:
            # The last events first: that is where it stands.
            reasons = map(finish_reason_of, reversed(self._pending))
            self._finish_reason = next((reason for reason in reasons if reason is not None), None)
        return self._finish_reason

    @property
    def ended(self) -> bool:
        """Whether every choice that began has ended, and one has."""
        if self._choices == 1:
            return self.finish_reason is not None
        self._note_ends(self._pending)
        return bool(self._ended) and self._begun <= self._ended

    def usage(self) -> Usage:
        """Return upstream's last count or, where there is none, an estimate from the prompt and what was relayed.

        A count that more output followed (an upstream that counts as it goes, and a client that went away) is
        completed by an estimate of the rest.
        """
        self._count_pending()
        rest = _tokens(self._ascii_bytes, self._other_bytes)
        if self._usage is None:
            return Usage(estimate_tokens(self._prompt_bytes), rest, estimated=True)
        if rest == 0:
            return self._usage
        return msgspec.structs.replace(
            self._usage, completion_tokens=self._usage.completion_tokens + rest, estimated=True
        )

    def _take_usage(self, event: bytes) -> bool:
        usage = parse_usage(usage_of(event))
        if usage is None:
            return False  # a placeholder, and the chunk a chunk like others
        self._finish_reason = self.finish_reason or finish_reason_of(event)
        if self._choices > 1:
            self._note_ends((*self._pending, event))
        self._usage = usage
        self._ascii_bytes = self._other_bytes = 0
        self._pending.clear()
        self._room = self.PENDING_BYTES
        return True

    def _note_ends(self, events: Iterable[bytes]) -> None:
        for event in events:
            for choice in _choices_of(event):
                self._begun.add(str(choice.index))
                if choice.finish_reason:
                    self._ended.add(str(choice.index))

    def _count_pending(self) -> None:
        if self._choices > 1:
            self._note_ends(self._pending)
        for event in self._pending:
            for choice in _choices_of(event):
                if choice.finish_reason and self._finish_reason is None:
                    self._finish_reason = str(choice.finish_reason)
                if choice.delta is not None:
                    for text in choice.delta.texts():
                        ascii_bytes, other_bytes = (len(text), 0) if text.isascii() else _split_bytes(text)
                        self._ascii_bytes += ascii_bytes
                        self._other_bytes += other_bytes
        self._pending.clear()
        self._room = self.PENDING_BYTES


class _Delta(msgspec.Struct):
    """What of a delta the model wrote, and is paid for. Untyped, for upstreams send odd chunks."""

    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None

    def texts(self) -> list[str]:
        # Some upstreams send the same reasoning under both names.
        parts = (
            self.content,
            self.reasoning_content or self.reasoning,
            self.refusal,
            self.tool_calls,
            self.function_call,
        )
        return [text for part in parts if part for text in _texts(part)]


class _Choice(msgspec.Struct):
    index: Any = 0
    delta: _Delta | None = None
    finish_reason: Any = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None


_CHUNK: Final = msgspec.json.Decoder(_Chunk)
_NOT_WRITTEN: Final = frozenset({"id", "type", "index"})  # of a tool call or content part


def _choices_of(event: bytes) -> list[_Choice]:
    data = data_of(event)
    if data is None:
        return []
    try:
        return _CHUNK.decode(data).choices or []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = [item for name, item in value.items() if name not in _NOT_WRITTEN]
    return [text for item in value for text in _texts(item)] if isinstance(value, list) else []
