"""The dashboards keep the rules of Grafana's dashboard-linter, and a few of ours."""

from __future__ import annotations

import re

import pytest

from grafana.links import TITLES, uid
from grafana.runbook import sections
from tests.grafana.boards import BOARDS, DRAWN, PANEL_NAMES, PANELS, TARGET_NAMES, TARGETS, panels
from tests.grafana.expressions import FAMILIES, labels_named, labels_of, parsed, selected

# Of Grafana's unit names those that are used here.
UNITS = {
    "bytes",
    "bool_yes_no",
    "currencyUSD",
    "dtdurations",
    "ops",
    "percentunit",
    "reqps",
    "s",
    "short",
    "string",
}
NUMBERS = [(name, panel) for name, panel in DRAWN if panel["type"] != "table"]

boards = pytest.mark.parametrize("name", BOARDS)
each_panel = pytest.mark.parametrize(("name", "panel"), PANELS, ids=PANEL_NAMES)


def variables(name: str) -> dict[str, dict]:
    return {variable["name"]: variable for variable in BOARDS[name]["templating"]["list"]}


@boards
class TestDashboard:
    def test_has_the_variables_in_this_order(self, name):
        assert list(variables(name)) == ["datasource", "namespace", "job", "instance", "team", "key", "model"]

    def test_has_a_data_source_to_choose(self, name):
        chosen = variables(name)["datasource"]
        assert (chosen["type"], chosen["query"], chosen["label"]) == (
            "datasource",
            "prometheus",
            "Data source",
        )

    @pytest.mark.parametrize("variable", ["namespace", "job", "instance", "team", "key", "model"])
    def test_variables_offer_what_there_is_and_all_of_it(self, name, variable):
        told = variables(name)[variable]
        assert told["type"] == "query"
        assert told["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert told["label"] == variable.capitalize()
        assert told["multi"] is True
        assert told["includeAll"] is True
        assert told["refresh"] == 2  # when the time range changes
        assert told["current"]["value"] == ["$__all"]

    @pytest.mark.parametrize("variable", ["job", "instance"])
    def test_all_of_what_every_target_has_is_at_least_something(self, name, variable):
        assert variables(name)[variable]["allValue"] == ".+"

    @pytest.mark.parametrize("variable", ["namespace", "team", "key", "model"])
    def test_all_of_what_not_every_series_has_may_be_nothing(self, name, variable):
        assert variables(name)[variable]["allValue"] == ".*"

    @pytest.mark.parametrize("variable", ["namespace", "job", "instance", "team", "key", "model"])
    def test_variables_ask_for_labels_that_exist(self, name, variable):
        query = re.fullmatch(r"label_values\((.*), (\w+)\)", variables(name)[variable]["query"])
        [series] = selected(parsed(query[1]))
        assert query[2] == variable
        assert variable in series.labels
        assert set(series.matchers) <= set(variables(name))

    def test_cannot_be_edited_where_it_is_generated_anew(self, name):
        assert BOARDS[name]["editable"] is False

    def test_is_known_by_the_name_that_others_link_to(self, name):
        assert BOARDS[name]["uid"] == uid(name)
        assert BOARDS[name]["title"].endswith(TITLES[name])

    def test_says_what_it_is_about(self, name):
        assert BOARDS[name]["description"].endswith(".")

    def test_refreshes_no_faster_than_metrics_are_scraped(self, name):
        assert BOARDS[name]["refresh"] == "1m"

    def test_links_to_every_other_with_time_and_variables(self, name):
        links = BOARDS[name]["links"]
        assert [link["url"] for link in links] == [f"/d/{uid(other)}" for other in TITLES if other != name]
        assert all(link["keepTime"] and link["includeVars"] for link in links)

    def test_ids_of_panels_are_unique(self, name):
        ids = [panel["id"] for panel in BOARDS[name]["panels"]]
        assert ids == list(range(1, len(ids) + 1))

    def test_titles_of_panels_are_unique(self, name):
        titles = [panel["title"] for panel in panels(BOARDS[name])]
        assert sorted(titles) == sorted(set(titles))

    def test_panels_do_not_overlap_and_stay_on_the_grid(self, name):
        taken: dict[tuple[int, int], str] = {}
        for panel in BOARDS[name]["panels"]:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    assert taken.setdefault((x, y), panel["title"]) == panel["title"]

    def test_rows_of_panels_fill_the_width(self, name):
        widths: dict[int, int] = {}
        for panel in panels(BOARDS[name]):
            widths[panel["gridPos"]["y"]] = widths.get(panel["gridPos"]["y"], 0) + panel["gridPos"]["w"]
        if name != "runbook":  # as many panels as there are alerts
            assert set(widths.values()) == {24}


def test_uids_are_unique():
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS) == len(TITLES)


@each_panel
class TestPanel:
    def test_has_a_title_and_a_description(self, name, panel):
        assert panel["title"]
        assert panel["description"].endswith(".")

    def test_asks_the_data_source_that_was_chosen(self, name, panel):
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel.get("targets", []):
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}

    def test_asks_for_something_or_is_text(self, name, panel):
        assert panel["type"] == "text" or panel["targets"]

    def test_letters_of_its_queries_are_unique(self, name, panel):
        letters = [target["refId"] for target in panel.get("targets", [])]
        assert letters == sorted(set(letters))


@pytest.mark.parametrize(
    ("name", "panel"), DRAWN, ids=lambda value: value if isinstance(value, str) else value["title"]
)
class TestDrawnPanel:
    def test_has_a_unit(self, name, panel):
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS

    def test_links_to_where_a_reader_goes_next(self, name, panel):
        assert panel["links"]
        for link in panel["links"]:
            path, _, query = link["url"].partition("?")
            other = path.removeprefix("/d/neev-")
            assert other in TITLES
            if other == "runbook":
                [shown] = [each for each in panels(BOARDS["runbook"]) if query == f"viewPanel={each['id']}"]
                assert link["title"] == f"Runbook: {shown['title']}"
            else:
                assert other != name
                assert query == "${__url_time_range}&${__all_variables}"


TABLES = [(name, panel) for name, panel in DRAWN if panel["type"] == "table"]


@pytest.mark.parametrize(
    ("name", "panel"), TABLES, ids=[f"{name}: {panel['title']}" for name, panel in TABLES]
)
class TestTable:
    def organized(self, panel) -> dict:
        return panel["transformations"][-1]["options"]

    def test_every_column_has_a_title_and_a_unit(self, name, panel):
        units = {
            override["matcher"]["options"]: {
                told["id"]: told.get("value") for told in override["properties"]
            }["unit"]
            for override in panel["fieldConfig"]["overrides"]
        }
        titles, order = self.organized(panel)["renameByName"], self.organized(panel)["indexByName"]
        assert set(units) == set(titles.values())
        assert sorted(order.values()) == list(range(len(titles)))
        assert set(units.values()) <= UNITS

    def test_every_query_has_a_column_and_is_asked_for_one_moment_as_a_table(self, name, panel):
        columns = set(self.organized(panel)["renameByName"])
        for target in panel["targets"]:
            assert (f"Value #{target['refId']}" if len(panel["targets"]) > 1 else "Value") in columns
            assert (target["instant"], target["format"]) == (True, "table")

    def test_all_queries_are_by_the_labels_shown(self, name, panel):
        shown = {column for column in self.organized(panel)["renameByName"] if not column.startswith("Value")}
        assert {labels_of(parsed(target["expr"])) for target in panel["targets"]} == {frozenset(shown)}

    def test_is_sorted_by_a_column_that_it_has(self, name, panel):
        [sort] = panel["options"]["sortBy"]
        assert sort["displayName"] in self.organized(panel)["renameByName"].values()


@pytest.mark.parametrize(("name", "panel", "target"), TARGETS, ids=TARGET_NAMES)
class TestExpression:
    def test_parses_and_names_families_and_labels_that_exist(self, name, panel, target):
        for one in selected(parsed(target["expr"])):
            assert one.family in FAMILIES
            assert set(one.matchers) <= one.labels

    def test_follows_every_variable_that_its_family_has(self, name, panel, target):
        for one in selected(parsed(target["expr"])):
            for label in ("namespace", "job", "instance", "team", "key", "model"):
                if label in one.labels:
                    assert f"${label}" in one.matchers[label]

    def test_counters_stand_under_rate_or_increase_only(self, name, panel, target):
        for one in selected(parsed(target["expr"])):
            if one.is_counter:
                assert one.functions[-1] in {"rate", "increase"}
                assert one.range is not None
            else:
                assert not {"rate", "increase", "irate"} & set(one.functions)

    def test_rates_are_over_the_interval_that_grafana_chooses(self, name, panel, target):
        ranges = re.findall(r"\b(\w+)\(neev_\w+\{[^}]*\}\[([^]]+)\]", target["expr"])
        assert {chosen for function, chosen in ranges if function == "rate"} <= {"$__rate_interval"}
        assert {chosen for function, chosen in ranges if function == "increase"} <= {"$__range", "1h"}

    def test_labels_in_the_legend_are_in_its_by(self, name, panel, target):
        named = labels_named(target.get("legendFormat", ""))
        labels = labels_of(parsed(target["expr"]))
        assert named <= labels
        if panel["type"] != "table":  # no two series of the same name
            assert labels <= named


def test_every_family_is_on_some_dashboard():
    shown = {one.family for *_, target in TARGETS for one in selected(parsed(target["expr"]))}
    assert set(FAMILIES) - shown == {"neev_speech_characters_total"}


def test_every_section_of_the_runbook_is_a_panel_that_some_panel_links_to():
    linked = {link["title"] for _, panel in DRAWN for link in panel["links"]}
    shown = [panel["title"] for panel in panels(BOARDS["runbook"])]
    assert shown == list(sections())
    assert {f"Runbook: {title}" for title in shown} <= linked
