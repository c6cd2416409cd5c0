"""Reading and checking `proxy_config.yaml`: each fault is one line with file, place and remedy."""

from __future__ import annotations

import inspect
from typing import get_args

import litellm
import pytest
from litellm.constants import DEFAULT_CHAT_COMPLETION_PARAM_VALUES
from litellm.proxy._types import ConfigGeneralSettings
from litellm.router_utils.routing_groups import VALID_ROUTING_STRATEGIES
from litellm.types.caching import LiteLLMCacheType
from litellm.types.router import LiteLLM_Params, OptionalPreCallChecks
from litellm.types.utils import ModelInfoBase, all_litellm_params

from neev_provider.config import load_config
from neev_provider.config_checks import check_for_litellm, check_spelling
from neev_provider.errors import ConfigError
from neev_provider.router_names import CACHE_TYPES, CHOICES, ROUTER_NAMES, ROUTING_STRATEGIES

ENVIRON = {"NEEV_API_KEY": "sk-nc-x", "LITELLM_MASTER_KEY": "sk-x"}
MINIMAL = "model_list: [{model_name: a, litellm_params: {model: neev/gpt-oss-120b}}]\n"
PRICED = "model_list: [{model_name: a, litellm_params: {model: neev/gpt-oss-120b}, model_info: {%s}}]"


def load(tmp_path, text, environ=ENVIRON):
    file = tmp_path / "proxy_config.yaml"
    file.write_text(text)
    return load_config(file, environ)


def fault(tmp_path, text, environ=ENVIRON) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, environ)
    message = str(caught.value)
    assert "\n" not in message
    source = str(tmp_path / "proxy_config.yaml")
    assert message.startswith(source)
    return message.removeprefix(source + ": ")


def test_the_shipped_configuration_is_right():
    config = load_config("proxy_config.yaml", ENVIRON)
    assert [d.neev_id for d in config.deployments if d.neev_id][:2] == ["minimax-m3", "minimax-m2.7"]
    assert [d.model for d in config.deployments if d.neev_id is None] == ["openai/tts-1"]


def test_models_of_other_providers_are_left_to_litellm(tmp_path):
    config = load(tmp_path, "model_list: [{model_name: a, litellm_params: {model: anthropic/whatever}}]")
    assert config.deployments[0].neev_id is None


def test_own_models_extend_the_catalog(tmp_path):
    text = (
        "model_list: [{model_name: a, litellm_params: {model: neev/mine}}]\n"
        "neev: {models: [{id: mine, price: {input: 0.1, output: 0.2}}]}"
    )
    assert load(tmp_path, text).catalog.get("mine").price.prompt_nanos == 100


def test_a_wildcard_needs_no_catalog_entry(tmp_path):
    assert load(tmp_path, "model_list: [{model_name: 'neev/*', litellm_params: {model: neev/*}}]")


def test_a_wildcard_with_a_prefix_needs_none_either(tmp_path):
    assert load(tmp_path, "model_list: [{model_name: 'gpt-*', litellm_params: {model: neev/gpt-*}}]")


def test_a_deployment_keeps_what_was_written(tmp_path):
    text = (
        "model_list: [{model_name: a, litellm_params: {model: neev/gpt-oss-120b, timeout: os.environ/SECONDS, tags: [x]},"
        " model_info: {mode: chat}, rpm: 5}]"
    )
    written = load(tmp_path, text, {"SECONDS": "3"}).deployments[0]
    assert written.params == {"model": "neev/gpt-oss-120b", "timeout": "os.environ/SECONDS", "tags": ["x"]}
    assert (written.info, written.extra) == ({"mode": "chat"}, {"rpm": 5})


@pytest.mark.parametrize("section", ["callback_settings", "credential_list", "mcp_settings", "x-common"])
def test_other_sections_are_left_to_litellm(tmp_path, section):
    assert section in load(tmp_path, f"{MINIMAL}{section}: {{}}").document


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model_list: [", "line 1, column 14: is not valid YAML"),
        ("a: 1\n\tb: 2", "line 2, column 1: is not valid YAML"),
        ("", "must be a mapping with a model_list"),
        ("- a", "must be a mapping with a model_list"),
        ("general_settings: {}", "lacks model_list"),
        ("model_list: []", "model_list: must not be empty"),
        ("model_list: {}", "model_list: must be a list, not a mapping"),
        ("model_list: [a]", "model_list[0]: must be a mapping, not a text"),
        (
            "model_list: [{litellm_params: {model: x}}]",
            "model_list[0]: lacks model_name",
        ),
        ("model_list: [{model_name: a}]", "model_list[0]: lacks litellm_params"),
        ("model_list: [{model_name: a, litellm_params: {}}]", "model_list[0].litellm_params: lacks model"),
        (
            MINIMAL + "router_settings: {num_retries: two}",
            "router_settings.num_retries: must be a whole number, not a text",
        ),
        (
            MINIMAL + "router_settings: {num_retries: -1}",
            "router_settings.num_retries: must be a whole number of at least 0",
        ),
        (MINIMAL + "router_settings: {timeout: 0}", "router_settings.timeout: must be a number above 0"),
        (
            MINIMAL + "router_settings: {fallbacks: {a: b}}",
            "router_settings.fallbacks: must be a list, not a mapping",
        ),
        (MINIMAL + "router_settings: {fallbacks: [{a: [nope]}]}", "'nope' is not a model_name"),
        (MINIMAL + "router_settings: {default_fallbacks: [nope]}", "'nope' is not a model_name"),
        (MINIMAL + "router_settings: {fallbacks: [{a: [{model: nope}]}]}", "'nope' is not a model_name"),
        (
            MINIMAL + "router_settings: {fallbacks: [{a: [5]}]}",
            "router_settings.fallbacks[0][0]: must be a text or a mapping",
        ),
        (MINIMAL + "router_settings: {fallbacks: [{a: [a], b: [a]}]}", "'b' is not a model_name"),
        (MINIMAL + "router_settings: {fallbacks: [{a: [a], '*': [a]}]}", "must have one key"),
        (MINIMAL + "router_settings: {model_group_alias: {b: nope}}", "model_group_alias.b: 'nope' is not a"),
        (MINIMAL + "router_settings: {default_max_parallel_requests: x}", "must be a whole number"),
        (
            MINIMAL + "litellm_settings: {fallbacks: [{a: [nope]}]}",
            "litellm_settings.fallbacks[0]: 'nope' is not",
        ),
        (MINIMAL + "litellm_settings: {fallbacks: {a: nope}}", "litellm_settings.fallbacks: must be a list"),
        (
            MINIMAL + "litellm_settings: {allowed_fails: x}",
            "litellm_settings.allowed_fails: must be a whole number",
        ),
        (
            MINIMAL + "litellm_settings: {callbacks: [neev_provider.plugn]}",
            "'neev_provider.plugn' does not exist",
        ),
        (
            MINIMAL + "general_settings: {custom_auth: neev_provider.auth}",
            "'neev_provider.auth' does not exist",
        ),
        (
            MINIMAL + "router_setting: {num_retries: 1}",
            "router_setting: is not the name of a section. Did you mean router_settings?",
        ),
        (MINIMAL + "router_settings: {num_retires: 1}", "Did you mean num_retries?"),
        (MINIMAL + "general_settings: {masterkey: sk-x}", "Did you mean master_key?"),
        (
            "model_list: [{model_name: a, litellm_param: {model: neev/gpt-oss-120b}}]",
            "Did you mean litellm_params?",
        ),
        (PRICED % "input_cost_per_token: 6e-07", "YAML needs a point in it: 0.0000006 or 6.0e-07"),
        (PRICED % "input_cost_per_token: -1.0", "is less than nothing"),
        (PRICED % "input_cost_per_tokens: 0.1", "Did you mean input_cost_per_token?"),
        (
            MINIMAL + "router_settings: {content_policy_fallbacks: [{a: [nope]}]}",
            "'nope' is not a model_name",
        ),
        (
            MINIMAL + "router_settings: {stream_timeout: -1}",
            "router_settings.stream_timeout: must be a number above 0",
        ),
        (
            MINIMAL + "router_settings: {max_fallbacks: many}",
            "router_settings.max_fallbacks: must be a whole number, not a text",
        ),
        (
            MINIMAL + "router_settings: {retry_after: -1}",
            "router_settings.retry_after: must be a number of at least 0",
        ),
        (MINIMAL + "router_settings: {model_group_alias: {b: 3}}", "router_settings.model_group_alias"),
        (MINIMAL.replace("}}]", ", rpm: -1}}]"), "litellm_params.rpm: must be a number of at least 0"),
        (MINIMAL.replace("}}]", ", timeout: soon}}]"), "litellm_params.timeout"),
        (MINIMAL.replace("}}]", ", num_retries: -1}}]"), "litellm_params.num_retries"),
        (MINIMAL.replace("}}]", ", extra_headers: {a: 1}}}]"), "litellm_params.extra_headers"),
        (MINIMAL + "neev: {modles: []}", "neev: has no setting 'modles'"),
        (MINIMAL + "neev: {models: [{id: ''}]}", "neev.models[0].id"),
        (MINIMAL + "general_settings: []", "general_settings: must be a mapping, not a list"),
        (
            MINIMAL + "general_setings: {}",
            "general_setings: is not the name of a section. Did you mean general",
        ),
        (
            MINIMAL + "neev: {admission: {budget_duration: 1y}}",
            "budget_duration: must be a number and s, m, h, d, w or mo, as 24h, 30d or 1mo.",
        ),
        (MINIMAL + "neev: {log: {level: loud}}", "level: has a value that is none of those allowed: 'loud'"),
        (MINIMAL + "neev: {server: {port: 99999}}", "port: must be a whole number of at most 65535"),
        (MINIMAL + "neev: {litellm: {routes: [x]}}", "routes[0]: must be a path that begins with /"),
        (MINIMAL + "neeve: {}", "neeve: is not the name of a section. Did you mean neev?"),
        (MINIMAL + "general_settings: {master_key: sk-1234}", "general_settings.master_key: is too weak"),
        (MINIMAL + "general_settings: {master_key: ''}", "general_settings.master_key: is too weak"),
        (
            MINIMAL + "neev: {admission: {budget_duration: 9999d}}",
            "neev.admission.budget_duration: is too long: a duration is at most ten years",
        ),
        (
            MINIMAL + "general_settings: {master_key: 5}",
            "general_settings.master_key: must be a text, not a whole number",
        ),
        (
            MINIMAL + "litellm_settings: {request_timeout: soon}",
            "litellm_settings.request_timeout: must be a number, not a text",
        ),
        (
            MINIMAL + "litellm_settings: {drop_params: maybe}",
            "litellm_settings.drop_params: must be true or false, not a text",
        ),
        (
            MINIMAL
            + "litellm_settings: {custom_provider_map: [{provider: x, custom_handler: nowhere.neev}]}",
            "litellm_settings.custom_provider_map[0].custom_handler: the module 'nowhere' does not exist",
        ),
        (
            "model_list: [{model_name: a, litellm_params: {model: minimax-m3}}]",
            "litellm_params.model: 'minimax-m3' names no provider, so LiteLLM cannot tell whose it is and leaves it out.",
        ),
        (
            "model_list: [{model_name: a, litellm_params: {model: MiniMax-M3}}]",
            "Write neev/minimax-m3, or another provider's prefix.",
        ),
        (
            MINIMAL.replace("}}]", ", wieght: 2}}]"),
            "litellm_params.wieght: is not a setting that LiteLLM knows. ",
        ),
        (MINIMAL.replace("}}]", ", wieght: 2}}]"), "Did you mean weight?"),
        (
            MINIMAL.replace("neev/", "Neev/"),
            "'Neev' is not a provider that LiteLLM knows. Did you mean neev/gpt-",
        ),
        (MINIMAL.replace("neev/", "neevai/"), "Did you mean neev/gpt-oss-120b?"),
        (
            MINIMAL + "neev: {keys: [{alias: a b, key: x}]}",
            "neev.keys[0].alias: must be 1 to 64 letters, digits, dots, hyphens and underscores.",
        ),
        (MINIMAL.replace("}}]", ", rmp: 5}}]"), "Did you mean rpm?"),
        (MINIMAL.replace("}}]", ", tmp: 5}}]"), "Did you mean tpm?"),
        (MINIMAL.replace("}}]", ", ordr: 1}}]"), "Did you mean order?"),
        (MINIMAL.replace("}}]", ", api-key: x}}]"), "Did you mean api_key?"),
        (
            MINIMAL + "router_settings: {routing_strategy: simple-shufle}",
            "router_settings.routing_strategy: 'simple-shufle' is none of LiteLLM's: simple-shuffle, ",
        ),
        (
            MINIMAL + "router_settings: {routing_strategy: simple-shufle}",
            "lar1. Did you mean simple-shuffle?",
        ),
        (MINIMAL + "router_settings: {routing_strategy: fastest}", "Write one of these, or leave it away."),
        (
            MINIMAL + "router_settings: {debug_level: DEBGU}",
            "router_settings.debug_level: 'DEBGU' is none of",
        ),
        (
            MINIMAL + "router_settings: {optional_pre_call_checks: [session_afinity]}",
            "Did you mean session_affinity?",
        ),
        (
            MINIMAL
            + "router_settings: {routing_groups: [{group_name: g, models: [a], routing_strategy: prio}]}",
            "router_settings.routing_groups[0].routing_strategy: 'prio' is none of",
        ),
        (MINIMAL + "litellm_settings: {cache_params: {type: rediss}}", "Did you mean redis?"),
        (
            MINIMAL + "router_settings: {model_group_alias: {b: c, c: b}}",
            "router_settings.model_group_alias.b: leads in a circle (b -> c -> b). Name a model_name",
        ),
        (MINIMAL + "router_settings: {model_group_alias: {b: b}}", "leads in a circle (b -> b)"),
        (
            MINIMAL + "router_settings: {model_group_alias: {b: {model: c, hidden: true}, c: a}}",
            "model_group_alias.b: 'c' is an alias itself, and only one alias is followed. Name what it stands for: a.",
        ),
        (MINIMAL + "a: 2024-13-45", "holds a value that YAML cannot read"),
        ("[" * 5000, "holds a value that YAML cannot read"),
        (MINIMAL + "model_list: []", "the key 'model_list' stands twice"),
    ],
)
def test_a_fault_names_its_place_and_rule(tmp_path, text, expected):
    assert expected in fault(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "model_list: [{model_name: a, litellm_params: {model: gpt-4o}}]",
        "model_list: [{model_name: a, litellm_params: {model: tts-1, api_key: x}}]",
        "model_list: [{model_name: a, litellm_params: {model: gpt-oss-120b, custom_llm_provider: openai}}]",
        MINIMAL.replace("}}]", ", itpm: 5, otpm: 5, max_retries: 0, aws_region_name: x, seed: 1}}]"),
        MINIMAL + "router_settings: {model_group_alias: {a: a, b: a}}",
        MINIMAL.replace("neev/", "neevish/")
        + "litellm_settings: {custom_provider_map: [{provider: neevish, custom_handler: neev_provider.neev}]}",
        MINIMAL.replace("model_name: a", "model_name: '*'")
        + "router_settings: {model_group_alias: {b: c, c: d}}",
        MINIMAL + "router_settings: {routing_strategy: null}",
        MINIMAL.replace("}}]", "}, model_info: {id: x}}]") + "router_settings: {fallbacks: [{a: [x]}]}",
        MINIMAL
        + "router_settings: {routing_groups: [{group_name: g, models: [a], routing_strategy: least-busy}],"
        " fallbacks: [{a: [g]}]}",
    ],
)
def test_what_litellm_takes_is_taken(tmp_path, text):
    assert load(tmp_path, text).deployments


class TestLiteLLMsHandlerForOurModels:
    MAP = "litellm_settings: {custom_provider_map: [{provider: %s, custom_handler: neev_provider.neev}]}"

    def test_that_is_missing_is_told_with_what_to_write(self, tmp_path):
        for text in (MINIMAL, MINIMAL + self.MAP % "other"):
            with pytest.raises(ConfigError) as refused:
                check_for_litellm(load(tmp_path, text).document, "file")
            assert str(refused.value).startswith(
                "file: model_list[0].litellm_params.model: has the provider 'neev', which LiteLLM does not know"
            )
            assert "{provider: neev, custom_handler: neev_provider.neev}" in str(refused.value)

    def test_that_is_there_or_not_needed_is_not(self, tmp_path):
        others = "model_list: [{model_name: a, litellm_params: {model: openai/gpt-4o}}]"
        for text in (MINIMAL + self.MAP % "neev", others):
            check_for_litellm(load(tmp_path, text).document, "file")


def test_the_second_entry_at_fault_is_counted_right(tmp_path):
    text = MINIMAL.replace("]", ", {model_name: b, litellm_params: {model: 3}}]")
    assert fault(tmp_path, text).startswith("model_list[1].litellm_params.model")


def test_an_unknown_model_id_is_named_with_the_nearest(tmp_path):
    text = "model_list: [{model_name: a, litellm_params: {model: neev/gpt-oss-12b}}]"
    assert fault(tmp_path, text) == (
        "model_list[0].litellm_params.model: 'gpt-oss-12b' is not in the catalog. "
        "Did you mean neev/gpt-oss-120b? A new model goes under neev.models."
    )


def test_a_variable_that_is_not_set_is_named_with_its_place(tmp_path):
    text = "model_list: [{model_name: a, litellm_params: {model: openai/x, api_key: os.environ/THE_KEY}}]"
    assert fault(tmp_path, text) == (
        "model_list[0].litellm_params.api_key: refers to THE_KEY, which is not set. Set it: export THE_KEY=..."
    )
    assert load(tmp_path, text, {"THE_KEY": "x"})


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(ConfigError, match=r"does not exist\. .*sync-config"):
        load_config(tmp_path / "none.yaml", {})


def test_a_directory_or_a_binary_is_no_configuration(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path, {})
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        load_config(tmp_path / "binary", {})


def test_no_setting_that_litellm_has_is_taken_for_a_misspelt_one():
    names = {
        "router_settings": inspect.signature(litellm.Router.__init__).parameters,
        "litellm_settings": [name for name in vars(litellm) if name.islower()],
        "general_settings": ConfigGeneralSettings.model_fields,
    }
    for section, known in names.items():
        check_spelling({section: dict.fromkeys(known)}, "file")
    entry = {
        "litellm_params": dict.fromkeys(
            [
                *LiteLLM_Params.model_fields,
                *all_litellm_params,
                *DEFAULT_CHAT_COMPLETION_PARAM_VALUES,
            ]
        ),
        "model_info": dict.fromkeys(ModelInfoBase.__annotations__),
    }
    check_spelling({"model_list": [entry]}, "file")


def test_the_values_that_litellm_has_are_listed_and_no_others():
    assert set(ROUTING_STRATEGIES) == set(VALID_ROUTING_STRATEGIES)
    (checks,) = get_args(OptionalPreCallChecks)
    assert CHOICES["optional_pre_call_checks"] == get_args(checks)
    assert set(CACHE_TYPES) == {each.value for each in LiteLLMCacheType}
    levels = inspect.signature(litellm.Router.__init__).parameters["debug_level"].annotation
    assert all(repr(level) in str(levels).replace('"', "'") for level in CHOICES["debug_level"])


class TestNamesOfRouterSettings:
    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            ("cooldown_tim: 5", "cooldown_time"),
            ("num_retry: 2", "num_retries"),
            ("fallback: []", "fallbacks"),
            ("allowed_fail: 1", "allowed_fails"),
            ("context_windows_fallbacks: []", "context_window_fallbacks"),
            ("Timeout: 5", "timeout"),
        ],
    )
    def test_one_that_is_misspelled_is_refused_with_what_was_meant(self, tmp_path, written, meant):
        file = tmp_path / "proxy_config.yaml"
        file.write_text(MINIMAL + f"router_settings: {{{written}}}")
        with pytest.raises(ConfigError) as refused:
            load_config(file, ENVIRON)
        name = written.partition(":")[0]
        assert str(refused.value).endswith(
            f"router_settings.{name}: is not a setting that LiteLLM knows. Did you mean {meant}?"
        )

    def test_all_that_litellm_knows_are_accepted_and_no_others_are_listed(self, tmp_path):
        known = set(litellm.Router.get_valid_args()) - {"model_list"}
        assert known == ROUTER_NAMES
        file = tmp_path / "proxy_config.yaml"
        file.write_text(MINIMAL + "router_settings:\n" + "".join(f"  {name}:\n" for name in sorted(known)))
        load_config(file, ENVIRON)

    def test_one_of_a_newer_litellm_is_its_own_to_judge(self, tmp_path):
        file = tmp_path / "proxy_config.yaml"
        file.write_text(MINIMAL + "router_settings: {quantum_hedging: true}")
        load_config(file, ENVIRON)
