"""The shape of `proxy_config.yaml`: types and ranges of what is checked at the start; the rest is LiteLLM's own.

Nothing but types. Read by `config.py`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

__all__ = [
    "AdmissionOptions",
    "Document",
    "Entry",
    "LiteLLMOptions",
    "LogOptions",
    "MetricsOptions",
    "NeevSettings",
    "ServerOptions",
    "StaticKey",
]

_Seconds = Annotated[float, msgspec.Meta(gt=0)]
_Count = Annotated[int, msgspec.Meta(ge=0)]
_Values = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
_Weight = Annotated[float, msgspec.Meta(ge=0)]
_Target = str | dict[str, Any]
_Chains = list[dict[str, list[_Target]]]
_Reference = Annotated[str, msgspec.Meta(pattern="^os\\.environ/.")]


class LiteLLMParams(msgspec.Struct):
    """`litellm_params` of an entry."""

    model: Annotated[str, msgspec.Meta(min_length=1)]
    api_base: str | None = None
    api_key: str | None = None
    weight: _Weight | None = None
    rpm: _Weight | None = None
    tpm: _Weight | None = None
    order: int | None = None
    timeout: _Seconds | _Reference | None = None
    stream_timeout: _Seconds | _Reference | None = None
    num_retries: _Count | _Reference | None = None
    max_parallel_requests: Annotated[int, msgspec.Meta(ge=1)] | None = None
    cooldown_time: _Weight | None = None
    extra_headers: dict[str, str] | None = None


class Entry(msgspec.Struct):
    """An entry of `model_list`."""

    model_name: Annotated[str, msgspec.Meta(min_length=1)]
    litellm_params: LiteLLMParams
    model_info: dict[str, Any] | None = None


class RouterSettings(msgspec.Struct):
    """`router_settings`."""

    num_retries: _Count | None = None
    timeout: _Seconds | None = None
    stream_timeout: _Seconds | None = None
    retry_after: Annotated[float, msgspec.Meta(ge=0)] | None = None
    max_fallbacks: _Count | None = None
    allowed_fails: _Count | None = None
    cooldown_time: _Weight | None = None
    default_max_parallel_requests: Annotated[int, msgspec.Meta(ge=1)] | None = None
    fallbacks: _Chains | None = None
    default_fallbacks: list[_Target] | None = None
    context_window_fallbacks: _Chains | None = None
    content_policy_fallbacks: _Chains | None = None
    model_group_alias: dict[str, str | dict[str, Any]] | None = None


class StaticKey(msgspec.Struct, forbid_unknown_fields=True):
    """A key that stands in the configuration: its public name, and the token or where it is found."""

    alias: Annotated[str, msgspec.Meta(pattern=r"^[\w.-]{1,64}$")]
    key: Annotated[str, msgspec.Meta(min_length=1)]


class LiteLLMOptions(msgspec.Struct, forbid_unknown_fields=True):
    """`neev.litellm`.

    Attributes:
        enabled: run LiteLLM behind the gateway.
        routes: what is let through to it; None = the LLM routes.
    """

    enabled: bool | None = None
    routes: list[Annotated[str, msgspec.Meta(pattern="^/")]] | None = None


class ServerOptions(msgspec.Struct, forbid_unknown_fields=True):
    """`neev.server`: how the gateway listens; what stands on the command line goes before.

    Attributes:
        host: address to listen on.
        port: port to listen on.
        metrics_port: port of the metrics, 0 for none.
        workers: processes that share the port.
        grace: seconds that running answers have to finish when stopped.
        drain_delay: seconds between failing readiness and not accepting any more.
        max_body_bytes: the largest body of a request.
        body_seconds: how long a body may take to arrive.
        max_header_bytes: of all headers of a request together.
        header_seconds: how long headers may take to arrive.
        write_seconds: how long a client may take nothing of an answer.
        max_connections: per worker.
    """

    host: str | None = None
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None
    metrics_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] | None = None
    workers: Annotated[int, msgspec.Meta(ge=1, le=64)] | None = None
    grace: Annotated[int, msgspec.Meta(ge=0, le=3600)] | None = None
    drain_delay: Annotated[float, msgspec.Meta(ge=0, le=600)] | None = None
    max_body_bytes: Annotated[int, msgspec.Meta(ge=1000, le=1_000_000_000)] | None = None
    body_seconds: _Seconds | None = None
    max_header_bytes: Annotated[int, msgspec.Meta(ge=1000, le=1_000_000)] | None = None
    header_seconds: _Seconds | None = None
    write_seconds: _Seconds | None = None
    max_connections: Annotated[int, msgspec.Meta(ge=1)] | None = None


class LogOptions(msgspec.Struct, forbid_unknown_fields=True):
    """`neev.log`.

    Attributes:
        level: the least that is written.
        format: lines for a person or for a machine.
    """

    level: Literal["debug", "info", "warning", "error"] | None = None
    format: Literal["console", "json"] | None = None


class AdmissionOptions(msgspec.Struct, forbid_unknown_fields=True):
    """`neev.admission`.

    Attributes:
        master_key_may_call_models: the master key has no budget; without this it is for administration only.
        on_store_outage: `reject` every request while the store is away, or `allow` keys that were seen lately.
        remember_seconds: how long a key counts as seen lately.
        lease_seconds: after which the calls of a process that died are charged their prompts and block nothing.
        max_budget: USD, of the whole gateway.
        budget_duration: after which that budget begins anew, as `30d` or `1mo`; None for never.
    """

    master_key_may_call_models: bool = False
    on_store_outage: Literal["reject", "allow"] = "reject"
    remember_seconds: _Seconds = 600.0
    lease_seconds: Annotated[float, msgspec.Meta(ge=5, le=3600)] = 90.0
    max_budget: Annotated[float, msgspec.Meta(ge=0, le=9_000_000)] | None = None
    budget_duration: Annotated[str, msgspec.Meta(pattern="^[1-9][0-9]{0,8}(s|m|h|d|w|mo)$")] | None = None


class MetricsOptions(msgspec.Struct, forbid_unknown_fields=True):
    """`neev.metrics`: how many values a label may have; what is beyond becomes `other`.

    Attributes:
        max_keys: of `key`.
        max_teams: of `team`.
        max_models: of `model`.
        max_deployments: of `deployment`.
        socket: where the processes send what they count; by default in the state directory.
    """

    max_keys: _Values = 500
    max_teams: _Values = 200
    max_models: _Values = 200
    max_deployments: _Values = 200
    socket: Annotated[str, msgspec.Meta(pattern="^/")] | None = None


class TracingOptions(msgspec.Struct, forbid_unknown_fields=True):
    """`neev.tracing`: OpenTelemetry's traces of requests; needs the extra `otel`.

    Attributes:
        enabled: whether requests are traced.
        endpoint: URL of an OTLP collector over HTTP, without `/v1/traces`; by default what OpenTelemetry's own
            variables say, else http://localhost:4318.
        sample_ratio: the share of requests that are traced, of those whose client has not decided.
    """

    enabled: bool = False
    endpoint: Annotated[str, msgspec.Meta(pattern="^https?://[^/?#]+[^?#]*$")] | None = None
    sample_ratio: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0


class NeevSettings(msgspec.Struct, forbid_unknown_fields=True):
    """Our own section, `neev`; LiteLLM ignores it.

    Attributes:
        models: entries for the catalog.
        keys: keys of the configuration.
        fast_path: answer NeevAI's endpoints without LiteLLM where it can be done.
        litellm: the process behind.
        server: how the gateway listens.
        log: what is written of it.
        store: where limits and budgets are kept: `embedded` or a URL.
        admission: what holds for all keys.
        metrics: their bounds, and where processes send them.
        tracing: OpenTelemetry's traces.
    """

    models: list[Any] = []
    keys: list[StaticKey] = []
    fast_path: bool = True
    litellm: LiteLLMOptions = msgspec.field(default_factory=LiteLLMOptions)
    server: ServerOptions = msgspec.field(default_factory=ServerOptions)
    log: LogOptions = msgspec.field(default_factory=LogOptions)
    store: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    admission: AdmissionOptions = msgspec.field(default_factory=AdmissionOptions)
    metrics: MetricsOptions = msgspec.field(default_factory=MetricsOptions)
    tracing: TracingOptions = msgspec.field(default_factory=TracingOptions)


class Handler(msgspec.Struct):
    """A custom provider of LiteLLM."""

    provider: Annotated[str, msgspec.Meta(min_length=1)]
    custom_handler: Annotated[str, msgspec.Meta(pattern=r"^\w+(\.\w+)+$")]


class LiteLLMSettings(msgspec.Struct):
    """Those that LiteLLM reads at the start, and whose faults it reports with a traceback."""

    request_timeout: _Seconds | None = None
    num_retries: _Count | None = None
    max_fallbacks: _Count | None = None
    allowed_fails: _Count | None = None
    fallbacks: _Chains | None = None
    default_fallbacks: list[_Target] | None = None
    context_window_fallbacks: _Chains | None = None
    content_policy_fallbacks: _Chains | None = None
    drop_params: bool | None = None
    custom_provider_map: list[Handler] | None = None
    callbacks: list[str] | str | None = None


class GeneralSettings(msgspec.Struct):
    """`general_settings`."""

    master_key: str | None = None


class Document(msgspec.Struct):
    """The file."""

    model_list: Annotated[list[Entry], msgspec.Meta(min_length=1)]
    litellm_settings: LiteLLMSettings | None = None
    router_settings: RouterSettings | None = None
    general_settings: GeneralSettings | None = None
    environment_variables: dict[str, Any] | None = None
    neev: NeevSettings | None = None
