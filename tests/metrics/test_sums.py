"""The sums over all processes, within the caps of their labels."""

from __future__ import annotations

from neev_provider.metrics import families
from neev_provider.metrics.messages import Delta
from neev_provider.metrics.sums import Caps, Sums

REQUESTS = "neev_requests_total"


def requests(*rows: tuple[str, str, str], amount: int = 1) -> Delta:
    """Return a delta of requests of model, team and key."""
    return Delta({REQUESTS: [((*row, "fast", "200", "ok"), amount) for row in rows]})


def by_key(sums: Sums) -> dict[str, float]:
    found: dict[str, float] = {}
    for labels, amount in sums.counters(families.REQUESTS).items():
        found[labels[2]] = found.get(labels[2], 0) + amount
    return found


class TestAddingUp:
    def test_counters_of_two_processes_are_one(self, sums):
        sums.add("gateway-0", requests(("m", "t", "k"), amount=2))
        sums.add("gateway-1", requests(("m", "t", "k"), amount=3))
        assert sums.counters(families.REQUESTS) == {("m", "t", "k", "fast", "200", "ok"): 5}

    def test_histograms_of_two_processes_are_one(self, sums):
        cell = [1.0] * (len(families.OVERHEAD.buckets) + 1) + [0.5]
        for process in ("gateway-0", "gateway-1"):
            sums.add(process, Delta({}, {"neev_gateway_overhead_seconds": [(("fast",), cell)]}))
        (found,) = sums.histograms(families.OVERHEAD).values()
        assert found == [2.0] * (len(families.OVERHEAD.buckets) + 1) + [1.0]

    def test_what_is_counted_by_process_gets_its_name_here(self, sums):
        cell = [0.0] * (len(families.LOOP_LAG.buckets) + 1) + [0.0]
        sums.add("litellm", Delta({}, {"neev_event_loop_lag_seconds": [((), cell)]}))
        assert list(sums.histograms(families.LOOP_LAG)) == [("litellm",)]

    def test_gauges_are_summed_and_go_with_their_process(self, sums):
        for process, count in (("gateway-0", 2.0), ("gateway-1", 3.0)):
            sums.show(process, {"neev_open_streams": [((), count)], "neev_catalog_models": [((), count)]})
        assert sums.gauges(families.OPEN_STREAMS) == {(): 5}
        assert sums.gauges(families.CATALOG_MODELS) == {(): 3}  # all have the same: not summed
        sums.drop("gateway-1")
        assert sums.gauges(families.OPEN_STREAMS) == {(): 2}

    def test_what_this_version_does_not_know_is_lost_and_counted(self, sums):
        sums.add(
            "gateway-0", Delta({"neev_of_tomorrow_total": [(("a",), 1)], REQUESTS: [(("too", "few"), 1)]})
        )
        sums.add("gateway-0", Delta({}, {"neev_gateway_overhead_seconds": [(("fast",), [1.0, 2.0])]}))
        sums.show("gateway-0", {"neev_open_streams": [(("surplus",), 1.0)]})
        assert sums.counters(families.LOST_UPDATES) == {(): 4}
        assert sums.counters(families.REQUESTS) == {}


class TestCaps:
    def test_values_beyond_a_cap_are_other_and_the_sum_stays_right(self):
        sums = Sums(Caps(key=3))
        sums.add("gateway-0", requests(*[("m", "none", f"k{n}") for n in range(10)]))
        assert by_key(sums) == {"k0": 1, "k1": 1, "k2": 1, "other": 7}
        assert sums.counters(families.LABEL_OVERFLOWS)[("key",)] == 7

    def test_a_value_that_has_its_place_keeps_it(self):
        sums = Sums(Caps(key=1))
        for key in ("k0", "k1", "k0"):
            sums.add("gateway-0", requests(("m", "none", key)))
        assert by_key(sums) == {"k0": 2, "other": 1}

    def test_none_master_and_other_take_no_place(self):
        sums = Sums(Caps(key=1))
        sums.add("gateway-0", requests(*[("m", "none", key) for key in ("none", "master", "other", "k0")]))
        assert by_key(sums) == {"none": 1, "master": 1, "other": 1, "k0": 1}

    def test_a_model_and_what_it_falls_back_to_share_the_cap_of_models(self):
        sums = Sums(Caps(model=2))
        sums.add("gateway-0", Delta({"neev_fallbacks_total": [(("a", "b"), 1), (("c", "a"), 1)]}))
        assert sums.counters(families.FALLBACKS) == {("a", "b"): 1, ("other", "a"): 1}

    def test_a_family_never_has_more_series_than_its_bound_allows(self):
        sums = Sums(Caps(series=10))
        for number in range(100):
            sums.add("gateway-0", requests((f"m{number % 20}", f"t{number % 5}", f"k{number}")))
        found = sums.counters(families.REQUESTS)
        assert len(found) <= 11
        assert sum(found.values()) == 100
        assert sums.counters(families.LABEL_OVERFLOWS)[("series",)] == 90


class TestNames:
    def test_keys_and_teams_are_shown_by_their_aliases(self, sums):
        sums.add("gateway-0", requests(("m", "t1", "t1_k1")))
        sums.learn("key", {"t1_k1": "ann"})
        sums.learn("team", {"t1": "red"})
        ((_, team, key, *_),) = sums.counters(families.REQUESTS)
        assert (team, key) == ("red", "ann")

    def test_a_new_alias_takes_its_series_along(self, sums):
        sums.learn("key", {"k1": "ann"})
        sums.add("gateway-0", requests(("m", "none", "k1")))
        sums.learn("key", {"k1": "bob"})
        sums.add("gateway-0", requests(("m", "none", "k1")))
        assert by_key(sums) == {"bob": 2}

    def test_two_keys_that_are_called_the_same_are_one_series(self, sums):
        sums.learn("key", {"k1": "k2"})
        sums.add("gateway-0", requests(("m", "none", "k1"), ("m", "none", "k2")))
        assert by_key(sums) == {"k2": 2}

    def test_an_alias_that_means_something_else_is_not_shown(self, sums):
        sums.learn("key", {"k1": "master", "k2": "none", "k3": "other"})
        sums.add("gateway-0", requests(*[("m", "none", f"k{n}") for n in (1, 2, 3)]))
        assert by_key(sums) == {"k1": 1, "k2": 1, "k3": 1}

    def test_a_secret_in_an_alias_is_not_shown(self, sums):
        sums.learn("key", {"k1": "sk-neev-k1.verysecretverysecret"})
        sums.add("gateway-0", requests(("m", "none", "k1")))
        assert by_key(sums) == {"[redacted]": 1}

    def test_a_team_whose_id_is_a_keys_name_is_another(self, sums):
        sums.learn("team", {"ci": "Continuous integration"})
        sums.add("gateway-0", requests(("m", "none", "ci")))
        assert by_key(sums) == {"ci": 1}

    def test_a_model_is_never_renamed(self, sums):
        sums.learn("key", {"m": "ann"})
        sums.add("gateway-0", requests(("m", "none", "k")))
        ((model, *_),) = sums.counters(families.REQUESTS)
        assert model == "m"
