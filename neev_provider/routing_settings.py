"""What `proxy_config.yaml` says about routing, in typed form, and which of its settings only LiteLLM can honour.

Responsible for `router_settings`, for those `litellm_settings` that LiteLLM's router falls back to, and for the
tables of what each door may serve. Not responsible for single deployments (`routed.py`) nor for acting on any of it
(`routing.py`). LiteLLM 1.106.2 is the model. Called by `routing.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from neev_provider.cooldown import DEFAULT_ALLOWED_FAILS, DEFAULT_COOLDOWN_TIME_SECONDS, CooldownRules

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ANY_GROUP", "Alias", "FallbackChain", "RoutingSettings", "litellm_reason"]

ANY_GROUP: Final = "*"  # the key of a chain for every group without one of its own
DEFAULT_NUM_RETRIES: Final = 2  # openai.DEFAULT_MAX_RETRIES
MAX_FALLBACKS: Final = 5  # LiteLLM's ROUTER_MAX_FALLBACKS


@dataclass(frozen=True, slots=True)
class Alias:
    """A public name that stands for another.

    Attributes:
        target: the other.
        hidden: not listed in GET /v1/models; callable all the same.
    """

    target: str
    hidden: bool


@dataclass(frozen=True, slots=True)
class FallbackChain:
    """Which groups to try after one has failed.

    Attributes:
        targets: their names, in order.
        rewrites: an entry changes more of the request than its model, which only LiteLLM can do.
    """

    targets: tuple[str, ...]
    rewrites: bool = False


@dataclass(frozen=True, slots=True)
class RoutingSettings:
    """The routing of a configuration.

    Attributes:
        num_retries: attempts after the first within a group.
        retry_after: seconds; the shortest wait before a retry on the same lone deployment.
        max_fallbacks: how deep fallbacks may nest.
        timeout: seconds for one attempt, or None.
        stream_timeout: the same for a streamed answer; goes before a deployment's `timeout`. None = as `timeout`.
        max_parallel: calls in flight per deployment, or None.
        pre_call_checks: LiteLLM counts a prompt's tokens before it chooses.
        cooldown: when failing deployments are left alone.
        fallbacks: chains by group.
        context_fallbacks: chains for prompts that are too long; empty if none are configured.
        content_fallbacks: chains for refused content; empty if none are configured.
        aliases: by public name.
    """

    num_retries: int
    retry_after: float
    max_fallbacks: int
    timeout: float | None
    stream_timeout: float | None
    max_parallel: int | None
    pre_call_checks: bool
    cooldown: CooldownRules
    fallbacks: Mapping[str, FallbackChain]
    context_fallbacks: Mapping[str, FallbackChain]
    content_fallbacks: Mapping[str, FallbackChain]
    aliases: Mapping[str, Alias]

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> RoutingSettings:
        """Read a document that `config.load_config` has checked."""
        router: Mapping[str, Any] = document.get("router_settings") or {}
        litellm: Mapping[str, Any] = document.get("litellm_settings") or {}

        def given(name: str, default: Any) -> Any:
            return next((s[name] for s in (router, litellm) if s.get(name) is not None), default)

        fallbacks = _chains(router.get("fallbacks") or litellm.get("fallbacks"))
        default = router.get("default_fallbacks") or litellm.get("default_fallbacks")
        if default:
            fallbacks[ANY_GROUP] = _chain(default)
        request_timeout = litellm.get("request_timeout")
        return cls(
            num_retries=given("num_retries", DEFAULT_NUM_RETRIES),
            retry_after=router.get("retry_after") or 0,
            max_fallbacks=given("max_fallbacks", MAX_FALLBACKS),
            # LiteLLM's order; its own default, 6000 s, gives way to `Timeouts`'.
            timeout=request_timeout or router.get("timeout"),
            stream_timeout=router.get("stream_timeout") or (router.get("timeout") and request_timeout),
            max_parallel=router.get("default_max_parallel_requests"),
            pre_call_checks=bool(router.get("enable_pre_call_checks")),
            cooldown=CooldownRules(
                seconds=router.get("cooldown_time") or DEFAULT_COOLDOWN_TIME_SECONDS,
                allowed_fails=_allowed_fails(router, litellm),
                disabled=bool(router.get("disable_cooldowns")),
            ),
            fallbacks=fallbacks,
            context_fallbacks=_chains(
                router.get("context_window_fallbacks") or litellm.get("context_window_fallbacks")
            ),
            content_fallbacks=_chains(
                router.get("content_policy_fallbacks") or litellm.get("content_policy_fallbacks")
            ),
            aliases=dict(_aliases(router.get("model_group_alias") or {})),
        )


def _allowed_fails(router: Mapping[str, Any], litellm: Mapping[str, Any]) -> int | None:
    """Return the router's own number; one that repeats LiteLLM's default counts as not set there."""
    allowed = router.get("allowed_fails")
    default = litellm.get("allowed_fails", DEFAULT_ALLOWED_FAILS)
    return None if allowed is None or allowed == default else int(allowed)


def _chains(rules: Iterable[Mapping[str, Any]] | None) -> dict[str, FallbackChain]:
    chains: dict[str, FallbackChain] = {}
    for rule in rules or ():
        for name, targets in list(rule.items())[:1]:  # LiteLLM reads the first key of each
            if name == ANY_GROUP:
                chains[name] = _chain(targets)
            else:
                chains.setdefault(name, _chain(targets))
    return chains


def _chain(targets: Iterable[Any]) -> FallbackChain:
    names: list[str] = []
    rewrites = False
    for target in targets:
        if isinstance(target, Mapping):
            rewrites = rewrites or set(target) != {"model"}
            names.append(str(target.get("model", "")))
        else:
            names.append(str(target))
    return FallbackChain(tuple(names), rewrites)


def _aliases(aliases: Mapping[str, Any]) -> Iterable[tuple[str, Alias]]:
    for name, entry in aliases.items():
        item = entry if isinstance(entry, Mapping) else {"model": entry}
        if isinstance(item.get("model"), str) and item["model"]:
            yield name, Alias(item["model"], item.get("hidden") is True)


# What `RoutingSettings` holds, and what changes nothing about a request. All else that is switched on is LiteLLM's.
_ROUTER_SETTINGS: Final = frozenset(
    [
        "num_retries",
        "timeout",
        "stream_timeout",
        "retry_after",
        "max_fallbacks",
        "allowed_fails",
        "cooldown_time",
        "disable_cooldowns",
        "fallbacks",
        "default_fallbacks",
        "context_window_fallbacks",
        "content_policy_fallbacks",
        "model_group_alias",
        "enable_pre_call_checks",
        "default_max_parallel_requests",
        "redis_url",
        "redis_host",
        "redis_port",
        "redis_password",
        "redis_db",
        "cache_kwargs",
        "caching_groups",
        "client_ttl",
        "polling_interval",
        "set_verbose",
        "debug_level",
        "ignore_invalid_deployments",
        "assistants_config",
        "search_tools",
        "routing_strategy_args",
        "tag_filtering_match_any",
        "tag_routing_prefix",
        "deployment_affinity_ttl_seconds",
        "health_check_staleness_threshold",
        "health_check_ignore_transient_errors",
    ]
)
_LITELLM_SETTINGS: Final = frozenset(
    [
        "enable_post_custom_auth_checks",  # about keys
        "num_retries",
        "max_fallbacks",
        "request_timeout",
        "allowed_fails",
        "fallbacks",
        "default_fallbacks",
        "context_window_fallbacks",
        "content_policy_fallbacks",
        "custom_provider_map",
        "cache_params",
        "disable_hf_tokenizer_download",
        "suppress_debug_info",
        "disable_stop_sequence_limit",  # the contract refuses what LiteLLM would cut
        "telemetry",
        "set_verbose",
        "json_logs",
        "turn_off_message_logging",
        "log_raw_request_response",
        "redact_messages_in_exceptions",
        "redact_user_api_key_info",
        "require_auth_for_metrics_endpoint",
        "disable_end_user_cost_tracking",
        "disable_end_user_cost_tracking_prometheus_only",
        "custom_prometheus_metadata_labels",
        "custom_prometheus_tags",
        "default_team_settings",
        "default_internal_user_params",
        "upperbound_key_generate_params",
        "default_key_generate_params",
        "key_generation_settings",
        "key_alias_pattern",
        "public_model_groups",
        "expose_router_debug_in_errors",
    ]
)
_CALLBACK_LISTS: Final = (
    "callbacks",
    "success_callback",
    "failure_callback",
    "service_callback",
    "input_callback",
    "audit_log_callbacks",
)
# Callbacks that need not see a request: metrics (the gateway has its own) and this package's.
_OWN_CALLBACKS: Final = ("prometheus", "prometheus_system", "neev_provider.")
# `general_settings` are about the proxy as a process, its keys and its database; these are about each request.
_REQUEST_SETTINGS: Final = frozenset(
    [
        "completion_model",
        "always_include_stream_usage",
        "enforced_params",
        "enforce_user_param",
        "user_header_name",
        "user_header_mappings",
        "reject_clientside_metadata_tags",
        "allowed_ips",
        "max_request_size_mb",
        "max_response_size_mb",
        "forward_client_headers_to_llm_api",
        "forward_llm_provider_auth_headers",
        "forward_openai_org_id",
        "infer_model_from_keys",
        "store_model_in_db",
        "enable_health_check_routing",
        "global_max_parallel_requests",
        "max_parallel_requests",
        "expose_fallback_errors_to_caller",
        "missing_session_id",
        "plugins",
    ]
)
# Sections of the document. Those not named here are LiteLLM features that see requests: guardrails, prompts, ...
_SECTIONS: Final = frozenset(
    [
        "model_list",
        "litellm_settings",
        "router_settings",
        "general_settings",
        "environment_variables",
        "neev",
        "credential_list",
        "mcp_servers",
        "mcp_tools",
        "search_tools",
        "finetune_settings",
        "files_settings",
        "assistant_settings",
    ]
)
_SIMPLE_SHUFFLE: Final = "simple-shuffle"


def litellm_reason(document: Mapping[str, Any]) -> str | None:
    """Return why every request of a configuration has to go through LiteLLM, or None.

    What is not known here counts as a reason: nothing that is switched on is silently ignored.
    """
    return next(iter(_reasons(document)), None)


def _reasons(document: Mapping[str, Any]) -> Iterable[str]:
    yield from (f"{name} is a feature of LiteLLM" for name in _unknown(document, _SECTIONS))
    yield from _router_reasons(document.get("router_settings") or {})
    yield from _litellm_reasons(document.get("litellm_settings") or {})
    general: Mapping[str, Any] = document.get("general_settings") or {}
    for name, value in general.items():
        if name in _REQUEST_SETTINGS and _is_on(value):
            yield f"general_settings.{name} is a feature of LiteLLM"


def _router_reasons(router: Mapping[str, Any]) -> Iterable[str]:
    if router.get("routing_strategy", _SIMPLE_SHUFFLE) != _SIMPLE_SHUFFLE:
        yield f"router_settings.routing_strategy is not {_SIMPLE_SHUFFLE}"
    for name in _unknown(router, _ROUTER_SETTINGS | {"routing_strategy"}):
        yield f"router_settings.{name} is a feature of LiteLLM"


def _litellm_reasons(litellm: Mapping[str, Any]) -> Iterable[str]:
    for setting in _CALLBACK_LISTS:
        callbacks = litellm.get(setting) or ()
        for callback in [callbacks] if isinstance(callbacks, str) else callbacks:
            if not str(callback).startswith(_OWN_CALLBACKS):
                yield f"litellm_settings.{setting} holds {callback}, which may have to see every request"
    if litellm.get("cache") and (litellm.get("cache_params") or {}).get("supported_call_types") != []:
        yield "litellm_settings.cache is on"
    for name in _unknown(litellm, _LITELLM_SETTINGS | {*_CALLBACK_LISTS, "cache"}):
        if not name.startswith("prometheus_"):
            yield f"litellm_settings.{name} is a feature of LiteLLM"


def _unknown(settings: Mapping[str, Any], known: frozenset[str]) -> Iterable[str]:
    return (name for name, value in settings.items() if name not in known and _is_on(value))


def _is_on(value: object) -> bool:
    return not (value is None or value is False or value in ([], {}, ""))
