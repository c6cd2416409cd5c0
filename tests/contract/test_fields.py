"""Fields that only configuration may set, and fields that only LiteLLM understands."""

from __future__ import annotations

import pytest

from neev_provider.contract import (
    CLIENT_FORBIDDEN_FIELDS,
    LITELLM_ONLY_FIELDS,
    forbidden_field,
    parse_chat_object,
    parse_speech,
)

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
SPEECH = {"model": "tts-1", "voice": "alloy", "input": "hi"}
FAMILIES = [
    "aws_region_name",
    "azure_ad_token",
    "vertex_credentials",
    "vertex_ai_project",
    "s3_endpoint_url",
    "langfuse_host",
    "anthropic-workspace-id",
    "user_api_key_team_id",
    "some_api_key",
    "input_cost_per_token",
    "output_cost_per_token_above_200k_tokens",
    "cache_read_input_token_cost",
    "_router_weights",
]
OPENAI = [
    "audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens messages",
    "modalities model n parallel_tool_calls prediction presence_penalty prompt_cache_key reasoning_effort",
    "response_format safety_identifier seed service_tier stop store stream stream_options temperature tool_choice",
    "tools top_logprobs top_p user verbosity web_search_options",
]


class TestForbidden:
    @pytest.mark.parametrize("field", [*sorted(CLIENT_FORBIDDEN_FIELDS), *FAMILIES])
    @pytest.mark.parametrize("value", ["http://127.0.0.1:9/sesame", None])
    def test_a_client_may_not_choose_it(self, refusal, field, value):
        error = refusal({**CHAT, field: value})
        assert (error.status, error.code, error.param) == (400, "unsupported_parameter", field)
        assert (
            error.message == f"{field} cannot be set in a request; it belongs to the gateway's configuration."
        )

    @pytest.mark.parametrize("field", ["api_base", "base_url", "api_key", "extra_headers", "aws_region_name"])
    def test_speech_refuses_the_same(self, refusal, field):
        error = refusal({**SPEECH, field: "x"}, parse_speech)
        assert (error.code, error.param) == ("unsupported_parameter", field)

    def test_it_is_refused_before_anything_else_is_judged(self, refusal):
        assert refusal({"model": 5, "api_base": "x"}).param == "api_base"

    def test_an_escaped_name_is_the_same_name(self, refusal):
        assert refusal(b'{"\\u0061pi_base":"x"}').param == "api_base"

    def test_no_field_of_openai_is_forbidden(self):
        assert forbidden_field(" ".join(OPENAI).split()) is None


class TestLiteLLMOnly:
    @pytest.mark.parametrize("field", sorted(LITELLM_ONLY_FIELDS))
    def test_its_presence_is_told(self, field):
        assert parse_chat_object({**CHAT, field: "x"}).litellm_only == {field}

    def test_all_of_them_are_told(self):
        request = parse_chat_object({**CHAT, "tags": [], "cache": {}, "user": "u"})
        assert request.litellm_only == {"tags", "cache"}

    def test_speech_tells_them_too(self, speech):
        assert speech(metadata={}).litellm_only == {"metadata"}

    def test_a_plain_request_has_none(self, chat):
        assert chat(user="u", seed=1, reasoning_effort="low").litellm_only == frozenset()

    def test_openais_own_fields_are_not_among_them(self):
        assert LITELLM_ONLY_FIELDS.isdisjoint(" ".join(OPENAI).split())

    def test_no_field_is_in_both_tables(self):
        assert not LITELLM_ONLY_FIELDS & CLIENT_FORBIDDEN_FIELDS


class TestAgainstTheInstalledLiteLLM:
    """Clear notice when a new LiteLLM learns a field that the tables do not know."""

    def test_every_field_that_its_proxy_bans_is_forbidden(self):
        auth = pytest.importorskip("litellm.proxy.auth.auth_utils")
        router = pytest.importorskip("litellm.types.router")
        banned = {*auth._BANNED_REQUEST_BODY_PARAMS, *router._server_owned_wif_litellm_params}
        assert [name for name in sorted(banned) if forbidden_field([name]) is None] == []

    def test_every_parameter_of_its_own_is_in_one_table(self):
        types = pytest.importorskip("litellm.types.utils")
        own = {str(name) for name in types.all_litellm_params}
        assert [name for name in sorted(own - LITELLM_ONLY_FIELDS) if forbidden_field([name]) is None] == []

    def test_every_field_its_proxy_takes_out_of_a_body_is_in_one_table(self):
        setup = pytest.importorskip("litellm.proxy.litellm_pre_call_utils")
        taken = set(setup._UNTRUSTED_ROOT_CONTROL_FIELDS)
        assert [name for name in sorted(taken - LITELLM_ONLY_FIELDS) if forbidden_field([name]) is None] == []
