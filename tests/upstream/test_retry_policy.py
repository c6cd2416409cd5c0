"""When another attempt is made, and after which wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neev_provider.errors import UpstreamError, from_upstream
from neev_provider.retry import NO_RETRIES, ConnectError, RetryBudget, RetryPolicy

UNREACHED = ConnectError("upstream_unavailable", "x")


def status(number, retry_after=None):
    return from_upstream(number, b"", retry_after=retry_after)


@pytest.mark.parametrize("error", [UNREACHED, *map(status, (429, 500, 502, 503, 504))], ids=str)
def test_failures_that_may_pass_are_retried(error):
    assert RetryPolicy().delay(error, [], 1.0) == 0.25


@pytest.mark.parametrize(
    "error",
    [
        *map(status, (400, 401, 402, 403, 404, 408, 409, 413, 422, 501, 505, 302, 204)),
        UpstreamError("upstream_timeout", "x"),
        UpstreamError("upstream_unavailable", "x"),
        UpstreamError("upstream_bad_response", "x", upstream_status=200),
    ],
    ids=str,
)
def test_failures_that_will_not_pass_or_cost_too_much_are_not(error):
    assert RetryPolicy().delay(error, [], 1.0) is None


def test_500_is_retried_once_for_it_often_is_a_bad_request():
    policy = RetryPolicy(max_retries=5)
    assert policy.delay(status(500), [status(502)], 1.0) == 0.5
    assert policy.delay(status(500), [status(500)], 1.0) is None
    assert policy.delay(status(503), [status(500)], 1.0) == 0.5


def test_waits_double_up_to_their_bound():
    policy = RetryPolicy(max_retries=8)
    waits = [policy.delay(UNREACHED, [UNREACHED] * n, 1.0) for n in range(9)]
    assert waits == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, None]


@given(st.floats(0, 1), st.integers(0, 1))
def test_jitter_is_full(jitter, attempt):
    wait = RetryPolicy().delay(UNREACHED, [UNREACHED] * attempt, jitter)
    assert wait == pytest.approx(jitter * 0.25 * 2**attempt)


def test_retry_after_is_waited_in_full_and_a_little_more():
    assert RetryPolicy().delay(status(429, "12"), [], 0.0) == 12.0
    assert RetryPolicy().delay(status(503, "30"), [], 1.0) == 30.25


def test_retry_after_above_its_bound_gives_up_at_once():
    assert RetryPolicy().delay(status(429, "31"), [], 0.5) is None


def test_no_retries():
    assert NO_RETRIES.delay(UNREACHED, [], 0.5) is None


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_budget_of_a_lone_client_is_its_floor():
    budget = RetryBudget(0.1, 3, Clock())
    assert [budget.take_retry() for _ in range(5)] == [True, True, True, False, False]


def test_budget_grows_by_a_tenth_of_the_calls():
    budget = RetryBudget(0.1, 0, Clock())
    for _ in range(9):
        budget.add_call()
    assert not budget.take_retry()
    budget.add_call()
    assert budget.take_retry()
    assert not budget.take_retry()


def test_floor_comes_back_with_time_and_no_further():
    clock = Clock()
    budget = RetryBudget(0.1, 2, clock)
    assert budget.take_retry()
    assert budget.take_retry()
    clock.now = 0.9
    assert not budget.take_retry()
    clock.now = 1.9
    assert budget.take_retry()
    clock.now = 1000.0
    assert [budget.take_retry() for _ in range(3)] == [True, True, False]


def test_budget_cannot_be_saved_up_without_end():
    budget = RetryBudget(0.1, 10, Clock())
    for _ in range(100_000):
        budget.add_call()
    assert sum(budget.take_retry() for _ in range(10_000)) == 100


@given(st.lists(st.booleans(), max_size=500))
def test_retries_never_exceed_floor_and_share(calls):
    budget = RetryBudget(0.1, 10, Clock())
    retries = 0
    for index, fails in enumerate(calls, start=1):
        budget.add_call()
        retries += fails and budget.take_retry()
        assert retries <= 10 + index * 0.1
