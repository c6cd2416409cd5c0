"""The runbook as a dashboard: docs/runbook.md, a panel for each alert, so that links to it work offline too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana.frame import Row, dashboard
from grafana.panels import prose
from grafana.runbook import sections

if TYPE_CHECKING:
    from grafana_foundation_sdk.models.dashboard import Dashboard


def board() -> Dashboard:
    """Return the dashboard."""
    panels = [prose(section.heading, section.text, width=12, height=9) for section in sections().values()]
    return dashboard(
        "runbook", "What each alert means, what to look at, what to do.", [Row("", panels)], since="now-6h"
    )
