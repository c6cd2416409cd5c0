"""The dashboards' expressions as Grafana would ask them: variables and intervals filled in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["everything_chosen", "filled"]


def everything_chosen(board: Mapping[str, Any]) -> dict[str, str]:
    """Return what each variable of a dashboard stands for when "All" is chosen."""
    return {one["name"]: one["allValue"] for one in board["templating"]["list"] if one["type"] == "query"}


def filled(expression: str, variables: Mapping[str, str], *, seconds: int, rate_seconds: int) -> str:
    """Return an expression without variables.

    Args:
        expression: of a panel.
        variables: by name.
        seconds: that the dashboard shows.
        rate_seconds: over which Grafana takes rates: at least four scrapes.
    """
    for name, value in (
        ("__range_s", str(seconds)),
        ("__range", f"{seconds}s"),
        ("__rate_interval", f"{rate_seconds}s"),
        *variables.items(),
    ):
        expression = expression.replace(f"${name}", value)
    return expression
