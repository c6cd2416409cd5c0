"""What a scrape reads: both formats, every family, hostile labels."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from neev_provider.metrics import families
from neev_provider.metrics.document import PAGE, as_markdown, with_table
from neev_provider.metrics.exposition import SumsCollector
from neev_provider.metrics.families import FAMILIES
from neev_provider.metrics.messages import Delta

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def scraped(sums, *own, accept: str = "text/plain") -> str:
    registry = CollectorRegistry()
    registry.register(SumsCollector(sums, *own))
    encode, _ = choose_encoder(accept)
    return encode(registry).decode()


def samples(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in parse_text(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


class TestFormats:
    def test_every_family_stands_in_every_scrape_with_type_and_help(self, sums):
        text = scraped(sums)
        for family in FAMILIES.values():
            assert f"# HELP {family.name} {family.help}\n" in text
            assert f"# TYPE {family.name} {family.kind}\n" in text

    def test_openmetrics_is_given_to_who_asks_for_it(self, sums):
        sums.add("gateway-0", Delta({"neev_upstream_retries_total": [(("m",), 3)]}))
        text = scraped(sums, accept=OPENMETRICS)
        assert text.endswith("# EOF\n")
        found = {family.name: family for family in parse_openmetrics(text)}
        assert len(found) == len(FAMILIES)
        (sample,) = found["neev_upstream_retries"].samples
        assert (sample.name, sample.value) == ("neev_upstream_retries_total", 3)

    def test_a_histogram_counts_upwards_and_ends_with_all(self, sums):
        bounds = families.OVERHEAD.buckets
        cell = [1.0] * (len(bounds) + 1) + [2.5]
        sums.add("gateway-0", Delta({}, {"neev_gateway_overhead_seconds": [(("fast",), cell)]}))
        found = samples(scraped(sums))
        counts = list(found["neev_gateway_overhead_seconds_bucket"].values())
        assert counts == list(range(1, len(bounds) + 2))
        assert found["neev_gateway_overhead_seconds_count"] == {("fast",): len(bounds) + 1}
        assert found["neev_gateway_overhead_seconds_sum"] == {("fast",): 2.5}

    def test_money_is_usd_and_exact_to_the_nano_usd(self, sums):
        nanos = 123_456_789_012_345_678 // 1000
        sums.add("gateway-0", Delta({"neev_spend_usd_total": [(("m", "t", "k"), nanos)]}))
        (usd,) = samples(scraped(sums))["neev_spend_usd_total"].values()
        assert round(usd * 10**9) == nanos

    def test_what_rarely_happens_is_there_with_zero(self, sums):
        found = samples(scraped(sums))
        assert found["neev_logged_settles_total"] == {(): 0}
        assert found["neev_store_errors_total"] == {("timeout",): 0, ("connection",): 0, ("refused",): 0}

    def test_what_the_parent_knows_itself_is_shown_beside(self, sums):
        found = samples(scraped(sums, lambda: {families.PROCESS_UP: {("store",): 1}}))
        assert found["neev_process_up"] == {("store",): 1}


class TestLabels:
    def test_an_alias_cannot_forge_a_line(self, sums):
        alias = 'a"} 1\nneev_requests_total{key="\\'
        sums.learn("key", {"k1": alias})
        sums.add("gateway-0", Delta({"neev_requests_total": [(("m", "none", "k1", "fast", "200", "ok"), 1)]}))
        for accept, parse in (("text/plain", parse_text), (OPENMETRICS, parse_openmetrics)):
            (family,) = [f for f in parse(scraped(sums, accept=accept)) if f.name == "neev_requests"]
            (sample,) = family.samples
            assert sample.labels["key"] == alias
            assert sample.value == 1


class TestThePage:
    def test_the_table_in_the_documentation_is_this_one(self):
        page = PAGE.read_text()
        assert with_table(page) == page, "run: python -m neev_provider.metrics.document"

    def test_it_names_every_family_once(self):
        table = as_markdown()
        for family in FAMILIES.values():
            assert table.count(f"| `{family.name}` |") == 1
