"""The members that every chunk of a stream repeats before its choices: found once, then recognised by their bytes.

Responsible for telling that some bytes are one ordinary chunk without searching what is known of it, and for showing
it under the name that the client asked for. Whatever is unusual is not recognised, and goes the way of all events
(`sse.py`), which comes to the same. Called by `gateway/relay.py`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from neev_provider.sse import NULL, model_at

__all__ = ["Envelope"]

_START: Final = b"data: {"
# What the chunk is searched for is not looked for in its envelope; an escape might hide it.
_NEVER_WITHIN: Final = (b'"usage"', b'"error"', b"\\", b"\n", b"\r")
_MEMBERS: Final = msgspec.json.Decoder(dict[str, str | int | float | bool | None])


class Envelope:
    """What the chunks of one stream begin with.

    Most upstreams write `id`, `object`, `created` and `model` first, and the same ones in every chunk, so that two
    chunks in a row tell all up to the end of the model's name. When it changes, as `created` may, it is learnt anew.

    Args:
        name: the model's name for the client as a JSON string, in its quotes.
    """

    __slots__ = ("_candidate", "_given", "_name", "_shown", "_size")

    def __init__(self, name: bytes) -> None:
        self._name: Final = name
        self._candidate = b""
        self._given: bytes | None = None
        self._shown: bytes | None = None  # None if the names are the same
        self._size = 0

    def open(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Recognise one whole chunk that is neither usage nor an error.

        Returns:
            The chunk as the client is to see it, and the same event without its envelope, for the meter; None if it
            is anything else.
        """
        given = self._given
        if given is None or not data.startswith(given):
            return None
        rest = data[self._size :]
        # One line, and nothing that an event is searched for; find(), as everywhere.
        if rest.find(b"\n") != len(rest) - 2 or not rest.endswith(b"\n\n") or rest.find(b"\r") >= 0:
            return None
        if rest.rfind(b'"error"') >= 0:
            return None
        usage = rest.rfind(b'"usage"')
        if usage >= 0 and not rest.startswith(NULL, usage + 7):
            return None
        shown = self._shown
        return data if shown is None else shown + rest, _START + rest

    def learn(self, event: bytes) -> None:
        """Take note of an ordinary event that was not recognised."""
        place = model_at(event)
        if place is None:
            return
        start, end = place
        candidate = event[: end + 1]
        if candidate != self._candidate:
            self._candidate = candidate
        elif event.startswith(_START) and candidate.endswith(b",") and _is_flat(candidate):
            self._given, self._size = candidate, len(candidate)
            self._shown = None if event[start:end] == self._name else event[:start] + self._name + b","


def _is_flat(envelope: bytes) -> bool:
    """Tell whether these are whole members of the chunk itself, the model's name the last, and plain values all."""
    if any(envelope.find(member) >= 0 for member in _NEVER_WITHIN):
        return False
    try:
        members = _MEMBERS.decode(envelope[len(_START) - 1 : -1] + b"}")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return isinstance(members.get("model"), str)
