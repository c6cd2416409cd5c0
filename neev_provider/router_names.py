"""What LiteLLM's router can be told: the names under `router_settings`, and what some may be; its kinds of cache.

Lists, since LiteLLM takes seconds to import; tests hold them against the installed version. LiteLLM passes over
other names without a word. Called by `config_checks.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CACHE_TYPES", "CHOICES", "ROUTER_NAMES", "ROUTING_STRATEGIES"]

ROUTING_STRATEGIES: Final = (
    "simple-shuffle",
    "least-busy",
    "usage-based-routing",
    "usage-based-routing-v2",
    "latency-based-routing",
    "cost-based-routing",
    "provider-budget-routing",
    "lar1",
)
CACHE_TYPES: Final = (
    "local",
    "redis",
    "redis-semantic",
    "valkey-semantic",
    "s3",
    "disk",
    "qdrant-semantic",
    "azure-blob",
    "gcs",
)
CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "routing_strategy": ROUTING_STRATEGIES,
    "debug_level": ("DEBUG", "INFO"),
    "optional_pre_call_checks": (
        "prompt_caching",
        "router_budget_limiting",
        "responses_api_deployment_check",
        "deployment_affinity",
        "session_affinity",
        "forward_client_headers_by_model_group",
        "enforce_model_rate_limits",
        "encrypted_content_affinity",
    ),
}

ROUTER_NAMES: Final = frozenset(
    [
        "alerting_config",
        "allowed_fails",
        "allowed_fails_policy",
        "assistants_config",
        "auto_router_capability_limit",
        "background_health_check_model_groups",
        "cache_kwargs",
        "cache_responses",
        "caching_groups",
        "client_ttl",
        "content_policy_fallbacks",
        "context_window_fallbacks",
        "cooldown_time",
        "debug_level",
        "default_fallbacks",
        "default_litellm_params",
        "default_max_parallel_requests",
        "default_priority",
        "deployment_affinity_ttl_seconds",
        "disable_cooldowns",
        "enable_health_check_routing",
        "enable_pre_call_checks",
        "enable_tag_filtering",
        "enable_weighted_failover",
        "fallback_access_check",
        "fallback_budget_check",
        "fallbacks",
        "guardrail_list",
        "health_check_ignore_transient_errors",
        "health_check_staleness_threshold",
        "ignore_invalid_deployments",
        "max_fallbacks",
        "model_group_affinity_config",
        "model_group_alias",
        "model_group_retry_policy",
        "num_retries",
        "optional_pre_call_checks",
        "plugins",
        "polling_interval",
        "provider_budget_config",
        "redis_db",
        "redis_host",
        "redis_password",
        "redis_port",
        "redis_url",
        "retry_after",
        "retry_policy",
        "router_general_settings",
        "routing_groups",
        "routing_strategy",
        "routing_strategy_args",
        "search_tools",
        "set_verbose",
        "stream_timeout",
        "tag_filtering_match_any",
        "tag_routing_prefix",
        "timeout",
    ]
)
