"""The rules: what every alert must say, and what it may look at. That they fire is tried in tests/system."""

from __future__ import annotations

import re

import pytest
import yaml

from grafana.families import FAMILIES
from grafana.objectives import BURNS, FAILED, OBJECTIVES, OUR_FAULT, UPSTREAMS_FAULT
from grafana.runbook import RUNBOOK, sections
from neev_provider.errors import ERRORS
from tests.grafana.boards import BOARDS, ROOT, panels
from tests.grafana.expressions import labels_of, parsed, selected

FILES = sorted((ROOT / "grafana" / "rules").glob("*.yaml"))
RULES = [
    (path.stem, rule)
    for path in FILES
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = [rule for _, rule in RULES if "alert" in rule]
RECORDED = {rule["record"]: rule for _, rule in RULES if "record" in rule}
NAMES = sorted({rule["alert"] for rule in ALERTS})

each_alert = pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
each_rule = pytest.mark.parametrize(
    "rule", [rule for _, rule in RULES], ids=lambda rule: rule.get("alert") or rule["record"]
)

WANTED = {
    "NeevAvailabilityBurn", "NeevTimeToFirstTokenBurn", "NeevOverheadBurn", "NeevBudgetNearlyUsed", "NeevBudgetRunsOut",
    "NeevUpstreamAuthError", "NeevStoreDown", "NeevStoreBreakerOpen", "NeevSettlesPilingUp", "NeevSettlesLogged",
    "NeevEstimatedChargesRising", "NeevUnpricedCalls", "NeevLiteLLMDown", "NeevProcessDown", "NeevProcessRestarts",
    "NeevLabelOverflow", "NeevMetricsAbsent",
}  # fmt: skip


def test_there_are_these_alerts():
    assert set(NAMES) == WANTED


@each_alert
class TestAlert:
    def test_has_a_severity_of_three(self, rule):
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}

    def test_says_in_one_line_what_is_wrong_and_in_another_what_follows(self, rule):
        assert 10 < len(rule["annotations"]["summary"]) < 160
        assert rule["annotations"]["description"].endswith(".")

    def test_links_to_its_own_section_of_the_runbook(self, rule):
        path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert ROOT / path == RUNBOOK
        assert anchor == sections()[rule["alert"]].anchor

    def test_texts_use_labels_that_its_result_has(self, rule):
        texts = " ".join(rule["annotations"].values())
        assert set(re.findall(r"\$labels\.(\w+)", texts)) <= result_labels(rule["expr"])


def result_labels(expression: str) -> frozenset[str]:
    for name, rule in sorted(RECORDED.items(), reverse=True):  # longer names before their beginnings
        expression = expression.replace(name, f"({rule['expr'].strip()})")
    if any(name in expression for name in RECORDED):
        return result_labels(expression)
    return labels_of(parsed(expression))


@each_rule
def test_expressions_parse_and_name_families_and_labels_that_exist(rule):
    for one in selected(parsed(rule["expr"])):
        if one.name in RECORDED:
            assert one.matchers == {}
        else:
            assert one.family in FAMILIES
            assert set(one.matchers) <= one.labels


@each_rule
def test_counters_stand_under_rate_or_increase(rule):
    for one in selected(parsed(rule["expr"])):
        # `series unless series offset` tells a new series, which has no rate yet.
        if one.name not in RECORDED and one.is_counter and " unless " not in rule["expr"]:
            assert one.functions[-1] in {"rate", "increase"}


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_names_say_what_they_are_by(name):
    by = {
        "namespace_job": {"namespace", "job"},
        "namespace_job_budget": {"namespace", "job", "scope", "team", "key"},
    }
    assert result_labels(RECORDED[name]["expr"]) == by[name.partition(":")[0]]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.name)
@pytest.mark.parametrize("burn", BURNS, ids=lambda burn: burn.name)
def test_every_objective_has_an_alert_for_each_burn(objective, burn):
    [rule] = [
        rule for rule in ALERTS if rule["alert"] == objective.alert and rule["labels"]["burn"] == burn.name
    ]
    assert f"rate{burn.long} > {burn.factor:g} *" in rule["expr"]
    assert f"rate{burn.short} > {burn.factor:g} *" in rule["expr"]


class TestFailures:
    def test_are_all_codes_of_our_faults_and_upstreams_and_no_other(self):
        ours = re.compile(re.search('"(.*)"', FAILED)[1])
        failures = {
            code for code, shape in ERRORS.items() if shape.status >= 500 or code.startswith("upstream_")
        }
        assert {code for code in ERRORS if ours.fullmatch(code)} == failures

    def test_are_either_ours_or_upstreams(self):
        patterns = [
            re.compile(re.search('"(.*)"', matcher)[1]) for matcher in (FAILED, OUR_FAULT, UPSTREAMS_FAULT)
        ]
        for code in ERRORS:
            failed, ours, upstreams = (pattern.fullmatch(code) is not None for pattern in patterns)
            assert failed == (ours or upstreams)
            assert not (ours and upstreams)


def test_burn_rates_are_those_of_the_sre_workbook():
    assert [(burn.factor, burn.long, burn.short) for burn in BURNS] == [
        (14.4, "1h", "5m"),
        (6, "6h", "30m"),
        (1, "3d", "6h"),
    ]


@pytest.mark.parametrize("name", sections())
def test_a_section_of_the_runbook_says_what_it_means_what_to_look_at_and_what_to_do(name):
    assert name in NAMES
    assert re.findall(r"^\*\*(.+?)\.\*\*", sections()[name].text, re.MULTILINE) == ["Means", "Look at", "Do"]


def test_the_runbook_has_a_section_for_each_alert():
    assert set(sections()) == set(NAMES)


def test_links_inside_the_runbook_lead_to_its_sections():
    anchors = {section.anchor for section in sections().values()}
    assert set(re.findall(r"\]\(#([^)]+)\)", RUNBOOK.read_text())) <= anchors


def test_panels_that_the_runbook_names_exist():
    titles = {panel["title"] for board in BOARDS.values() for panel in panels(board)}
    columns = {
        title
        for board in BOARDS.values()
        for panel in panels(board)
        for transformation in panel.get("transformations", [])
        for title in transformation["options"].get("renameByName", {}).values()
    }
    named = set(re.findall(r'(?<!=)"([A-Z][^"]+)"', RUNBOOK.read_text())) - {"Model API"}
    assert named <= titles | columns


TRIED = [
    tried
    for path in sorted((ROOT / "grafana" / "rules" / "tests").glob("*.yaml"))
    for scenario in yaml.safe_load(path.read_text())["tests"]
    for tried in scenario["alert_rule_test"]
]


@pytest.mark.parametrize("name", NAMES)
def test_every_alert_is_tried_firing_and_not_firing(name):
    assert {bool(tried.get("exp_alerts")) for tried in TRIED if tried["alertname"] == name} == {True, False}


@each_alert
def test_every_kind_of_an_alert_is_tried_firing(rule):
    expected = [
        alert["exp_labels"]
        for tried in TRIED
        if tried["alertname"] == rule["alert"]
        for alert in tried.get("exp_alerts", [])
    ]
    assert [labels for labels in expected if rule["labels"].items() <= labels.items()]
