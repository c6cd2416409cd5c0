"""Which deployment is called next, and when nothing is left."""

from __future__ import annotations

import random
import timeit

import pytest

from neev_provider.routing import Attempt, HandOver
from tests.routing.routes import (
    TOO_LONG,
    UNREACHABLE,
    A,
    B,
    C,
    NoJitter,
    build,
    deployment,
    failure,
    waits,
    walk,
)

FOREIGN = {"model_name": "claude", "litellm_params": {"model": "anthropic/claude"}}


def test_the_first_attempt_waits_for_nothing(tmp_path):
    router = build(tmp_path, deployment("first"))
    step = router.plan(router.resolve("first")).next()
    assert isinstance(step, Attempt)
    assert (step.wait, step.group, step.retry, step.fallback) == (0, "first", 0, 0)


def test_the_same_seed_makes_the_same_choices(tmp_path):
    entries = [deployment("first", model) for model in (A, B, C)]
    one, other = (build(tmp_path, *entries, rng=random.Random(5)) for _ in range(2))
    assert [walk(one, "first", {}) for _ in range(30)] == [walk(other, "first", {}) for _ in range(30)]


@pytest.mark.parametrize("error", [failure(429), failure(500), failure(503), failure(408), UNREACHABLE])
def test_what_may_pass_is_tried_again(error, tmp_path):
    assert walk(build(tmp_path, deployment("first")), "first", error) == ["first"] * 3 + [error.code]


@pytest.mark.parametrize(
    "error", [failure(400), failure(401), failure(402), failure(403), failure(404), TOO_LONG]
)
def test_what_would_fail_again_is_not(error, tmp_path):
    assert walk(build(tmp_path, deployment("first")), "first", error) == ["first", error.code]


def test_an_account_that_is_refused_is_left_for_another(tmp_path):
    router = build(tmp_path, deployment("first", weight=1), deployment("first", B, weight=0))
    assert walk(router, "first", {"first#1": failure(403)}) == ["first#1", "first#2", "ok"]


def test_retries_tell_their_number_and_fallbacks_theirs(tmp_path):
    router = build(
        tmp_path, deployment("first"), deployment("second"), fallbacks=[{"first": ["second"]}], num_retries=1
    )
    plan, steps = router.plan(router.resolve("first")), []
    while isinstance(step := plan.next(), Attempt):
        steps.append((step.group, step.retry, step.fallback))
        plan.failed(failure(503))
    assert steps == [("first", 0, 0), ("first", 1, 0), ("second", 0, 1), ("second", 1, 1)]


def test_the_first_groups_error_is_the_answer_when_fallbacks_fail_too(tmp_path):
    router = build(tmp_path, deployment("first"), deployment("second"), fallbacks=[{"first": ["second"]}])
    assert walk(router, "first", {"first": failure(400), "second": failure(429)})[-1] == "invalid_request"


def test_the_last_error_is_the_answer_when_order_levels_fail(tmp_path):
    router = build(tmp_path, deployment("first", order=1), deployment("first", B, order=2), num_retries=0)
    assert walk(router, "first", {"first#1": failure(503), "first#2": failure(400)}) == [
        "first#1",
        "first#2",
        "invalid_request",
    ]


def test_a_lone_deployment_is_given_time(tmp_path):
    router = build(tmp_path, deployment("first"), num_retries=6, rng=NoJitter())
    assert waits(router, "first", failure(503)) == [0, 0.5, 1, 2, 4, 8, 8]


def test_jitter_spreads_the_waits(tmp_path):
    router = build(tmp_path, deployment("first"), num_retries=1, rng=random.Random(3))
    assert 0.5 < waits(router, "first", failure(503))[1] < 1.25


def test_upstreams_wish_to_wait_is_granted_up_to_a_minute(tmp_path):
    router = build(tmp_path, deployment("first"), num_retries=1, rng=NoJitter())
    assert waits(router, "first", failure(429, retry_after="20"))[1] == 20
    assert waits(router, "first", failure(429, retry_after="61"))[1] == 0.5


def test_others_are_turned_to_at_once(tmp_path):
    router = build(tmp_path, deployment("first"), deployment("first", B), num_retries=2)
    assert waits(router, "first", failure(503, retry_after="20")) == [0, 0, 0]


def test_a_fallback_that_is_not_ours_hands_the_request_over(tmp_path):
    router = build(tmp_path, deployment("first"), FOREIGN, fallbacks=[{"first": ["claude"]}], num_retries=0)
    assert walk(router, "first", failure(503)) == ["first", "-> claude"]


def test_a_group_that_is_cooling_down_hands_over_at_once(tmp_path):
    router = build(tmp_path, deployment("first"), FOREIGN, fallbacks=[{"first": ["claude"]}])
    walk(router, "first", failure(401))
    plan = router.plan(router.resolve("first"))
    assert plan.next() == HandOver("claude")


def test_a_fallback_that_the_key_may_not_call_is_left_out(tmp_path):
    entries = [deployment("first"), deployment("second", B), deployment("third", C)]
    router = build(tmp_path, *entries, fallbacks=[{"first": ["second", "third"]}], num_retries=0)
    steps = walk(router, "first", {"first": failure(503)}, may_call=lambda name: name != "second")
    assert steps == ["first", "third", "ok"]


def test_order_levels_need_no_permission_of_their_own(tmp_path):
    router = build(tmp_path, deployment("first", order=1), deployment("first", B, order=2), num_retries=0)
    steps = walk(router, "first", {"first#1": failure(503)}, may_call=lambda _: False)
    assert steps == ["first#1", "first#2", "ok"]


def test_a_fallback_to_nothing_is_passed_over(tmp_path):
    entries = [deployment("neev/*", "*"), deployment("first"), deployment("third", C)]
    router = build(tmp_path, *entries, fallbacks=[{"first": ["nope", "third"]}], num_retries=0)
    assert walk(router, "first", {"first": failure(503)}) == ["first", "third", "ok"]


def test_an_untold_outcome_is_a_fault_of_the_caller(tmp_path):
    router = build(tmp_path, deployment("first"))
    plan = router.plan(router.resolve("first"))
    plan.next()
    with pytest.raises(RuntimeError, match="outcome is missing"):
        plan.next()


def test_an_exhausted_plan_stays_exhausted(tmp_path):
    router = build(tmp_path, deployment("first"), num_retries=0)
    plan = router.plan(router.resolve("first"))
    plan.next()
    plan.failed(failure(503))
    assert plan.next() is None
    assert plan.next() is None
    assert plan.error.code == "upstream_error"


def test_a_plan_costs_next_to_nothing_while_all_is_well(tmp_path):
    router = build(tmp_path, deployment("first"))
    group = router.resolve("first")

    def once():
        plan = router.plan(group)
        plan.next()
        plan.succeeded()

    # 2 us on an idle core; the bound leaves room for a busy one.
    assert min(timeit.repeat(once, number=2000, repeat=7)) / 2000 < 15e-6
