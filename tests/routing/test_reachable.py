"""Every deployment that a request may end at: what the worst case of its cost is taken over."""

from __future__ import annotations

from tests.routing.routes import A, B, C, build, deployment


def names(router, group: str) -> list[str]:
    return sorted(deployment.name for deployment in router.reachable(router.resolve(group)))


def test_a_group_without_fallbacks_reaches_its_own(tmp_path):
    router = build(tmp_path, deployment("one", A), deployment("one", B), deployment("other", C))
    assert names(router, "one") == ["one#1", "one#2"]


def test_fallbacks_of_fallbacks_count_and_circles_end(tmp_path):
    entries = [deployment("one", A), deployment("two", B), deployment("three", C)]
    router = build(tmp_path, *entries, fallbacks=[{"one": ["two"]}, {"two": ["three"]}, {"three": ["one"]}])
    assert names(router, "one") == ["one", "three", "two"]


def test_fallbacks_for_long_prompts_and_default_ones_count(tmp_path):
    entries = [deployment("one", A), deployment("two", B), deployment("three", C)]
    router = build(
        tmp_path, *entries, context_window_fallbacks=[{"one": ["two"]}], default_fallbacks=["three"]
    )
    assert names(router, "one") == ["one", "three", "two"]


def test_what_litellm_serves_has_no_deployments_here(tmp_path):
    foreign = {"model_name": "claude", "litellm_params": {"model": "anthropic/claude"}}
    router = build(tmp_path, deployment("one", A), foreign, fallbacks=[{"one": ["claude"]}])
    assert names(router, "one") == ["one"]


def test_it_is_worked_out_once(tmp_path):
    router = build(tmp_path, deployment("one", A))
    group = router.resolve("one")
    assert router.reachable(group) is router.reachable(group)
