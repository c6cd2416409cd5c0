"""Values compared with their types."""

from __future__ import annotations

from typing import Any


def typed(value: Any) -> Any:
    """1 and 1.0 are equal in Python, but not the same setting."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    return type(value).__name__, value
