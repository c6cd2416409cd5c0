"""Links from a panel or a dashboard to the others, with the time and the variables that are chosen.

The runbook is a dashboard too, so that it can be read where nothing but Grafana can be reached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models.dashboard import DashboardLink, DashboardLinkType

from grafana.runbook import sections

if TYPE_CHECKING:
    from grafana_foundation_sdk.cog.builder import Builder

__all__ = ["TITLES", "link_to", "links_beside", "uid"]

TITLES: Final = {
    "overview": "Overview",
    "spend": "Spend and budgets",
    "models": "Models",
    "internals": "Gateway internals",
    "runbook": "Runbook",
}
"""Dashboards by name, which is their file's name too."""


def uid(name: str) -> str:
    """Return what a dashboard is known by, the same in every Grafana."""
    return f"neev-{name}"


def link_to(name: str) -> Builder[DashboardLink]:
    """Return a panel's link: to a dashboard by its name, or to the runbook's section of an alert."""
    if name in TITLES:
        return _link(
            f"Dashboard: {TITLES[name]}", f"/d/{uid(name)}?${{__url_time_range}}&${{__all_variables}}"
        )
    section = sections()[name]
    return _link(f"Runbook: {name}", f"/d/{uid('runbook')}?viewPanel={section.panel}")


def links_beside(name: str) -> list[Builder[DashboardLink]]:
    """Return the links at the top of a dashboard: to all others."""
    return [
        _link(title, f"/d/{uid(other)}").keep_time(True).include_vars(True)
        for other, title in TITLES.items()
        if other != name
    ]


def _link(title: str, url: str) -> build.DashboardLink:
    return build.DashboardLink(title).type(DashboardLinkType.LINK).url(url)
