"""What every dashboard has: its identity, the variables at its top, links to the others, rows of panels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import dashboard as model

from grafana.links import TITLES, links_beside, uid
from grafana.panels import DATASOURCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafana_foundation_sdk.cog.builder import Builder

    from grafana.panels import Panel

__all__ = ["Row", "dashboard"]

TAG: Final = "neev-gateway"

# Not every target has a namespace, so "All" must match where there is none. Budgets know no model, process metrics no
# team: their selectors follow only the variables that they have.
_VARIABLES: Final = (
    ("namespace", "Namespace", "neev_build_info", (), ".*"),
    ("job", "Job", "neev_build_info", ("namespace",), ".+"),
    ("instance", "Instance", "neev_build_info", ("namespace", "job"), ".+"),
    ("team", "Team", "neev_budget_used_usd", ("namespace", "job"), ".*"),
    ("key", "Key", "neev_budget_used_usd", ("namespace", "job", "team"), ".*"),
    ("model", "Model", "neev_requests_total", ("namespace", "job"), ".*"),
)
"""Name, label, the family whose label it is, the variables that narrow it, what "All" stands for."""


@dataclass(frozen=True)
class Row:
    """Panels under a heading, or none."""

    heading: str
    panels: Sequence[Panel]


def dashboard(name: str, description: str, rows: Sequence[Row], *, since: str) -> model.Dashboard:
    """Return a dashboard.

    Args:
        name: one of `links.TITLES`.
        description: what it answers, for its list in Grafana.
        rows: from top to bottom.
        since: the beginning of what it shows first, as `now-6h`.
    """
    board = (
        build.Dashboard(f"NeevAI gateway / {TITLES[name]}")
        .uid(uid(name))
        .description(description)
        .tags([TAG])
        .readonly()
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .time(since, "now")
        .refresh("1m")
        .links(links_beside(name))
        .variables([_datasource(), *(_variable(*each) for each in _VARIABLES)])
    )
    for row in rows:
        if row.heading:
            board = board.with_row(build.Row(row.heading).collapsed(False))
        for panel in row.panels:
            board = board.with_panel(panel)
    built = board.build()
    # Ids in reading order, so that a link to a panel stays valid as long as the panels do.
    for number, placed in enumerate(built.panels or [], start=1):
        placed.id_val = number
    return built


def _datasource() -> Builder[model.VariableModel]:
    return build.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _variable(
    name: str, label: str, family: str, within: tuple[str, ...], everything: str
) -> Builder[model.VariableModel]:
    matchers = ", ".join(f'{other}=~"${other}"' for other in within)
    series = f"{family}{{{matchers}}}" if within else family
    return (
        build.QueryVariable(name)
        .label(label)
        .query(f"label_values({series}, {name})")
        .datasource(DATASOURCE)
        .multi(True)
        .include_all(True)
        .all_value(everything)
        .current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
    )
