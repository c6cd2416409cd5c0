"""The same configurations and faults through LiteLLM's own Router and ours: the same calls, the same end.

Each deployment serves another model, so that the emulator's record shows which were called, in which order.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import litellm
import pytest
from litellm.types.router import RouterRateLimitError

import neev_provider
from neev_provider.errors import NeevError
from neev_provider.litellm_errors import to_litellm
from neev_provider.routing import Attempt
from neev_provider.routing_plan import _NoDeploymentsError
from neev_provider.upstream import NO_RETRIES, Upstream
from tests.routing.routes import A, B, C, build, deployment

D = "glm-4-7"
MESSAGES = [{"role": "user", "content": "hello"}]
BODY = '{"model": "%s", "messages": [{"role": "user", "content": "hello"}]}'


@dataclass(frozen=True)
class Case:
    """One configuration under faults."""

    name: str
    entries: list[dict[str, Any]]
    faults: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)
    asks: tuple[str, ...] = ("first",)


def pair(**second) -> list[dict[str, Any]]:
    """Two deployments of one group, of which the first is always preferred while it is well."""
    return [deployment("first", A, weight=1), deployment("first", B, **{"weight": 0, **second})]


ONE = [deployment("first", A)]
TWO_GROUPS = [deployment("first", A), deployment("second", B)]
THREE_GROUPS = [*TWO_GROUPS, deployment("third", C)]
ORDERED = [deployment("first", A, order=1), deployment("first", B, order=2), deployment("first", C, order=5)]
ALL_FAIL = {A: "status=503", B: "status=503", C: "status=503", D: "status=503"}

CASES = [
    Case("all is well", ONE, {}),
    *(
        Case(f"a lone deployment fails with {fault}", ONE, {A: fault}, asks=("first",) * 2)
        for fault in (
            "status=400",
            "status=401",
            "status=403",
            "status=404",
            "status=422",
            "status=429",
            "status=500",
            "status=502",
            "status=503",
            "retry-after=9",
            "context-length",
            "reset",
            "html",
        )
    ),
    *(
        Case(f"the preferred of two fails with {fault}", pair(), {A: fault}, asks=("first",) * 3)
        for fault in (
            "status=400",
            "status=401",
            "status=403",
            "status=404",
            "status=429",
            "status=503",
            "retry-after=9",
            "context-length",
            "reset",
        )
    ),
    *(
        Case(f"both of two fail with {fault}", pair(), {A: fault, B: fault}, asks=("first",) * 3)
        for fault in ("status=401", "status=403", "status=404", "status=429", "status=503", "retry-after=0")
    ),
    Case("no retries", ONE, ALL_FAIL, {"num_retries": 0}),
    Case("many retries", ONE, ALL_FAIL, {"num_retries": 5}),
    Case("a deployment's own retries", [deployment("first", A, num_retries=1)], ALL_FAIL, {"num_retries": 3}),
    Case(
        "own retries of the one that fails first",
        pair(num_retries=4),
        {A: "status=403", B: "status=403"},
        {"num_retries": 1},
    ),
    *(
        Case(f"order levels with {fault}", ORDERED, dict.fromkeys((A, B), fault), asks=("first",) * 3)
        for fault in ("status=400", "status=401", "status=429", "status=503", "context-length")
    ),
    Case("all order levels fail", ORDERED, ALL_FAIL, asks=("first",) * 4),
    Case(
        "all order levels are limited", ORDERED, dict.fromkeys((A, B, C), "status=429"), asks=("first",) * 2
    ),
    Case("one has an order, one not", [deployment("first", A), deployment("first", B, order=3)], ALL_FAIL),
    Case(
        "order levels, then a fallback",
        [*ORDERED, deployment("second", D)],
        dict.fromkeys((A, B, C), "status=503"),
        {"fallbacks": [{"first": ["second"]}], "num_retries": 1},
    ),
    *(
        Case(
            f"a fallback after {fault}",
            TWO_GROUPS,
            {A: fault},
            {"fallbacks": [{"first": ["second"]}]},
            ("first",) * 2,
        )
        for fault in ("status=400", "status=401", "status=404", "status=429", "status=503", "context-length")
    ),
    Case(
        "every fallback fails",
        THREE_GROUPS,
        {A: "status=503", B: "status=429", C: "status=400"},
        {"fallbacks": [{"first": ["second", "third"]}]},
        ("first", "first", "second"),
    ),
    Case(
        "fallbacks that name each other",
        THREE_GROUPS,
        ALL_FAIL,
        {
            "fallbacks": [{"first": ["second"]}, {"second": ["third", "first"]}, {"third": ["first"]}],
            "num_retries": 0,
        },
        ("first", "second", "third"),
    ),
    Case(
        "a group's own chain goes before the default one",
        THREE_GROUPS,
        {A: "status=503", B: "status=503"},
        {"fallbacks": [{"first": ["second"]}], "default_fallbacks": ["third"], "num_retries": 0},
        ("first", "second"),
    ),
    Case(
        "the default fallbacks of a group without a chain",
        THREE_GROUPS,
        {A: "status=503"},
        {"default_fallbacks": ["second", "third"], "num_retries": 0},
    ),
    Case(
        "the first of a group's chains counts",
        THREE_GROUPS,
        {A: "status=503"},
        {"fallbacks": [{"first": ["second"]}, {"first": ["third"]}]},
    ),
    Case(
        "a bound on fallbacks",
        THREE_GROUPS,
        ALL_FAIL,
        {"fallbacks": [{"first": ["second"]}, {"second": ["third"]}], "max_fallbacks": 1, "num_retries": 0},
    ),
    Case(
        "no fallbacks at all",
        TWO_GROUPS,
        ALL_FAIL,
        {"fallbacks": [{"first": ["second"]}], "max_fallbacks": 0},
    ),
    Case(
        "a prompt too long goes to the larger window",
        THREE_GROUPS,
        {A: "context-length"},
        {"context_window_fallbacks": [{"first": ["second"]}], "fallbacks": [{"first": ["third"]}]},
    ),
    Case(
        "a prompt too long, with such fallbacks for others only",
        THREE_GROUPS,
        {A: "context-length"},
        {"context_window_fallbacks": [{"second": ["third"]}], "fallbacks": [{"first": ["third"]}]},
    ),
    Case(
        "windows that are too small one after the other",
        THREE_GROUPS,
        {A: "context-length", B: "context-length"},
        {"context_window_fallbacks": [{"first": ["second"]}, {"second": ["third"]}]},
    ),
    Case(
        "an alias has the fallbacks of its own name",
        THREE_GROUPS,
        {A: "status=503"},
        {
            "model_group_alias": {"nick": "first", "shy": {"model": "first", "hidden": True}},
            "fallbacks": [{"first": ["second"]}, {"nick": ["third"]}],
            "num_retries": 0,
        },
        ("nick", "shy", "first"),
    ),
    Case(
        "a fallback to an alias",
        TWO_GROUPS,
        {A: "status=503"},
        {"model_group_alias": {"nick": "second"}, "fallbacks": [{"first": ["nick"]}]},
    ),
    Case(
        "a wildcard",
        [deployment("neev/*", "*")],
        {A: "status=401"},
        {"num_retries": 1},
        (f"neev/{A}", f"neev/{A}", f"neev/{B}"),
    ),
    Case(
        "a wildcard finds the chain of the bare name",
        [deployment("neev/*", "*"), deployment("second", C)],
        {A: "status=503"},
        {"fallbacks": [{A: ["second"]}], "num_retries": 0},
        (f"neev/{A}",),
    ),
    Case(
        "the longest wildcard wins",
        [deployment("*", A), deployment("x-*", B), deployment("x-y*", C)],
        {},
        {},
        ("z", "x-z", "x-yz"),
    ),
    Case("failures that are allowed", ONE, ALL_FAIL, {"allowed_fails": 1, "num_retries": 5}, ("first",) * 2),
    Case("none allowed", pair(), {A: "status=503"}, {"allowed_fails": 0}, ("first",) * 2),
    Case(
        "the default number allowed counts as none set", ONE, ALL_FAIL, {"allowed_fails": 3, "num_retries": 7}
    ),
    Case("no cooldowns", pair(), {A: "status=429"}, {"disable_cooldowns": True}, ("first",) * 2),
    Case(
        "a deployment's cooldown of 0",
        [*pair()[1:], deployment("first", A, weight=1, cooldown_time=0)],
        {A: "status=429"},
        {},
        ("first",) * 2,
    ),
    Case("mostly failing", pair(), {A: "status=503"}, {"num_retries": 0}, ("first",) * 7),
    Case(
        "a limit with a fallback is retried while others are well",
        [*pair(), deployment("second", C)],
        {A: "status=429", B: "status=429"},
        {"fallbacks": [{"first": ["second"]}]},
    ),
]


@pytest.fixture(autouse=True)
def _litellm(monkeypatch):
    monkeypatch.setattr(litellm, "suppress_debug_info", True)
    monkeypatch.setattr(litellm, "disable_hf_tokenizer_download", True)
    neev_provider.register()
    yield
    litellm.logging_callback_manager._reset_all_callbacks()


def at(emulator, entries):
    """Point entries at the emulator."""
    target = {"api_base": emulator.base_url, "api_key": emulator.api_key}
    return [{**entry, "litellm_params": {**entry["litellm_params"], **target}} for entry in entries]


def called(emulator) -> list[str]:
    models = [request["body"]["model"] for request in emulator.requests()]
    emulator.clear()
    return models


async def ask_litellm(router: litellm.Router, name: str) -> str:
    try:
        await router.acompletion(model=name, messages=MESSAGES)
    except RouterRateLimitError:
        return "RateLimitError"  # the proxy answers 429
    except Exception as error:
        return type(error).__name__
    return "ok"


async def ask_us(router, upstream: Upstream, name: str) -> str:
    plan = router.plan(router.resolve(name))
    while isinstance(step := plan.next(), Attempt):
        try:
            await upstream.chat(step.deployment.upstream, (BODY % step.deployment.model.id).encode())
        except NeevError as error:
            plan.failed(error)
        else:
            plan.succeeded()
            return "ok"
    if isinstance(plan.error, _NoDeploymentsError):
        return "RateLimitError"  # ours may say why they are left alone
    return type(to_litellm(plan.error, model=name, in_proxy=False)).__name__


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_the_same_calls_and_the_same_end(case, emulator, tmp_path, monkeypatch):
    for model, fault in case.faults.items():
        emulator.set_fault(fault, model=model)
    entries = at(emulator, case.entries)
    theirs = litellm.Router(model_list=entries, **case.settings)
    monkeypatch.setattr(theirs, "_time_to_sleep_before_retry", lambda **_: 0)
    expected = [(name, await ask_litellm(theirs, name), called(emulator)) for name in case.asks]
    ours = build(tmp_path, *entries, **case.settings)
    async with Upstream(retry=NO_RETRIES) as upstream:
        got = [(name, await ask_us(ours, upstream, name), called(emulator)) for name in case.asks]
    assert got == expected


@pytest.mark.parametrize(
    "shares",
    [
        [{}, {}, {}],
        [{"weight": 3}, {"weight": 1}, {}],
        [{"rpm": 10}, {"rpm": 30}, {"tpm": 9}],
        [{"tpm": 1000}, {"tpm": 3000}, {"tpm": 4000}],
        [{"weight": 0}, {"rpm": 1}, {"rpm": 3}],
        [{"order": 2, "weight": 9}, {"order": 1, "weight": 1}, {"order": 1, "weight": 3}],
    ],
    ids=str,
)
def test_deployments_are_chosen_in_the_same_shares(shares, tmp_path):
    entries = [
        deployment("first", model, api_key="sk-nc-x", **share)
        for model, share in zip((A, B, C), shares, strict=True)
    ]
    theirs = litellm.Router(model_list=entries)
    random.seed(7)
    calls = 4000
    expected = Counter(
        theirs.get_available_deployment("first")["litellm_params"]["model"].removeprefix("neev/")
        for _ in range(calls)
    )
    ours = build(tmp_path, *entries)
    group = ours.resolve("first")
    got = Counter(ours.plan(group).next().deployment.model.id for _ in range(calls))
    assert set(got) == set(expected)
    assert all(abs(got[model] - expected[model]) < 0.04 * calls for model in expected)


@pytest.mark.parametrize("retry_after", [None, "3", "90"])
@pytest.mark.parametrize("minimum", [0, 3])
async def test_a_lone_deployment_is_waited_for_as_long(retry_after, minimum, emulator, tmp_path, monkeypatch):
    monkeypatch.setattr(random, "random", lambda: 0.5)
    emulator.set_fault("status=503" if retry_after is None else f"retry-after={retry_after}", model=A)
    entries = at(emulator, ONE)
    theirs = litellm.Router(model_list=entries, num_retries=3, retry_after=minimum)
    computed = theirs._time_to_sleep_before_retry
    expected = []
    monkeypatch.setattr(
        theirs, "_time_to_sleep_before_retry", lambda **kwargs: expected.append(computed(**kwargs)) or 0
    )
    await ask_litellm(theirs, "first")
    ours = build(tmp_path, *entries, num_retries=3, retry_after=minimum)
    monkeypatch.setattr(ours._routes.rng, "random", lambda: 0.5)
    plan, got = ours.plan(ours.resolve("first")), []
    async with Upstream(retry=NO_RETRIES) as upstream:
        while isinstance(step := plan.next(), Attempt):
            got.append(step.wait)
            with pytest.raises(NeevError) as caught:
                await upstream.chat(step.deployment.upstream, (BODY % A).encode())
            plan.failed(caught.value)
    assert got == [0, *expected[:-1]]  # LiteLLM waits once more before it gives up


@pytest.mark.parametrize(
    ("params", "router", "settings"),
    [
        ({}, {}, {}),
        ({"timeout": 7}, {"timeout": 20}, {"request_timeout": 30}),
        ({}, {"timeout": 20}, {"request_timeout": 30}),
        ({}, {"timeout": 20}, {}),
        ({}, {}, {"request_timeout": 30}),
        ({"stream_timeout": 4}, {"timeout": 20, "stream_timeout": 5}, {}),
        ({"timeout": 7}, {"timeout": 20, "stream_timeout": 5}, {}),
        ({"timeout": 7}, {"timeout": 20}, {}),
        ({"request_timeout": 8}, {"timeout": 20}, {}),
    ],
    ids=str,
)
def test_an_attempt_may_take_as_long(params, router, settings, tmp_path, monkeypatch):
    if "request_timeout" in settings:
        monkeypatch.setattr(litellm, "request_timeout", settings["request_timeout"])
        monkeypatch.setattr(litellm, "request_timeout_explicitly_set", True, raising=False)
    entry = deployment("first", A, api_key="sk-nc-x", **params)
    theirs = litellm.Router(model_list=[entry], **router)
    ours = build(tmp_path, entry, sections={"litellm_settings": settings}, **router).resolve("first")
    own_default = {6000.0: 600.0}
    for stream, timeouts in (
        (False, ours.deployments[0].timeouts),
        (True, ours.deployments[0].stream_timeouts),
    ):
        expected = float(theirs._get_timeout({"stream": stream}, entry["litellm_params"]))
        seconds = own_default.get(expected, expected)
        # For a stream the figure bounds a wait, and ours is never above two minutes.
        assert (min(seconds, 120.0) if stream else seconds) == (timeouts.idle if stream else timeouts.total)
