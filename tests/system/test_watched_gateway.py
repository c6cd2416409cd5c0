"""The dashboards and rules at a real Prometheus and Alertmanager that watch a real gateway with traffic.

Two workers, LiteLLM, the embedded store and an emulator that plays faults; then every expression of every panel and rule.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
import pytest

from grafana.families import FAMILIES
from grafana.live.asked import everything_chosen, filled
from grafana.live.product import REFUSED, Product, hand_out_keys, product
from grafana.live.traffic import Call, everything, mixed, send
from grafana.live.watch import Alertmanager, Prometheus, alertmanager, prometheus
from grafana.preview.collect import Span, collect
from grafana.preview.render import picture
from tests.grafana.boards import BOARDS, TARGET_NAMES, TARGETS
from tests.grafana.expressions import Selected, labels_named, parsed, selected
from tests.grafana.test_rules import ALERTS, RECORDED, RULES

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

LOOKED_AT = 120  # seconds


@dataclass(frozen=True)
class Watched:
    product: Product
    tokens: dict[str, str]
    prometheus: Prometheus
    alertmanager: Alertmanager

    def until(self, what: str, holds: Callable[[], object], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
            time.sleep(0.2)

    def filled(self, expression: str, name: str = "overview") -> str:
        return filled(expression, everything_chosen(BOARDS[name]), seconds=LOOKED_AT, rate_seconds=15)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("watched")
    with (
        product(folder) as served,
        alertmanager(folder) as pager,
        prometheus(folder, scraped=served.metrics, alerts_to=pager) as watching,
    ):
        tokens = asyncio.run(hand_out_keys(served))
        all_of_it = Watched(served, tokens, watching, pager)
        first = asyncio.run(everything(served.url, tokens))
        assert 200 in first
        # Counters begin with their first event; a second one makes a rate. Budgets are there without any.
        seen = "sum(neev_requests_total) >= {}"
        all_of_it.until("the first requests are scraped", lambda: watching.query(seen.format(len(first))))
        served.kill_litellm()
        assert asyncio.run(one_more(all_of_it, Call("assistant", path="/v1/messages"))) == 503
        asyncio.run(mixed(served.url, tokens, seconds=15, rate=12))
        asyncio.run(everything(served.url, tokens))
        [before] = watching.query("sum(neev_requests_total)")
        asyncio.run(one_more(all_of_it, Call("assistant")))
        more = f"sum(neev_requests_total) > {before['value'][1]}"
        all_of_it.until("the last request is scraped", lambda: watching.query(more))
        yield all_of_it


async def one_more(watched: Watched, call: Call) -> int:
    async with aiohttp.ClientSession(watched.product.url) as session:
        return await send(session, call, watched.tokens)


class TestScrape:
    def test_has_every_family_with_its_type_and_no_other(self, watched):
        kinds = {
            name: kind for name, kind in watched.prometheus.metadata().items() if name.startswith("neev_")
        }
        # OpenMetrics names a counter without the suffix of its samples.
        assert kinds == {name.removesuffix("_total"): family.kind for name, family in FAMILIES.items()}

    @pytest.mark.parametrize("name", FAMILIES)
    def test_has_the_labels_that_dashboards_count_on(self, watched, name):
        series = watched.prometheus.query(name if FAMILIES[name].kind != "histogram" else f"{name}_count")
        assert series
        for one in series:
            assert set(one["metric"]) == {"__name__", "job", "instance", *FAMILIES[name].labels}


def matches(watched: Watched, one: Selected, text: Callable[[str], str]) -> bool:
    """Whether there is a series with this name and these values of labels."""
    matchers = ", ".join(
        f"{name}{operator}{text(repr_of(value))}" for name, operator, value in one.conditions
    )
    return bool(watched.prometheus.query(f"{one.name}{{{matchers}}}"))


def repr_of(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


@pytest.mark.parametrize(("name", "panel", "target"), TARGETS, ids=TARGET_NAMES)
class TestPanel:
    def test_selects_series_that_exist(self, watched, name, panel, target):
        for one in selected(parsed(target["expr"])):
            assert matches(watched, one, lambda text: watched.filled(text, name)), one

    def test_shows_something_with_the_labels_of_its_legend(self, watched, name, panel, target):
        series = watched.prometheus.query(watched.filled(target["expr"], name))
        assert series
        for one in series:
            assert labels_named(target.get("legendFormat", "")) <= set(one["metric"])
        assert [one for one in series if one["value"][1] != "NaN"]


@pytest.fixture
def span():
    return Span(time.time() - LOOKED_AT, time.time(), 1)


class TestPictures:
    @pytest.mark.parametrize("name", ["overview", "spend", "models", "internals"])
    def test_every_panel_is_drawn(self, watched, name, span, tmp_path):
        board = collect(BOARDS[name], watched.prometheus, span)
        for panel in board["panels"]:
            data = panel.get("data", {"rows": True})
            assert data["rows"] if isinstance(data, dict) else data, panel["title"]
        file = tmp_path / "picture.png"
        picture(board, file)
        head = file.read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        assert int.from_bytes(head[16:20]) == 1600

    def test_a_page_that_fails_is_told(self, watched, span, tmp_path):
        board = collect(BOARDS["overview"], watched.prometheus, span)
        board["panels"][-1]["type"] = "unheard-of"
        with pytest.raises(RuntimeError, match="Uncaught TypeError"):
            picture(board, tmp_path / "picture.png")


class TestRules:
    def test_all_were_evaluated_without_an_error(self, watched):
        def done() -> bool:
            return all(rule["health"] != "unknown" for rule in watched.prometheus.rules())

        watched.until("rules are evaluated", done)
        rules = watched.prometheus.rules()
        assert [rule for rule in rules if rule["health"] != "ok"] == []
        assert len(rules) == len(RULES)

    @pytest.mark.parametrize("name", RECORDED)
    def test_recorded_rules_have_values(self, watched, name):
        watched.until(name, lambda: watched.prometheus.query(name))

    @pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
    def test_alerts_select_series_that_exist(self, watched, rule):
        for one in selected(parsed(rule["expr"])):
            watched.until(str(one), lambda one=one: matches(watched, one, str))


class TestAlert:
    def test_a_fault_that_is_made_arrives_at_alertmanager(self, watched):
        def arrived() -> list[dict]:
            return [
                alert
                for alert in watched.alertmanager.alerts()
                if alert["labels"]["alertname"] == "NeevUpstreamAuthError"
            ]

        assert arrived() == []
        assert asyncio.run(one_more(watched, Call("chatbot", REFUSED, fault="status=401"))) == 502
        watched.until("the alert arrives", arrived)
        [alert] = arrived()
        assert alert["labels"]["severity"] == "critical"
        assert alert["labels"]["deployment"] == REFUSED
        assert alert["annotations"]["summary"] == f"NeevAI refuses our account at {REFUSED}"
        assert alert["annotations"]["runbook_url"].endswith("runbook.md#neevupstreamautherror")
