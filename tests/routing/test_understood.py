"""What the fast path honours of a configuration. All else is LiteLLM's, with a reason; nothing is ignored."""

from __future__ import annotations

import pytest

from neev_provider.catalog import Price
from neev_provider.errors import ConfigError
from tests.routing.routes import A, B, build, deployment


def speech(**params):
    params = {"model": "openai/tts-1", "api_base": "https://inference.ai.neevcloud.com/v1", **params}
    return {"model_name": "first", "litellm_params": params}


def only(router):
    group = router.resolve("first")
    assert group.reason is None
    return group.deployments[0]


def test_host_key_and_headers_are_the_deployments(tmp_path):
    entry = deployment(
        "first",
        api_base="https://dedicated.example/v1/",
        api_key="os.environ/MY_KEY",
        extra_headers={"x-team": "os.environ/TEAM", "Authorization": "Bearer other"},
    )
    upstream = only(build(tmp_path, entry, environ={"MY_KEY": "sk-nc-mine", "TEAM": "red"})).upstream
    assert upstream.base_url == "https://dedicated.example/v1"
    assert b"authorization: Bearer sk-nc-mine\r\n" in upstream.chat.head
    assert b"x-team: red\r\n" in upstream.chat.head


def test_host_and_key_are_the_environments_by_default(tmp_path):
    environ = {"NEEV_MODEL_API_KEY": "sk-nc-env", "NEEV_BASE_URL": "http://127.0.0.1:9/v1"}
    upstream = only(build(tmp_path, deployment("first"), environ=environ)).upstream
    assert (upstream.base_url, upstream.api_key) == ("http://127.0.0.1:9/v1", "sk-nc-env")


def test_a_deployment_without_any_key_stops_the_start(tmp_path):
    with pytest.raises(ConfigError, match="NEEV_API_KEY: is not set"):
        build(tmp_path, deployment("first"), environ={})


def test_what_a_deployment_sets_is_there(tmp_path):
    entry = deployment("first", timeout="os.environ/SECONDS", num_retries=4, order=2, weight=3, max_tokens=64)
    entry["rpm"] = 10
    routed = only(build(tmp_path, entry, environ={"NEEV_API_KEY": "k", "SECONDS": "2.5"}))
    assert (routed.timeouts.total, routed.timeouts.idle, routed.timeouts.connect) == (2.5, 2.5, 2.5)
    assert (routed.num_retries, routed.order, routed.weight, routed.max_tokens) == (4, 2, (3, 10, 0), 64)


def test_a_timeout_that_is_no_number_stops_the_start(tmp_path):
    with pytest.raises(ConfigError, match="refers to a variable that is not a number"):
        build(
            tmp_path, deployment("first", timeout="os.environ/X"), environ={"NEEV_API_KEY": "k", "X": "soon"}
        )


@pytest.mark.parametrize(
    ("params", "default", "expected"),
    [
        ({}, None, None),
        ({"max_parallel_requests": 4, "rpm": 7}, None, 4),
        ({"rpm": 7}, 5, 7),
        ({"tpm": 2000}, 5, 12),
        ({"tpm": 1}, 5, 1),
        ({}, 5, 5),
    ],
)
def test_calls_in_flight_are_bounded_as_litellm_derives_it(params, default, expected, tmp_path):
    router = build(tmp_path, deployment("first", **params), default_max_parallel_requests=default)
    slots = only(router).slots
    assert (None if slots is None else slots._value) == expected


@pytest.mark.parametrize(
    "params", [{"drop_params": False, "tags": None}, {"allowed_openai_params": ["reasoning_effort"]}]
)
def test_what_is_switched_off_or_without_effect_is_no_reason(params, tmp_path):
    assert build(tmp_path, deployment("first", **params)).resolve("first").fast


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 0},
        {"drop_params": True},
        {"custom_llm_provider": "openai"},
        {"tags": ["red"]},
        {"mock_response": "hello"},
        {"litellm_credential_name": "mine"},
        {"max_budget": 5},
        {"something_new": "x"},
        {"guardrails": ["pii"]},
    ],
    ids=str,
)
def test_a_parameter_that_is_not_understood_makes_the_whole_group_litellms(params, tmp_path):
    router = build(tmp_path, deployment("first"), deployment("first", B, **params), deployment("second"))
    assert router.resolve("first").reason == f"litellm_params.{next(iter(params))} is LiteLLM's to apply"
    assert router.resolve("first").deployments == ()
    assert router.resolve("second").fast


@pytest.mark.parametrize(
    "info",
    [
        {"team_id": "t"},
        {"access_groups": ["x"]},
        {"blocked": True},
        {"allowed_fails": 2},
        {"base_model": "gpt-4"},
        {"input_cost_per_token_above_200k_tokens": 1e-06},
    ],
    ids=str,
)
def test_so_does_model_info_that_is_more_than_a_note(info, tmp_path):
    router = build(tmp_path, deployment("first", info=info))
    assert router.resolve("first").reason == f"model_info.{next(iter(info))} is LiteLLM's to apply"


def test_notes_in_model_info_are_notes(tmp_path):
    assert build(tmp_path, deployment("first", info={"owner": "platform team"})).resolve("first").fast


def test_so_does_anything_else_in_the_entry(tmp_path):
    router = build(tmp_path, {**deployment("first"), "surprise": 1})
    assert router.resolve("first").reason == "surprise is LiteLLM's to apply"


def test_other_providers_are_litellms(tmp_path):
    router = build(
        tmp_path, deployment("first"), {"model_name": "first", "litellm_params": {"model": "gpt-4o"}}
    )
    assert router.resolve("first").reason == "gpt-4o is not a model of NeevAI"
    with pytest.raises(ValueError, match="LiteLLM's to answer"):
        router.plan(router.resolve("first"))


def test_speech_is_ours_at_neevais_host_only(tmp_path):
    assert only(build(tmp_path, speech())).model.modality == "speech"
    router = build(tmp_path, speech(api_base="https://api.openai.com/v1"))
    assert router.resolve("first").reason == "openai/tts-1 is served by a host other than NeevAI's"


def test_speech_follows_the_upstream_in_use(tmp_path):
    environ = {"NEEV_API_KEY": "k", "NEEV_BASE_URL": "http://127.0.0.1:9/v1"}
    assert only(build(tmp_path, speech(), environ=environ)).upstream.base_url == "http://127.0.0.1:9/v1"


def test_prices_are_the_entrys_own(tmp_path):
    info = {
        "input_cost_per_token": 0.00000025,
        "output_cost_per_token": 5e-7,
        "cache_read_input_token_cost": 1e-8,
    }
    info |= {"max_input_tokens": 9000, "max_output_tokens": 800}
    model = only(build(tmp_path, deployment("first", info=info))).model
    assert model.price == Price(250, 500, cached_prompt_nanos=10)
    assert (model.context_window, model.max_output_tokens) == (9000, 800)


def test_a_price_of_one_side_keeps_the_catalogs_other(tmp_path):
    assert only(
        build(tmp_path, deployment("first", info={"input_cost_per_token": 1e-9}))
    ).model.price == Price(1, 500)


def test_speech_is_priced_by_the_character(tmp_path):
    info = {"input_cost_per_character": 0.000015, "input_cost_per_token": 0, "output_cost_per_token": 0}
    assert only(build(tmp_path, {**speech(), "model_info": info})).model.price == Price(
        0, 0, character_nanos=15000
    )


@pytest.mark.parametrize(
    ("model", "info", "reason"),
    [
        (A, {"input_cost_per_token": 1.5e-9}, "input_cost_per_token is not a multiple of 0.000000001 USD"),
        (A, {"input_cost_per_token": -1}, "input_cost_per_token is not a multiple of 0.000000001 USD"),
        (A, {"input_cost_per_token": "x"}, "input_cost_per_token is not a number"),
        ("glm-5-2", {"input_cost_per_token": 1e-9}, "model_info holds half a price"),
        (
            A,
            {"cache_creation_input_token_cost": 1e-6},
            "model_info.cache_creation_input_token_cost differs from the input's",
        ),
    ],
)
def test_a_price_that_the_ledger_cannot_hold_is_litellms(model, info, reason, tmp_path):
    assert build(tmp_path, deployment("first", model, info=info)).resolve("first").reason == reason


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"guardrails": [{"guardrail_name": "pii"}]}, "guardrails is a feature of LiteLLM"),
        ({"litellm_settings": {"cache": True}}, "litellm_settings.cache is on"),
        (
            {"litellm_settings": {"callbacks": ["neev_provider.plugin", "my_rules.handler"]}},
            "litellm_settings.callbacks holds my_rules.handler, which may have to see every request",
        ),
        (
            {"litellm_settings": {"success_callback": "langfuse"}},
            "litellm_settings.success_callback holds langfuse, which may have to see every request",
        ),
        ({"litellm_settings": {"drop_params": True}}, "litellm_settings.drop_params is a feature of LiteLLM"),
        (
            {"litellm_settings": {"modify_params": True}},
            "litellm_settings.modify_params is a feature of LiteLLM",
        ),
        ({"litellm_settings": {"new": 0}}, "litellm_settings.new is a feature of LiteLLM"),
        (
            {"general_settings": {"completion_model": "a"}},
            "general_settings.completion_model is a feature of LiteLLM",
        ),
        ({"router_settings": {"routing_strategy": "latency-based-routing"}}, "is not simple-shuffle"),
        ({"router_settings": {"retry_policy": {"TimeoutErrorRetries": 1}}}, "router_settings.retry_policy"),
        (
            {"router_settings": {"allowed_fails_policy": {"TimeoutErrorAllowedFails": 1}}},
            "allowed_fails_policy",
        ),
        ({"router_settings": {"enable_weighted_failover": True}}, "router_settings.enable_weighted_failover"),
        ({"router_settings": {"enable_tag_filtering": True}}, "router_settings.enable_tag_filtering"),
        ({"router_settings": {"something_new": 1}}, "router_settings.something_new"),
    ],
    ids=str,
)
def test_a_feature_that_must_see_requests_makes_them_all_litellms(sections, reason, tmp_path):
    router = build(tmp_path, deployment("first"), sections=sections)
    assert reason in router.litellm_reason
    assert router.resolve("first").reason == router.litellm_reason


@pytest.mark.parametrize(
    "sections",
    [
        {
            "litellm_settings": {
                "callbacks": ["prometheus", "neev_provider.plugin"],
                "cache": False,
                "drop_params": False,
            }
        },
        {
            "litellm_settings": {
                "callbacks": "neev_provider.plugin",
                "prometheus_metrics_config": [{}],
                "fallbacks": [],
            }
        },
        # LiteLLM's own way to have Redis for its router alone.
        {"litellm_settings": {"cache": True, "cache_params": {"type": "redis", "supported_call_types": []}}},
        {"general_settings": {"master_key": "sk-" + "x" * 40, "database_url": "postgres://x"}},
        {"router_settings": {"routing_strategy": "simple-shuffle", "redis_host": "x", "retry_policy": None}},
    ],
    ids=str,
)
def test_what_must_not_see_them_does_not(sections, tmp_path):
    assert build(tmp_path, deployment("first"), sections=sections).litellm_reason is None


def test_counting_a_prompts_tokens_first_is_litellms(tmp_path):
    router = build(tmp_path, deployment("first"), enable_pre_call_checks=True)
    assert "enable_pre_call_checks" in router.resolve("first").reason


def test_content_policy_fallbacks_are_litellms_for_the_groups_that_have_them(tmp_path):
    settings = {"content_policy_fallbacks": [{"first": ["second"]}]}
    router = build(tmp_path, deployment("first"), deployment("second"), **settings)
    assert "content_policy_fallbacks" in router.resolve("first").reason
    assert router.resolve("second").fast


def test_a_fallback_that_rewrites_the_request_is_litellms(tmp_path):
    settings = {
        "fallbacks": [{"first": [{"model": "second", "temperature": 0}]}, {"second": [{"model": "first"}]}]
    }
    router = build(tmp_path, deployment("first"), deployment("second"), **settings)
    assert "change more of a request" in router.resolve("first").reason
    assert router.resolve("second").fast


def test_a_request_with_litellms_own_fields_is_litellms(tmp_path):
    router = build(tmp_path, deployment("first"), {"model_name": "x", "litellm_params": {"model": "gpt-4o"}})
    group = router.resolve("first")
    assert router.why_litellm(group) is None
    assert router.why_litellm(group, {"tags", "fallbacks"}) == "the request holds fallbacks"
    assert router.why_litellm(router.resolve("x"), {"tags"}) == "gpt-4o is not a model of NeevAI"


def test_no_secret_shows_in_a_deployment(tmp_path):
    entry = deployment("first", api_key="sk-nc-secret", extra_headers={"x-token": "hidden-value"})
    shown = repr(only(build(tmp_path, entry)))
    assert "sk-nc-secret" not in shown
    assert "hidden-value" not in shown
