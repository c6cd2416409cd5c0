"""What one process counts, taken as deltas."""

from __future__ import annotations

import pytest

from neev_provider.admission import Principal, Spent
from neev_provider.metrics import families
from neev_provider.metrics.charges import charge, holder
from neev_provider.metrics.families import FAMILIES
from neev_provider.metrics.names import PublicNames
from neev_provider.metrics.recorder import Recorder, put

LABELS = ("m", "t", "k")


class TestDeltas:
    def test_what_is_counted_between_two_deltas_is_in_the_second_alone(self, recorder):
        recorder.add(families.SPEND, LABELS, 5)
        recorder.add(families.SPEND, LABELS, 7)
        assert recorder.take().counts == {"neev_spend_usd_total": [(LABELS, 12)]}
        recorder.add(families.SPEND, LABELS, 1)
        assert recorder.take().counts == {"neev_spend_usd_total": [(LABELS, 1)]}
        assert recorder.take().is_empty

    def test_a_value_falls_into_the_bucket_whose_bound_it_does_not_exceed(self, recorder):
        bounds = families.OVERHEAD.buckets
        for value in (0.0, bounds[0], bounds[0] + 1e-9, bounds[-1], bounds[-1] + 1):
            recorder.observe(families.OVERHEAD, ("fast",), value)
        ((labels, cell),) = recorder.take().buckets["neev_gateway_overhead_seconds"]
        assert labels == ("fast",)
        assert cell[:2] == [2, 1]
        assert cell[len(bounds) - 1 : len(bounds) + 1] == [1, 1]
        assert sum(cell[:-1]) == 5
        assert cell[-1] == pytest.approx(2 * bounds[0] + 2 * bounds[-1] + 1)

    def test_a_count_of_something_else_is_followed_from_zero(self, recorder):
        count = 3
        recorder.follow(families.EXPIRED_LEASES, (), lambda: count)
        assert recorder.take().counts == {"neev_expired_leases_total": [((), 3)]}
        assert recorder.take().is_empty
        count = 4
        assert recorder.take().counts == {"neev_expired_leases_total": [((), 1)]}

    def test_gauges_are_read_when_they_are_wanted(self, recorder):
        value = True
        recorder.watch(families.BREAKER_OPEN, (), lambda: value)
        assert recorder.gauges() == {"neev_store_breaker_open": [((), 1.0)]}
        value = False
        assert recorder.gauges() == {"neev_store_breaker_open": [((), 0.0)]}

    def test_a_name_is_told_once_until_it_changes(self, recorder):
        for _ in range(2):
            recorder.name("k1", "ann")
        assert recorder.take().names == {"k1": "ann"}
        recorder.name("k1", "ann")
        assert recorder.take().names == {}
        recorder.name("k1", "bob")
        assert recorder.take().names == {"k1": "bob"}

    def test_what_is_announced_is_shown_with_zero_once(self, recorder):
        recorder.announce(families.UPSTREAM_RETRIES, ("m",))
        assert recorder.take().counts == {"neev_upstream_retries_total": [(("m",), 0)]}
        assert recorder.take().is_empty

    def test_a_count_that_is_held_counts_on_after_a_delta(self, recorder):
        count = recorder.count(families.UPSTREAM_RETRIES, ("m",))
        cell = recorder.cell(families.OVERHEAD, ("fast",))
        for _ in range(2):
            count.amount += 2
            put(cell, families.OVERHEAD.buckets, 0.5)
            taken = recorder.take()
            assert taken.counts == {"neev_upstream_retries_total": [(("m",), 2)]}
            ((_, (*counts, total)),) = taken.buckets["neev_gateway_overhead_seconds"]
            assert (sum(counts), total) == (1, 0.5)


class TestBounds:
    def test_series_of_the_past_are_let_go_and_who_holds_them_is_told(self):
        recorder = Recorder(most_series=10)
        for number in range(7):
            recorder.add(families.UPSTREAM_RETRIES, (str(number),))
        assert recorder.generation == 0
        recorder.take()
        assert recorder.generation == 1
        for number in range(10):
            recorder.add(families.UPSTREAM_RETRIES, (f"new-{number}",))
        taken = recorder.take()
        assert len(taken.counts["neev_upstream_retries_total"]) == 10
        assert "neev_metrics_lost_updates_total" not in taken.counts

    def test_what_is_full_says_so(self):
        recorder = Recorder(most_series=1)
        assert not recorder.is_full
        recorder.add(families.UPSTREAM_RETRIES, ("m",))
        assert recorder.is_full
        recorder.take()
        assert not recorder.is_full

    def test_series_beyond_the_bound_are_lost_and_counted_until_a_delta_is_taken(self):
        recorder = Recorder(most_series=2)
        for number in range(5):
            recorder.add(families.UPSTREAM_RETRIES, (str(number),))
        recorder.add(families.UPSTREAM_RETRIES, ("0",))
        recorder.observe(families.OVERHEAD, ("fast",), 1)
        taken = recorder.take()
        assert taken.counts["neev_upstream_retries_total"] == [(("0",), 2), (("1",), 1)]
        assert taken.counts["neev_metrics_lost_updates_total"] == [((), 4)]
        assert taken.buckets.get("neev_gateway_overhead_seconds", []) == []
        recorder.add(families.UPSTREAM_RETRIES, ("9",))
        assert recorder.take().counts == {"neev_upstream_retries_total": [(("9",), 1)]}


class TestModelNames:
    def test_only_configured_names_are_shown(self):
        names = PublicNames(lambda: ["house"], lambda: None)
        assert [names.label(name) for name in ("house", "hostile", None)] == ["other", "other", "none"]

    def test_names_are_read_anew_when_the_catalog_is_another(self):
        catalogs = [object()]
        known = ["house"]
        names = PublicNames(lambda: known, lambda: catalogs[-1])
        assert names.label("house") == "house"
        known.append("new")
        assert names.label("new") == "other"
        catalogs.append(object())
        assert names.label("new") == "new"


class TestCharges:
    def counted(self, recorder) -> dict:
        return {
            (name, labels): amount
            for name, series in recorder.take().counts.items()
            for labels, amount in series
        }

    def test_tokens_and_spend_of_a_chat_call(self, recorder):
        charge(recorder, LABELS, Spent(5, 10, 5500, model="x"))
        assert self.counted(recorder) == {
            ("neev_tokens_total", (*LABELS, "input", "false")): 5,
            ("neev_tokens_total", (*LABELS, "output", "false")): 10,
            ("neev_spend_usd_total", LABELS): 5500,
        }

    def test_an_estimate_is_marked_and_counted(self, recorder):
        charge(recorder, LABELS, Spent(5, 0, 500, estimated=True, model="x"))
        counted = self.counted(recorder)
        assert counted[("neev_tokens_total", (*LABELS, "input", "true"))] == 5
        assert counted[("neev_estimated_charges_total", ("m",))] == 1

    def test_a_model_without_a_price_is_counted_as_such_and_not_as_free(self, recorder):
        charge(recorder, LABELS, Spent(5, 10, None, model="x"))
        counted = self.counted(recorder)
        assert counted[("neev_unpriced_calls_total", ("m",))] == 1
        assert not [name for name, _ in counted if name == "neev_spend_usd_total"]

    def test_speech_is_counted_in_characters(self, recorder):
        charge(recorder, LABELS, Spent(cost_nanos=300, model="x", characters=20))
        assert self.counted(recorder) == {
            ("neev_speech_characters_total", LABELS): 20,
            ("neev_spend_usd_total", LABELS): 300,
        }

    def test_a_call_that_produced_nothing_is_not_counted(self, recorder):
        charge(recorder, LABELS, Spent())
        assert self.counted(recorder) == {}

    def test_a_key_is_counted_by_its_id_and_its_alias_told_beside(self, recorder):
        assert holder(recorder, Principal("k1", alias="ann", team="red")) == ("k1", "red")
        assert holder(recorder, Principal("k2")) == ("k2", "none")
        assert recorder.take().names == {"k1": "ann"}


class TestTheTable:
    def test_names_say_what_they_are(self):
        for family in FAMILIES.values():
            assert family.name.startswith("neev_")
            assert family.help.endswith((".", "?"))
            assert family.name.endswith("_total") == (family.kind == "counter"), family.name
            assert (family.kind == "histogram") == bool(family.buckets), family.name
            assert list(family.buckets) == sorted(set(family.buckets)), family.name

    def test_durations_of_requests_show_a_fifth_of_a_millisecond_and_ten_minutes(self):
        for family in (families.REQUEST_DURATION, families.TIME_TO_FIRST_TOKEN, families.UPSTREAM_DURATION):
            assert (family.buckets[0], family.buckets[-1]) == (0.0002, 600)
        for family in (families.OVERHEAD, families.ADMISSION, families.STORE_CALL):
            assert (family.buckets[0], family.buckets[-1]) == (0.0001, 1)
