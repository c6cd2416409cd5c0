"""When a failing deployment is left alone, and for how long."""

from __future__ import annotations

import pytest

from tests.routing.routes import TOO_LONG, A, B, C, Clock, build, deployment, failure, walk

ALONE = [deployment("first")]
PAIR = [deployment("first", A, weight=1), deployment("first", B, weight=0)]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(tmp_path, clock):
    def router(*entries, **settings):
        return build(tmp_path, *entries, clock=clock, **{"num_retries": 0, **settings})

    return router


def called(router, failures=None, name="first") -> str:
    """Ask once, without retries; return whom it called, or the error's code if nobody."""
    return walk(router, name, failures or {})[0]


@pytest.mark.parametrize("status", [401, 402, 404, 429])
def test_some_failures_cool_a_deployment_down_at_once(status, make):
    router = make(*PAIR)
    called(router, failure(status))
    assert called(router) == "first#2"


@pytest.mark.parametrize("status", [400, 403, 408, 422, 500, 503])
def test_others_do_not(status, make):
    router = make(*PAIR)
    called(router, failure(status))
    assert called(router) == "first#1"


@pytest.mark.parametrize(
    ("status", "cools"), [(401, True), (404, True), (429, False), (402, False), (503, False)]
)
def test_a_lone_deployment_is_spared_where_litellm_spares_it(status, cools, make):
    router = make(*ALONE)
    called(router, failure(status))
    assert (called(router) == "first") is not cools


def test_deployments_left_alone_because_our_account_was_refused_say_so(make):
    router = make(*ALONE)
    called(router, failure(401))
    assert called(router) == "upstream_auth_error"


def test_deployments_left_alone_for_other_reasons_are_a_rate_limit(make):
    router = make(*ALONE)
    called(router, failure(404))
    assert called(router) == "upstream_rate_limited"


def test_it_lasts_5_seconds_by_default(make, clock):
    router = make(*PAIR)
    called(router, failure(429))
    clock.now += 4.9
    assert called(router) == "first#2"
    clock.now += 0.2
    assert called(router) == "first#1"


@pytest.mark.parametrize(
    ("entry", "router", "retry_after", "seconds"),
    [
        ({}, {"cooldown_time": 30}, None, 30),
        ({}, {"cooldown_time": 0}, None, 5),
        ({}, {"cooldown_time": 30}, "12", 12),
        ({"cooldown_time": 7}, {"cooldown_time": 30}, "12", 7),
    ],
)
def test_the_deployment_says_how_long_else_upstream_else_the_router(
    entry, router, retry_after, seconds, make, clock
):
    made = make(deployment("first", A, weight=1, **entry), PAIR[1], **router)
    called(made, failure(429, retry_after=retry_after))
    clock.now += seconds - 0.1
    assert called(made) == "first#2"
    clock.now += 0.2
    assert called(made) == "first#1"


@pytest.mark.parametrize(("entry", "retry_after"), [({"cooldown_time": 0}, None), ({}, "0")])
def test_no_time_is_no_cooldown(entry, retry_after, make):
    router = make(deployment("first", A, weight=1, **entry), PAIR[1])
    called(router, failure(429, retry_after=retry_after))
    assert called(router) == "first#1"


def test_cooldowns_can_be_switched_off(make):
    router = make(*PAIR, disable_cooldowns=True)
    called(router, failure(401))
    assert called(router) == "first#1"


def test_most_of_five_calls_in_a_minute_must_have_failed(make):
    router = make(*PAIR)
    for _ in range(4):
        called(router, failure(503))
    assert called(router) == "first#1"
    called(router, failure(503))
    assert called(router) == "first#2"


def test_half_is_not_most(make):
    router = make(*PAIR)
    for _ in range(10):
        called(router)
        called(router, failure(503))
    assert called(router) == "first#1"


def test_what_failed_a_minute_ago_is_forgotten(make, clock):
    router = make(*PAIR)
    for _ in range(4):
        called(router, failure(503))
    clock.now += 61
    called(router, failure(503))
    assert called(router) == "first#1"


def test_a_lone_deployment_cools_down_after_a_thousand_failures_and_no_success(make):
    router = make(*ALONE)
    for _ in range(999):
        called(router, failure(503))
    assert called(router, failure(503)) == "first"
    assert called(router) == "upstream_rate_limited"


def test_one_success_among_a_thousand_spares_it(make):
    router = make(*ALONE)
    called(router)
    for _ in range(1100):
        called(router, failure(503))
    assert called(router) == "first"


def test_allowed_fails_count_any_failure_that_is_not_the_requests(make):
    router = make(*ALONE, allowed_fails=1)
    called(router, TOO_LONG)
    called(router, failure(400))
    called(router, failure(503))
    assert called(router, failure(429)) == "first"
    assert called(router) == "upstream_rate_limited"


def test_allowed_fails_forgive_after_the_cooldown_time(make, clock):
    router = make(*ALONE, allowed_fails=1, cooldown_time=10)
    called(router, failure(503))
    clock.now += 11
    called(router, failure(503))
    assert called(router) == "first"


def test_allowed_fails_of_litellms_default_are_as_if_not_set(make):
    router = make(*PAIR, allowed_fails=3)
    called(router, failure(429))
    assert called(router) == "first#2"


def test_a_wildcards_deployments_never_cool_down(make):
    router = make(deployment("neev/*", "*"))
    called(router, failure(401), f"neev/{A}")
    assert called(router, {}, f"neev/{A}") == "neev/*"


def test_a_deployment_cools_down_for_all_names_that_lead_to_it(make):
    router = make(*PAIR, model_group_alias={"nick": "first"})
    called(router, failure(429), "nick")
    assert called(router) == "first#2"


def test_when_all_cool_down_the_client_is_told_when_to_come_back(make, clock):
    router = make(*PAIR, cooldown_time=30)
    called(router, failure(429))
    clock.now += 10
    called(router, failure(429))
    clock.now += 5
    plan = router.plan(router.resolve("first"))
    assert plan.next() is None
    assert (plan.error.status, plan.error.code, plan.error.retry_after) == (429, "upstream_rate_limited", 15)
    assert "'first'" in plan.error.message


def test_a_higher_order_level_serves_while_the_lowest_cools_down(make, clock):
    router = make(
        deployment("first", A, order=1), deployment("first", B, order=2), deployment("first", C, order=3)
    )
    assert walk(router, "first", {"first#1": failure(429)}) == ["first#1", "first#2", "ok"]
    assert called(router) == "first#2"
    clock.now += 6
    assert called(router) == "first#1"


def test_a_failure_after_the_first_byte_counts(make):
    router = make(*PAIR)
    plan = router.plan(router.resolve("first"))
    plan.next()
    plan.failed(failure(429))  # and `next` is not asked
    assert called(router) == "first#2"
