"""`POST /v1/audio/speech`: what a request must hold and what of it goes upstream.

The ranges are NeevAI's (`NEEV_API.md`, "Speech"). Which voices a model has is catalog data, hence a check of its own.
Called by the gateway's speech route.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from neev_provider.contract.fields import LITELLM_ONLY_FIELDS, refuse_forbidden
from neev_provider.contract.schema import ModelName, Schema, Shape, invalid, read_fields

if TYPE_CHECKING:
    from collections.abc import KeysView

    from neev_provider.catalog import Model

__all__ = ["SpeechBody", "SpeechRequest", "billable_characters", "looks_like_audio", "parse_speech"]

_Filled = Annotated[str, Meta(min_length=1, description="a non-empty string")]


class SpeechBody(Shape):
    """A speech request: the fields that NeevAI states a rule for; others are passed on."""

    model: ModelName
    voice: _Filled
    input: _Filled
    response_format: Annotated[Literal["mp3"], Meta(description="mp3")] | None = None
    speed: Annotated[float, Meta(ge=0.25, le=4, description="a number from 0.25 to 4")] | None = None


_SCHEMA: Final = Schema(SpeechBody)
_OPTIONAL: Final = frozenset({"response_format", "speed"})
_NEVER_DROPPED: Final = frozenset({"model", "voice", "input"})


class SpeechRequest(msgspec.Struct, frozen=True, eq=False, gc=False, kw_only=True):
    """A speech request that NeevAI will understand.

    Attributes:
        model: the name the client asked for.
        voice: the voice preset, any non-empty string until `check_voice`.
        input: the text to be spoken.
        speed: 0.25 to 4; 1 if the client did not say.
        litellm_only: the fields that only LiteLLM understands; not empty = the request is LiteLLM's to answer.
    """

    model: str
    voice: str
    input: str
    speed: float
    litellm_only: frozenset[str]
    _body: dict[str, msgspec.Raw]

    @property
    def fields(self) -> KeysView[str]:
        """Names of the top-level fields."""
        return self._body.keys()

    @property
    def characters(self) -> int:
        """Length of the input in Unicode code points."""
        return len(self.input)

    @property
    def billable_characters(self) -> int:
        """Code points of the input that are not white space: what LiteLLM bills (`LITELLM.md`, Adapter 3)."""
        return billable_characters(self.input)

    def check_voice(self, model: Model) -> None:
        """Check the voice against the catalog; a model whose `voices` is None takes any.

        Raises:
            RequestError: `invalid_value`, listing the voices there are.
        """
        if model.voices is not None and self.voice not in model.voices:
            raise invalid("voice", f"one of {', '.join(model.voices)}")

    def encode(self, *, model: str, refused: frozenset[str] = frozenset()) -> bytes:
        """Return the body for upstream: the client's, but for the model's name and without `refused` fields."""
        body: dict[str, object] = {**self._body, "model": model}
        for name in refused - _NEVER_DROPPED:
            body.pop(name, None)
        return msgspec.json.encode(body)


def parse_speech(body: bytes) -> SpeechRequest:
    """Read and check the body of a speech request.

    Raises:
        RequestError: whatever is wrong with it, with `param`. Nothing else is raised, whatever the bytes.
    """
    fields = read_fields(body)
    refuse_forbidden(fields, _SCHEMA.fields)
    checked = _SCHEMA.check(body)
    return SpeechRequest(
        model=checked.model,
        voice=checked.voice,
        input=checked.input,
        speed=1.0 if checked.speed is None else checked.speed,
        litellm_only=LITELLM_ONLY_FIELDS.intersection(fields),
        # null says the same as nothing, which upstream need not know.
        _body={
            name: value
            for name, value in fields.items()
            if not (name in _OPTIONAL and bytes(value) == b"null")
        },
    )


def billable_characters(text: str) -> int:
    """Return the code points of `text` that are not white space."""
    return len("".join(text.split()))


def looks_like_audio(first: bytes) -> bool:
    """Tell whether an answer that begins so is audio; LiteLLM calls web pages and JSON errors audio too."""
    # Raw samples may begin with any byte.
    return bool(first) and not (first.lstrip().startswith((b"<", b"{")) and first[:64].isascii())
