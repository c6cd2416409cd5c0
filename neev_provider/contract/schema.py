"""Bytes to top-level slices, and slices to checked structs, or one `RequestError` that names field and rule.

The rule of a field stands beside it, as `Meta(description=...)`: msgspec enforces the constraints in C, and only
when it refuses something is the place in its message looked up among those descriptions. No message quotes a value:
it may be megabytes long, or a key. Called by `chat.py` and `speech.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final, Generic, TypeVar

import msgspec
from msgspec import inspect

from neev_provider.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["ModelName", "Schema", "Shape", "invalid", "missing", "peek_model", "read_fields"]


class Shape(msgspec.Struct, gc=False):
    """Base of everything a body is checked against. Unknown fields are allowed and skipped."""


# The bound is ours: a name is looked up, compared and quoted, which megabytes must not be.
ModelName = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=256, description="a non-empty string of at most 256 characters"),
]
ShapeT = TypeVar("ShapeT", bound=Shape)

_MOST_FIELDS: Final = 1000  # of a body; there are some fifty
# An escape of a pair's first half that no second one follows. After an escaped backslash, it is none.
_LONE_SURROGATE: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u|\\?$)", re.DOTALL)
_END: Final = 64  # bytes
_SLICES: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_MODEL: Final = msgspec.json.Decoder(ModelName)


class _Named(Shape):
    model: msgspec.Raw


_NAMED: Final = msgspec.json.Decoder(_Named)


def read_fields(body: bytes) -> dict[str, msgspec.Raw]:
    """Split a JSON object into its top-level fields, each value as the bytes it came as.

    Raises:
        RequestError: `invalid_json` if it is not JSON through and through; `invalid_type` if not an object;
            `invalid_value` if it has a thousand fields and more, each of which would be looked up.
    """
    try:
        if not body.isascii():
            body.decode()  # msgspec does not look at the encoding of strings that it only skips
        fields = _SLICES.decode(body)
    except msgspec.ValidationError:
        raise RequestError("invalid_type", "The request body must be a JSON object.") from None
    except msgspec.DecodeError as error:
        # msgspec names the kind of fault and the byte, never the text.
        reason = str(error).removeprefix("JSON is malformed: ")
        raise _not_json(_why_truncated(body) if "truncated" in reason else reason) from None
    except UnicodeDecodeError as error:
        raise _not_json(f"invalid UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise _not_json("it is nested too deeply") from None
    if len(fields) > _MOST_FIELDS:
        raise RequestError("invalid_value", f"The request body has more than {_MOST_FIELDS:,} fields.")
    return fields


def peek_model(body: bytes) -> str | None:
    """Return the body's `model` whatever else is wrong with it, or None if it has no usable one.

    For a body that `parse_chat` or `parse_speech` refused: NeevAI's rules do not bind other providers' models.
    """
    try:
        if not body.isascii():
            body.decode()
        # Without the slices of all other fields: the body may be one that was refused for their number.
        return _MODEL.decode(_NAMED.decode(body).model)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def missing(param: str, rule: str) -> RequestError:
    """Build the error for a field that must be there; `rule` completes "it must be ..."."""
    return RequestError("missing_required_parameter", f"{param} is required: it must be {rule}.", param=param)


def invalid(param: str, rule: str, *, code: str = "invalid_value") -> RequestError:
    """Build the error for a field that breaks its rule; `rule` completes "must be ..."."""
    return RequestError(code, f"{param} must be {rule}.", param=param)


class Schema(Generic[ShapeT]):
    """A struct that bodies are checked against, with the rules to quote when one does not fit."""

    def __init__(self, shape: type[ShapeT]) -> None:
        self._decoder: Final = msgspec.json.Decoder(shape)
        self.fields: Final = frozenset(shape.__struct_fields__)
        self.rules: Final[Mapping[str, str]] = _collect(inspect.type_info(shape))

    def check(self, body: bytes) -> ShapeT:
        """Decode a body that `read_fields` has accepted.

        Raises:
            RequestError: `missing_required_parameter`, `invalid_type` or `invalid_value`, with `param`.
        """
        try:
            return self._decoder.decode(body)
        except msgspec.ValidationError as error:
            raise self._explain(str(error)) from None
        except RecursionError:
            raise _not_json("it is nested too deeply") from None

    def _explain(self, text: str) -> RequestError:
        """Say msgspec's refusal in the caller's words.

        `text` is "<problem> - at `$.messages[0].role`", without the place for a field of the body itself.
        """
        problem, found, place = text.rpartition(" - at `$")
        param = place.strip("`.") if found else ""
        problem = problem if found else text
        absent = _ABSENT.match(problem)
        if absent:
            param = f"{param}.{absent[1]}".lstrip(".")
        rule = self.rules.get(_INDEX.sub("[]", param), "of another type or value")
        # null stands for absent, except as an array's item.
        if absent or (problem.endswith("got `null`") and not param.endswith("]")):
            return missing(param, rule)
        return invalid(param, rule, code="invalid_value" if _BREACH.match(problem) else "invalid_type")


_ABSENT: Final = re.compile(r"Object missing required field `(\w+)`")
_BREACH: Final = re.compile(r"Invalid|Integer|Number|Expected `\w+` (?:[<>]|of length)")
_INDEX: Final = re.compile(r"\[\d+\]")


def _why_truncated(body: bytes) -> str:
    """Return why msgspec found no end: for a lone surrogate near it, it says the same as for a body cut short."""
    if _LONE_SURROGATE.search(body[-_END:]):
        return "a string holds half of a surrogate pair, an escape of \\ud800 to \\udbff, alone"
    return "it ends too early"


def _not_json(reason: str) -> RequestError:
    return RequestError("invalid_json", f"The request body is not valid JSON: {reason}.")


def _collect(root: inspect.Type) -> Mapping[str, str]:
    rules: dict[str, str] = {}
    for place, rule in _walk(root, ""):
        rules.setdefault(place, rule)
    return rules


def _walk(node: inspect.Type, place: str) -> Iterator[tuple[str, str]]:
    """Yield place and rule, as `("messages[].role", "one of ...")`, for everything below `node`."""
    match node:
        case inspect.Metadata():
            if node.extra_json_schema and "description" in node.extra_json_schema:
                yield place, node.extra_json_schema["description"]
            yield from _walk(node.type, place)
        case inspect.UnionType():
            tagged = [one for one in node.types if isinstance(one, inspect.StructType) and one.tag]
            if tagged:
                yield f"{place}.{tagged[0].tag_field}", f"one of {', '.join(str(one.tag) for one in tagged)}"
            for one in node.types:
                yield from _walk(one, place)
        case inspect.ListType():
            yield from _walk(node.item_type, f"{place}[]")
        case inspect.StructType():
            for field in node.fields:
                yield from _walk(field.type, f"{place}.{field.encode_name}".lstrip("."))
        case _:
            pass
