"""Kinds of panels: what is drawn, and what all of them have in common. Called by `boards/`.

Every panel has a title, a description, a unit, the templated data source, and links to where a reader goes next:
dashboards by their name (`models`), sections of the runbook by their alert (`NeevStoreDown`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, table, text, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.text import TextMode

from grafana.links import link_to

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafana_foundation_sdk.cog.builder import Builder

__all__ = ["DATASOURCE", "Column", "Panel", "Query", "graph", "number", "prose", "ranking", "rows"]

DATASOURCE: Final = model.DataSourceRef(type_val="prometheus", uid="${datasource}")

GREEN: Final = "green"
AMBER: Final = "orange"
RED: Final = "red"

Panel = build.Panel | timeseries.Panel | stat.Panel | table.Panel | bargauge.Panel | text.Panel
_Panel = TypeVar("_Panel", timeseries.Panel, stat.Panel, table.Panel, bargauge.Panel)
Steps = tuple[tuple[float | None, str], ...]
"""Thresholds: from this value on, this colour; the first from None."""


@dataclass(frozen=True)
class Query:
    """One expression, what its series are called, and their colour if it has a meaning."""

    expression: str
    legend: str = ""
    colour: str | None = None


@dataclass(frozen=True)
class Column:
    """One column of a table: a label, or the value of the query with that `name`."""

    name: str
    title: str
    unit: str = "string"
    steps: Steps = ()
    gauge: bool = False
    width: int | None = None
    decimals: int | None = None


def graph(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    see: Sequence[str],
    width: int = 12,
    height: int = 8,
    stacked: bool = False,
    smallest: float | None = 0,
    largest: float | None = None,
    calculations: Sequence[str] = ("mean", "max", "lastNotNull"),
    limit: float | None = None,
) -> Panel:
    """Return lines over time; `limit` is drawn as a line of its own."""
    panel = (
        _common(timeseries.Panel(), title, description, unit, see, width, height)
        .line_width(1.5)
        .fill_opacity(35 if stacked else 0)
        .show_points(options.VisibilityMode.NEVER)
        .draw_style(options.GraphDrawStyle.LINE)
        .tooltip(
            common.VizTooltipOptions()
            .mode(options.TooltipDisplayMode.MULTI)
            .sort(options.SortOrder.DESCENDING)
        )
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(options.LegendDisplayMode.TABLE if calculations else options.LegendDisplayMode.LIST)
            .placement(options.LegendPlacement.BOTTOM)
            .calcs(list(calculations))
        )
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL).group("A"))
    if smallest is not None:
        panel = panel.min(smallest)
    if largest is not None:
        panel = panel.max(largest)
    if limit is not None:
        panel = panel.thresholds(_thresholds(((None, "transparent"), (limit, RED)))).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(options.GraphThresholdsStyleMode.DASHED)
        )
    for place, query in enumerate(queries):
        panel = panel.with_target(_target(query, place))
        if query.colour is not None:
            panel = panel.override_by_query(
                _letter(place),
                [model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": query.colour})],
            )
    return panel


def number(
    title: str,
    description: str,
    unit: str,
    query: Query,
    *,
    see: Sequence[str],
    width: int = 4,
    height: int = 4,
    steps: Steps = ((None, "blue"),),
    decimals: int | None = None,
    since: str | None = None,
    instant: bool = True,
    named: bool = False,
) -> Panel:
    """Return one number.

    Args:
        title: as of any panel; so are the description, the unit, links and size.
        description: what it means.
        unit: in Grafana's words.
        query: of one series.
        see: where to go next.
        width: in columns of 24.
        height: in rows.
        steps: its colours.
        decimals: digits after the point.
        since: the beginning of what it is about, if not the dashboard's (`now/d`).
        instant: ask for the value now; otherwise the last of the range, with its course behind it.
        named: show the series' name too; there may be several.
    """
    panel = (
        _common(stat.Panel(), title, description, unit, see, width, height)
        .thresholds(_thresholds(steps))
        .color_scheme(build.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .color_mode(options.BigValueColorMode.VALUE)
        .graph_mode(options.BigValueGraphMode.NONE if instant else options.BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .no_value("-")
        .with_target(_target(query, 0, instant=instant))
    )
    if decimals is not None:
        panel = panel.decimals(decimals)
    if since is not None:
        panel = panel.time_from(since)
    if named:
        panel = panel.text_mode(options.BigValueTextMode.VALUE_AND_NAME)
    return panel


def ranking(
    title: str,
    description: str,
    unit: str,
    query: Query,
    *,
    see: Sequence[str],
    width: int = 8,
    height: int = 8,
    steps: Steps = ((None, "blue"),),
    largest: float | None = None,
) -> Panel:
    """Return bars side by side, one a series, as the expression sorts them."""
    panel = (
        _common(bargauge.Panel(), title, description, unit, see, width, height)
        .thresholds(_thresholds(steps))
        .color_scheme(build.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .orientation(options.VizOrientation.HORIZONTAL)
        .display_mode(options.BarGaugeDisplayMode.BASIC)
        .value_mode(options.BarGaugeValueMode.COLOR)
        .show_unfilled(True)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .min(0)
        .no_value("-")
        .with_target(_target(query, 0, instant=True))
    )
    return panel if largest is None else panel.max(largest)


def rows(
    title: str,
    description: str,
    columns: Sequence[Column],
    queries: dict[str, str],
    *,
    see: Sequence[str],
    sort: str,
    descending: bool = True,
    width: int = 24,
    height: int = 8,
) -> Panel:
    """Return a table: one row for each set of labels, one column for each label shown and each query.

    Args:
        title: as of any panel.
        description: as of any panel.
        columns: what is shown, in this order; a query's column is named by its key in `queries`.
        queries: expressions by name. All must be by the same labels.
        sort: the title of the column to sort by.
        descending: largest first.
        see: as of any panel.
        width: as of any panel.
        height: as of any panel.
    """
    letters = {name: _letter(place) for place, name in enumerate(queries)}
    # One query's value is called "Value"; of several, Grafana adds the query's letter.
    fields = {
        column.name: f"Value #{letters[column.name]}" if len(queries) > 1 else "Value"
        for column in columns
        if column.name in queries
    }
    panel = (
        _common(table.Panel(), title, description, "string", see, width, height)
        .filterable(False)
        .cell_height(options.TableCellHeight.SM)
        .sort_by([common.TableSortByFieldState().display_name(sort).desc(descending)])
        .no_value("-")
    )
    for place, expression in enumerate(queries.values()):
        panel = panel.with_target(_target(Query(expression), place, instant=True, as_table=True))
    if len(queries) > 1:
        panel = panel.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    order = [fields.get(column.name, column.name) for column in columns]
    panel = panel.with_transformation(
        model.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": {"Time": True},
                "includeByName": {},
                "indexByName": {name: place for place, name in enumerate(order)},
                "renameByName": dict(zip(order, (column.title for column in columns), strict=True)),
            },
        )
    )
    for column in columns:
        panel = panel.override_by_name(column.title, list(_properties(column)))
    return panel


def _properties(column: Column) -> Sequence[model.DynamicConfigValue]:
    """Return how a column is shown, in Grafana's words."""
    wanted: list[tuple[str, Any]] = [("unit", column.unit)]
    if column.width is not None:
        wanted.append(("custom.width", column.width))
    if column.decimals is not None:
        wanted.append(("decimals", column.decimals))
    if column.steps:
        steps = [{"color": colour, "value": value} for value, colour in column.steps]
        wanted.append(("thresholds", {"mode": "absolute", "steps": steps}))
        wanted.append(("color", {"mode": "thresholds"}))
        if not column.gauge:
            wanted.append(("custom.cellOptions", {"type": "color-text"}))
    if column.gauge:
        wanted += [
            ("custom.cellOptions", {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}),
            ("min", 0),
            ("max", 1),
        ]
    return [model.DynamicConfigValue(name, value) for name, value in wanted]


def prose(title: str, markdown: str, *, width: int = 12, height: int = 8) -> Panel:
    """Return text."""
    return (
        text.Panel()
        .title(title)
        .description("A section of docs/runbook.md.")
        .datasource(DATASOURCE)
        .span(width)
        .height(height)
        .mode(TextMode.MARKDOWN)
        .content(markdown)
    )


def _common(
    panel: _Panel, title: str, description: str, unit: str, see: Sequence[str], width: int, height: int
) -> _Panel:
    return (
        panel.title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .links([link_to(name) for name in see])
        .span(width)
        .height(height)
    )


def _thresholds(steps: Steps) -> Builder[model.ThresholdsConfig]:
    return (
        build.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(value=value, color=colour) for value, colour in steps])
    )


def _target(
    query: Query, place: int, *, instant: bool = False, as_table: bool = False
) -> prometheus.Dataquery:
    target = (
        prometheus.Dataquery()
        .expr(query.expression)
        .datasource(DATASOURCE)
        .ref_id(_letter(place))
        .format(PromQueryFormat.TABLE if as_table else PromQueryFormat.TIME_SERIES)
    )
    if query.legend:
        target = target.legend_format(query.legend)
    return target.instant() if instant else target.range()


def _letter(place: int) -> str:
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[place]
