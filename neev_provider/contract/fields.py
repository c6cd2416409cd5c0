"""Tables of top-level fields that are not NeevAI's: what no client may choose, and what only LiteLLM understands.

Both follow LiteLLM 1.106.2 (`litellm.types.utils.all_litellm_params`, the router, and what
`litellm.proxy.auth.auth_utils.is_request_body_safe` bans); a test holds them against the installed version. Fields
nested in `metadata` or `extra_body` are LiteLLM's own to check, for requests that hold those are always handed to it.
Called by `chat.py` and `speech.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from neev_provider.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

__all__ = [
    "CLIENT_FORBIDDEN_FAMILY",
    "CLIENT_FORBIDDEN_FIELDS",
    "FALLBACK_FIELDS",
    "LITELLM_ONLY_FIELDS",
    "fallback_fields",
    "forbidden_field",
    "refuse_forbidden",
    "refuse_many_attempts",
]

# Which host is called, with which key and headers, at which price: configuration's to say (DESIGN section 3,
# LITELLM.md proxy 15). Refused whatever the value, null included.
_FORBIDDEN: Final[Mapping[str, str]] = {
    "the host and the way to it": """
        api_base api_type api_version base_url custom_llm_provider deployment_id deployment_url endpoint_url
        nvcf_function_id region_name slack_webhook_url specific_deployment ssl_verify use_chat_completions_api
        use_in_pass_through use_litellm_proxy use_ssl
    """,
    "headers": "default_headers extra_headers headers provider_affinity_header provider_specific_header",
    "the account": """
        agentcore_runtime_session_id api_key azure client_id client_secret configurable_clientside_auth_params
        default_api_key_rpm_limit default_api_key_tpm_limit fireworks_forward_user_id litellm_credential_name
        openai_identity_provider_id openai_identity_token_file openai_service_account_id organization
        secret_fields tenant_id use_xai_oauth user_config workspace_id
    """,
    "the deployment's definition": """
        base_model hf_model_name litellm_params model_alias_map model_config model_file_id_mapping model_info
        model_list output_vector_size router_settings_override rust silent_model tiered_pricing
    """,
    "LiteLLM's own state: calls in flight, loops, logs, callbacks": """
        acompletion aembedding aimg_generation allm_passthrough_route async_call atext_completion
        attempted_targets callbacks client client_side_timeout complete_response completion_call_id
        failure_callback fallback_depth input_callback litellm_disabled_callbacks litellm_logging_obj
        litellm_request_debug litellm_trusted_callback_vars log_client_error_tracebacks logger_fn
        max_agentic_loops proxy_server_request self service_callback shared_session
        standard_callback_dynamic_params standard_logging_object stream_response success_callback
        text_completion turn_off_message_logging use_client verbose
    """,
}
# The same by the form of the name: other providers' and log services' accounts, prices, private names.
CLIENT_FORBIDDEN_FAMILY: Final = re.compile(
    r"^(?:anthropic|arize|aws|azure|bedrock|braintrust|dd|gcs|humanloop|langfuse|langsmith|lunary|newrelic"
    r"|posthog|s3|sagemaker|signoz|user_api_key|vertex|vertex_ai|wandb|weave)[_-]"
    r"|^_|_api_key$|cost_per_|_cost(?:_|$)|_uplift_multiplier"
)

# What LiteLLM's proxy and router act on and do not send upstream.
_LITELLM_ONLY: Final[Mapping[str, str]] = {
    "routing, retries, timeouts": """
        adaptive_router_config adaptive_router_default_model allow_client_keepalive_override
        allowed_model_region auto_router_config auto_router_config_path auto_router_default_model
        auto_router_embedding_model auto_router_max_input_chars auto_router_model_compression
        auto_router_routing_compression complexity_router_config complexity_router_default_model
        content_policy_fallbacks context_window_fallback_dict context_window_fallbacks cooldown_time
        disable_fallbacks enable_tag_filtering fallbacks fastest_response force_timeout include_fallback_errors
        itpm keepalive_seconds max_fallbacks max_parallel_requests max_retries model_group_retry_policy
        num_retries order otpm passthrough_on_no_deployment priority quality_router_config
        quality_router_default_model request_timeout retry_policy retry_strategy routing_decision
        routing_strategy routing_strategy_args rpm stream_timeout stream_timeout_by_service_tier tag_regex tags
        timeout timeout_by_service_tier tpm weight weights
    """,
    "guardrails and policies": """
        applied_guardrails applied_policies disable_global_guardrail disable_global_guardrails guardrail_config
        guardrail_scan_ids guardrail_scan_metadata guardrails include_guardrail_response
        opted_out_global_guardrails pillar_response_headers policies policy_sources
    """,
    "mocks": """
        mock_delay mock_response mock_testing_content_policy_fallbacks mock_testing_context_fallbacks
        mock_testing_fallbacks mock_testing_rate_limit_error mock_timeout mock_tool_calls
    """,
    "response and prompt cache": """
        cache cache_control_injection_points cache_key caching caching_groups enable_prompt_caching
        litellm_gateway_injected_cache no-log preset_cache_key ttl
    """,
    "attribution, budgets, logs": """
        budget_duration data_residency id langfuse_prompt_version langfuse_span_scope langsmith_sampling_rate
        litellm_call_id litellm_metadata litellm_session_id litellm_trace_id max_budget max_file_size_mb
        metadata spend_logs_metadata
    """,
    "prompt management and retrieval": """
        litellm_system_prompt prompt_environment prompt_id prompt_label prompt_variables prompt_version
        search_tool_name vector_store_ids
    """,
    "how parameters and messages are rewritten": """
        additional_drop_params allowed_openai_params assistant_continue_message bos_token custom_prompt_dict
        disable_add_transform_inline_image_block drop_params enable_json_schema_validation
        ensure_alternating_roles eos_token extra_body final_prompt_value merge_reasoning_content_in_choices
        roles stream_chunk_size supports_system_message user_continue_message
    """,
}


def _names(table: Mapping[str, str]) -> frozenset[str]:
    return frozenset(name for names in table.values() for name in names.split())


CLIENT_FORBIDDEN_FIELDS: Final = _names(_FORBIDDEN)
"""Fields that are refused by name; `forbidden_field` also knows families of names."""

LITELLM_ONLY_FIELDS: Final = _names(_LITELLM_ONLY)
"""Fields whose presence makes a request LiteLLM's to answer."""

FALLBACK_FIELDS: Final = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
"""Fields in which a request names other models; an entry may hold fields that LiteLLM puts over the request's own."""
# What multiplies calls, and how much of it a client may ask for. Retries are those of the header
# `x-litellm-num-retries`, fallbacks LiteLLM's own default of `max_fallbacks`, which does not bound the list.
_RETRIES: Final = ("num_retries", "max_retries")
_POLICIES: Final = ("retry_policy", "model_group_retry_policy")
_MOST_RETRIES: Final = 9
_MOST_FALLBACKS: Final = 5

_LONGEST_NAME: Final = 256  # characters; a longer one is nobody's, and would take time to look at
_SHOWN: Final = 100  # characters; a name that is refused by its form may go on for megabytes


def forbidden_field(names: Iterable[str]) -> str | None:
    """Return the first of `names` that no client may set, or None."""
    for name in names:
        if len(name) > _LONGEST_NAME or name in CLIENT_FORBIDDEN_FIELDS:
            return name
        if CLIENT_FORBIDDEN_FAMILY.search(name) and name not in LITELLM_ONLY_FIELDS:
            return name
    return None


def fallback_fields(body: Mapping[str, object]) -> Iterator[str]:
    """Yield the names of the fields that a request's fallbacks set.

    Args:
        body: the request, its values as objects or as the slices of JSON that they came as.
    """
    for field in FALLBACK_FIELDS:
        chain = body.get(field)
        if isinstance(chain, msgspec.Raw):
            chain = msgspec.json.decode(chain)
        for entry in chain if isinstance(chain, list) else [chain]:
            if not isinstance(entry, dict):
                continue
            yield from map(str, entry)
            # Without a model it is the chain of a group, which may hold such entries itself.
            chains = () if "model" in entry else entry.values()
            yield from (
                str(name)
                for targets in chains
                if isinstance(targets, list)
                for target in targets
                if isinstance(target, dict)
                for name in target
            )


def refuse_forbidden(names: Collection[str], known: frozenset[str] = frozenset()) -> None:
    """Refuse a request that sets what only configuration may set.

    Args:
        names: the body's top-level fields.
        known: fields of the API itself, which need no looking up.

    Raises:
        RequestError: `unsupported_parameter`; the value, which may be a key, is not quoted.
    """
    name = forbidden_field([name for name in names if name not in known])
    if name is not None:
        raise RequestError(
            "unsupported_parameter",
            f"{name[:_SHOWN]} cannot be set in a request; it belongs to the gateway's configuration.",
            param=name[:_SHOWN],
        )


def refuse_many_attempts(body: Mapping[str, object]) -> None:
    """Refuse a request that LiteLLM would try for long: with many retries, or many models in place of its own.

    Args:
        body: the request, its values as objects or as the slices of JSON that they came as.

    Raises:
        RequestError: `invalid_value`, with the field as `param`.
    """
    names = [name for name in (*_RETRIES, *_POLICIES, *FALLBACK_FIELDS, "max_fallbacks") if name in body]
    if not names:
        return
    values = {name: _decoded(name, body[name]) for name in names}
    _check_retries(values)
    if not _is_at_most(values.get("max_fallbacks"), _MOST_FALLBACKS):
        raise _not_so_many("max_fallbacks", f"an integer from 0 to {_MOST_FALLBACKS}")
    for name in FALLBACK_FIELDS:
        targets = list(_targets(values.get(name)))
        if len(targets) > _MOST_FALLBACKS:
            raise _not_so_many(name, f"at most {_MOST_FALLBACKS} models")
        for target in targets:
            if isinstance(target, dict):  # its fields go over the request's
                if not target.keys().isdisjoint(FALLBACK_FIELDS):
                    raise RequestError(
                        "invalid_value", f"{name} cannot hold fallbacks of its own.", param=name
                    )
                refuse_many_attempts(target)


def _check_retries(values: Mapping[str, object]) -> None:
    for name in _RETRIES:
        if not _is_at_most(values.get(name), _MOST_RETRIES):
            raise _not_so_many(name, f"an integer from 0 to {_MOST_RETRIES}")
    for name in _POLICIES:
        if not all(_is_at_most(number, _MOST_RETRIES) for number in _counts(values.get(name))):
            raise _not_so_many(name, f"integers from 0 to {_MOST_RETRIES}")


def _decoded(name: str, value: object) -> object:
    if not isinstance(value, msgspec.Raw):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):  # a number of thousands of digits, or nested too deeply
        raise RequestError("invalid_value", f"{name} cannot be read.", param=name) from None


def _is_at_most(value: object, most: int) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most)


def _counts(policy: object) -> Iterator[object]:
    """Yield the counts of a policy, or of a policy for each of some groups; also what is no count."""
    for each in policy.values() if isinstance(policy, dict) else [policy]:
        yield from each.values() if isinstance(each, dict) else [each]


def _targets(chain: object) -> Iterator[object]:
    """Yield the models of a chain, and of the groups' chains that it may hold."""
    for entry in chain if isinstance(chain, list) else [] if chain is None else [chain]:
        if isinstance(entry, dict) and "model" not in entry:
            for targets in entry.values():
                yield from targets if isinstance(targets, list) else [targets]
        else:
            yield entry


def _not_so_many(name: str, rule: str) -> RequestError:
    return RequestError("invalid_value", f"{name} must be {rule}.", param=name)
