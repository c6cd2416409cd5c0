"""Reads admin requests: JSON field by field, so that money is never a binary float, and queries name by name.

Knows types, not what a field means. Called by `admin.py` and the routes beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

import msgspec

from neev_provider.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from neev_provider.admission import Principal

__all__ = ["AdminRequest", "parse_fields", "parse_query", "read_exact", "read_value", "unknown"]

_MOST_FIELDS: Final = 1000  # of a body
_MOST_ITEMS: Final = 1000  # of a list of keys or teams
_MOST_PARAMETERS: Final = 100
_LONGEST_SHOWN: Final = 60  # characters of a client's word in an error
_LONGEST_TEXT: Final = 500  # characters of what names a key or a team
_LARGEST_PAGE: Final = 1_000_000
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANY: Final = msgspec.json.Decoder()
_EXACT: Final = msgspec.json.Decoder(float_hook=Decimal)


def parse_fields(body: bytes) -> dict[str, msgspec.Raw]:
    """Return the fields of a JSON object, each as it was sent; an empty body has none.

    Raises:
        RequestError: it is not JSON, or not an object.
    """
    if not body.strip():
        return {}
    try:
        fields = _FIELDS.decode(body)
        if len(fields) > _MOST_FIELDS:
            raise RequestError("invalid_value", f"The request body has more than {_MOST_FIELDS:,} fields.")
        _EXACT.decode(body)  # the parts that are kept raw are checked too
    except msgspec.ValidationError:
        raise RequestError("invalid_type", "The request body must be a JSON object.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = "too deeply nested" if isinstance(error, RecursionError) else str(error)
        raise RequestError("invalid_json", f"The request body is not valid JSON: {reason}.") from None
    except InvalidOperation:  # an exponent that not even a Decimal has
        raise RequestError("invalid_value", "The request body holds a number out of range.") from None
    return fields


def parse_query(query: bytes, known: frozenset[str]) -> dict[str, str]:
    """Return what a query says; empty values count as not given.

    Args:
        query: without the question mark.
        known: the names that may stand there.

    Raises:
        RequestError: an unknown name, one that is repeated, or too many.
    """
    try:
        pairs = parse_qsl(query.decode("latin-1"), max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        raise RequestError("invalid_value", "The query has too many parameters.") from None
    given: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            raise unknown(name)
        if name in given:
            raise RequestError("invalid_value", f"'{name}' is given more than once.", param=name)
        given[name] = value
    return given


def unknown(name: str) -> RequestError:
    """Return the refusal of a field or parameter that is not known."""
    shown = name if len(name) <= _LONGEST_SHOWN else name[:_LONGEST_SHOWN] + "…"
    return RequestError("unsupported_parameter", f"'{shown}' is not known here.", param=shown)


def read_value(raw: msgspec.Raw, name: str) -> Any:
    """Return the value of the field of this name as Python has it.

    Raises:
        RequestError: it holds a number that is larger than any.
    """
    try:
        return _ANY.decode(raw)
    except msgspec.ValidationError:
        raise RequestError("invalid_value", f"'{name}' holds a number out of range.", param=name) from None


def read_exact(raw: msgspec.Raw) -> Any:
    """Return a field's value with every number that is no integer as a Decimal."""
    return _EXACT.decode(raw)


@dataclass(frozen=True, slots=True)
class AdminRequest:
    """What an admin route is asked.

    Attributes:
        principal: who asks.
        token: the key that was sent.
        by: who it is, for the audit.
        fields: of the body; empty for a GET.
        query: parameters.
        named: what the path names, or None.
    """

    principal: Principal
    token: str = field(repr=False)
    by: str
    fields: Mapping[str, msgspec.Raw] = field(repr=False)
    query: Mapping[str, str] = field(repr=False)
    named: str | None = field(default=None, repr=False)

    def value(self, name: str) -> Any:
        """Return a field's value, None if it is not given."""
        raw = self.fields.get(name)
        return None if raw is None else read_value(raw, name)

    def text(self, name: str) -> str:
        """Return a field that must be there and a text.

        Raises:
            RequestError: it is not.
        """
        value = self.value(name)
        if value is None:
            raise RequestError("missing_required_parameter", f"'{name}' is required.", param=name)
        if not isinstance(value, str) or not value:
            raise RequestError("invalid_type", f"'{name}' must be a text.", param=name)
        if len(value) > _LONGEST_TEXT:
            raise RequestError("invalid_value", f"'{name}' is too long.", param=name)
        return value

    def optional_text(self, name: str) -> str | None:
        """Return a field that may be there and must be a text then.

        Raises:
            RequestError: it is something else.
        """
        return None if self.value(name) in (None, "") else self.text(name)

    def texts(self, name: str) -> list[str]:
        """Return a list of texts, without repetitions; empty if it is not given.

        Raises:
            RequestError: it is something else.
        """
        value = self.value(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise RequestError("invalid_type", f"'{name}' must be a list of texts.", param=name)
        if len(value) > _MOST_ITEMS:
            raise RequestError(
                "invalid_value", f"'{name}' may hold at most {_MOST_ITEMS:,} items.", param=name
            )
        return list(dict.fromkeys(value))

    def only(self, *names: str) -> None:
        """Refuse any other field.

        Raises:
            RequestError: there is one.
        """
        for name in self.fields:
            if name not in names:
                raise unknown(name)

    def number(self, name: str, default: int, most: int = _LARGEST_PAGE) -> int:
        """Return a whole number of at least 1 from the query.

        Raises:
            RequestError: it is something else.
        """
        text = self.query.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:20]) <= most:
            raise RequestError(
                "invalid_value", f"'{name}' must be a whole number from 1 to {most:,}.", param=name
            )
        return int(text)

    def flag(self, name: str) -> bool:
        """Return a yes or no from the query; no if it is not given.

        Raises:
            RequestError: it is something else.
        """
        text = self.query.get(name, "false").lower()
        if text not in {"true", "false", "1", "0"}:
            raise RequestError("invalid_value", f"'{name}' must be true or false.", param=name)
        return text in {"true", "1"}

    def choice(self, name: str, choices: tuple[str, ...], default: str | None = None) -> str | None:
        """Return one of some words from the query.

        Raises:
            RequestError: it is something else.
        """
        text = self.query.get(name, default)
        if text is not None and text not in choices:
            raise RequestError("invalid_value", f"'{name}' must be one of {', '.join(choices)}.", param=name)
        return text
