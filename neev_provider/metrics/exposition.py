"""From the sums to Prometheus' own objects, which write themselves as text or OpenMetrics. Called for each scrape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from typing_extensions import override

from neev_provider.metrics.families import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.core import Metric

    from neev_provider.metrics.families import Family
    from neev_provider.metrics.sums import Sums

    Values = Mapping[Family, Mapping[tuple[str, ...], float]]

__all__ = ["SumsCollector"]


class SumsCollector(Collector):
    """Exposes every family of the table.

    Args:
        sums: of what the processes count.
        own: counters and gauges that the exposing process knows itself.
    """

    def __init__(self, sums: Sums, *own: Callable[[], Values]) -> None:
        self._sums: Final = sums
        self._own: Final = own

    @override
    def collect(self) -> Iterator[Metric]:
        known: dict[Family, Mapping[tuple[str, ...], float]] = {}
        for values in self._own:
            known |= values()
        for family in FAMILIES.values():
            if family.kind == "histogram":
                yield _histogram(family, self._sums.histograms(family))
            elif family.kind == "counter":
                yield _counter(family, {**self._sums.counters(family), **known.get(family, {})})
            else:
                yield _gauge(family, {**self._sums.gauges(family), **known.get(family, {})})


def _counter(family: Family, series: Mapping[tuple[str, ...], float]) -> Metric:
    metric = CounterMetricFamily(family.name.removesuffix("_total"), family.help, labels=family.labels)
    for labels, amount in series.items():
        metric.add_metric(labels, amount / family.divisor)
    return metric


def _gauge(family: Family, series: Mapping[tuple[str, ...], float]) -> Metric:
    metric = GaugeMetricFamily(family.name, family.help, labels=family.labels)
    for labels, value in series.items():
        metric.add_metric(labels, value)
    return metric


def _histogram(family: Family, series: Mapping[tuple[str, ...], list[float]]) -> Metric:
    metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    bounds = [*map(floatToGoString, family.buckets), "+Inf"]
    for labels, (*counts, total) in series.items():
        below = 0.0
        cumulated = []
        for bound, count in zip(bounds, counts, strict=True):
            below += count
            cumulated.append((bound, below))
        metric.add_metric(labels, cumulated, total)
    return metric
