"""Every error by its status, out of the one table of `errors.py`. Called by `document.py`."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from neev_provider.errors import ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["READ", "REQUEST_ID", "WITH_A_BODY", "WITH_A_MODEL", "failure_components", "failures"]

REQUEST_ID: Final[dict[str, Any]] = {
    "x-request-id": {
        "description": "The request's id: the client's own if it sent a sane one.",
        "required": True,
        "schema": {"type": "string", "minLength": 1, "maxLength": 128},
    }
}
_RETRY_AFTER: Final[dict[str, Any]] = {
    "retry-after": {
        "description": "Seconds until a retry makes sense.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "x-should-retry": {
        "description": "`false` where a client should not wait.",
        "schema": {"enum": ["false"]},
    },
}
_MAY_WAIT: Final = frozenset({429, 502, 503, 504})
# The server itself refuses: any route may answer so.
_ALWAYS: Final = frozenset({400, 401, 408, 431, 500, 503})
READ: Final = _ALWAYS
"""Statuses of a route that reads."""
WITH_A_BODY: Final = _ALWAYS | {413, 415}
"""Statuses of a route that takes JSON."""
WITH_A_MODEL: Final = WITH_A_BODY | {403, 404, 429, 502, 504}
"""Statuses of a route that calls a model."""


def failures(statuses: Iterable[int]) -> dict[str, Any]:
    """Return the responses of an operation that may fail with these statuses."""
    return {str(status): {"$ref": f"#/components/responses/{_name(status)}"} for status in sorted(statuses)}


def failure_components() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the components of all errors: responses and schemas."""
    statuses = sorted({shape.status for shape in ERRORS.values()})
    return (
        {_name(status): _response(status) for status in statuses},
        {_name(status): _schema(status) for status in statuses},
    )


def _name(status: int) -> str:
    return f"Error{status}"


def _response(status: int) -> dict[str, Any]:
    headers = {**REQUEST_ID, **(_RETRY_AFTER if status in _MAY_WAIT else {})}
    return {
        "description": HTTPStatus(status).phrase,
        "headers": headers,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{_name(status)}"}}},
    }


def _schema(status: int) -> dict[str, Any]:
    shapes = {code: shape for code, shape in ERRORS.items() if shape.status == status}
    error = {
        "type": "object",
        "required": ["message", "type", "param", "code"],
        "additionalProperties": False,
        "properties": {
            "message": {"type": "string", "minLength": 1},
            "type": {"enum": sorted({shape.type for shape in shapes.values()})},
            "param": {"type": ["string", "null"]},
            "code": {"enum": sorted(shapes)},
        },
    }
    return {
        "type": "object",
        "required": ["error"],
        "additionalProperties": False,
        "properties": {"error": error},
    }
