"""Every metric family: name, type, help, labels, buckets. The one table from which all else works.

Recorder, sums, exposition and documentation read it; a family that does not stand here does not exist. Nothing but
data. Label values: `key` and `team` are ids here and aliases in what is exposed, `model` is the public name that the
client asked for, `path` is fast, litellm or none, `code` an error code of `errors.py` or ok.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["ALL", "CAPPED", "FAMILIES", "MASTER", "NONE", "OTHER", "Family"]

OTHER: Final = "other"
"""What a value is called that has no place of its own: unknown here, or beyond a cap."""
NONE: Final = "none"
"""What is said where there is no value: no key, no team, no model."""
ALL: Final = "all"
"""What is said of a budget that holds for more than one key or team."""
MASTER: Final = "master"
"""The master key."""

CAPPED: Final = {
    "key": "key",
    "team": "team",
    "model": "model",
    "to": "model",
    "deployment": "deployment",
}
"""Label to the kind of value that is counted against a cap."""

Kind = Literal["counter", "gauge", "histogram"]

# 0.2 ms, which the gateway itself takes, and 600 s, after which an answer is given up, are both to be seen.
_DURATIONS: Final = (
    *(0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
)
_PER_TOKEN: Final = (
    *(0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0),
)
_SHORT: Final = (
    *(0.0001, 0.0002, 0.0003, 0.0005, 0.001, 0.002, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """One metric family.

    Attributes:
        name: as it is exposed; of counters with `_total`.
        kind: Prometheus' type.
        help: one sentence or two.
        labels: names, in the order of every tuple of values.
        buckets: upper bounds of a histogram, without infinity.
        divisor: what is counted is divided by this when it is exposed: money is whole nano-USD until then.
        joined: how the gauges of several processes become one.
        from_zero: values of labels for which 0 is exposed before anything happened, so that a first event is a rise.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    divisor: int = 1
    joined: Literal["sum", "max"] = "sum"
    from_zero: tuple[tuple[str, ...], ...] = ()


def _counter(
    name: str, text: str, *labels: str, divisor: int = 1, from_zero: tuple[tuple[str, ...], ...] = ()
) -> Family:
    if not labels:
        from_zero = ((),)
    return Family(name, "counter", text, labels, divisor=divisor, from_zero=from_zero)


def _gauge(name: str, text: str, *labels: str, joined: Literal["sum", "max"] = "sum") -> Family:
    return Family(name, "gauge", text, labels, joined=joined)


def _histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...]) -> Family:
    return Family(name, "histogram", text, labels, buckets)


# Requests

REQUESTS: Final = _counter(
    "neev_requests_total",
    "Requests answered. Status 499: the client left first.",
    *("model", "team", "key", "path", "status", "code"),
)
REQUEST_DURATION: Final = _histogram(
    "neev_request_duration_seconds",
    "From a request's head to the last byte of its answer.",
    *("model", "path", "stream"),
    buckets=_DURATIONS,
)
TIME_TO_FIRST_TOKEN: Final = _histogram(
    "neev_time_to_first_token_seconds",
    "From a request's head to the first chunk of its stream.",
    *("model", "path"),
    buckets=_DURATIONS,
)
TIME_PER_OUTPUT_TOKEN: Final = _histogram(
    "neev_time_per_output_token_seconds",
    "From a stream's first chunk to its end, for each output token after the first.",
    *("model", "path"),
    buckets=_PER_TOKEN,
)
OVERHEAD: Final = _histogram(
    "neev_gateway_overhead_seconds",
    "What a request took beside waiting for upstream (path litellm: for LiteLLM) and for its own body to arrive; "
    "of a stream until its headers. Requests that got an answer from upstream.",
    "path",
    buckets=_SHORT,
)
TOKENS: Final = _counter(
    "neev_tokens_total",
    "Tokens charged. estimated=true: our estimate, upstream gave no count.",
    *("model", "team", "key", "direction", "estimated"),
)
SPEECH_CHARACTERS: Final = _counter(
    "neev_speech_characters_total", "Characters of speech charged.", "model", "team", "key"
)
SPEND: Final = _counter(
    "neev_spend_usd_total", "USD charged, exact to the nano-USD.", "model", "team", "key", divisor=10**9
)
ESTIMATED_CHARGES: Final = _counter(
    "neev_estimated_charges_total", "Calls charged by an estimate of their tokens.", "model"
)
UNPRICED_CALLS: Final = _counter(
    "neev_unpriced_calls_total", "Calls of models without a known price, which cost nothing here.", "model"
)
IN_FLIGHT: Final = _gauge("neev_in_flight_requests", "Requests being answered.", "path")
OPEN_STREAMS: Final = _gauge("neev_open_streams", "Streams being relayed.")
ABORTED_STREAMS: Final = _counter(
    "neev_aborted_streams_total", "Streams that the client left before their end.", "model"
)
LIMIT_REJECTIONS: Final = _counter(
    "neev_limit_rejections_total",
    "Requests refused by a limit (requests, tokens, parallel) or a budget of a key, its team or the gateway.",
    *("limit", "scope", "team", "key"),
)

# Upstream

UPSTREAM_CALLS: Final = _counter(
    "neev_upstream_calls_total",
    "Attempts at upstream by HTTP status, or timeout or unavailable where there was none.",
    *("model", "deployment", "status"),
)
UPSTREAM_ERRORS: Final = _counter(
    "neev_upstream_errors_total",
    "Attempts and streams that failed by upstream's fault or our account's.",
    *("model", "deployment", "code"),
)
UPSTREAM_DURATION: Final = _histogram(
    "neev_upstream_duration_seconds",
    "From an attempt's begin to upstream's headers; to the end of an answer that is not a stream.",
    *("model", "deployment"),
    buckets=_DURATIONS,
)
UPSTREAM_RETRIES: Final = _counter(
    "neev_upstream_retries_total", "Attempts after the first at the same model.", "model"
)
FALLBACKS: Final = _counter("neev_fallbacks_total", "Requests that went on to another model.", "model", "to")
COOLDOWNS: Final = _counter(
    "neev_cooldowns_total",
    "Times that a process began to leave a deployment alone for a while.",
    *("model", "deployment"),
)

# Admission and store

ADMISSION: Final = _histogram(
    "neev_admission_seconds",
    "What it took to let a request in or not. error: the store could not say.",
    "result",
    buckets=_SHORT,
)
STORE_CALL: Final = _histogram(
    "neev_store_call_seconds", "Calls of the store, failed ones too.", "operation", buckets=_SHORT
)
STORE_ERRORS: Final = _counter(
    "neev_store_errors_total",
    "Calls of the store that failed: no reply in time, no connection (or an open breaker), a refusal.",
    "kind",
    from_zero=(("timeout",), ("connection",), ("refused",)),
)
BREAKER_OPEN: Final = _gauge(
    "neev_store_breaker_open", "Whether a process does not ask the store, which failed.", "process"
)
PENDING_SETTLES: Final = _gauge(
    "neev_pending_settles", "Charges of a process that the store does not have yet.", "process"
)
LOGGED_SETTLES: Final = _counter(
    "neev_logged_settles_total",
    "Charges written to the log because the store would not take them; see `neev-gateway spend replay`.",
)
EXPIRED_LEASES: Final = _counter(
    "neev_expired_leases_total", "Calls of processes that died, charged with their prompts."
)

# Budgets

_OF_BUDGET: Final = ("scope", "team", "key")
BUDGET_LIMIT: Final = _gauge(
    "neev_budget_limit_usd", "The budget of those that have one.", *_OF_BUDGET, joined="max"
)
BUDGET_USED: Final = _gauge(
    "neev_budget_used_usd", "USD charged in the budget's present window.", *_OF_BUDGET, joined="max"
)
BUDGET_RESERVED: Final = _gauge(
    "neev_budget_reserved_usd", "USD that calls in flight may still cost.", *_OF_BUDGET, joined="max"
)
BUDGET_RESET: Final = _gauge(
    "neev_budget_reset_seconds", "Until the budget begins anew, of those that do.", *_OF_BUDGET, joined="max"
)
BUDGET_READ_AGE: Final = _gauge(
    "neev_budget_read_age_seconds", "Since budgets were last read from the store; old while it is away."
)

# Catalog and processes

CATALOG_AGE: Final = _gauge(
    "neev_catalog_age_seconds",
    "Since upstream's list of models was read, or the process started; the oldest of all processes.",
    joined="max",
)
CATALOG_MODELS: Final = _gauge("neev_catalog_models", "Models in the catalog.", joined="max")
PROCESS_UP: Final = _gauge("neev_process_up", "Whether a process serves.", "process")
PROCESS_RESTARTS: Final = _counter(
    "neev_process_restarts_total", "How often a process that had ended was started anew.", "process"
)
PROCESS_CPU: Final = _counter("neev_process_cpu_seconds_total", "CPU time of a process.", "process")
PROCESS_MEMORY: Final = _gauge(
    "neev_process_resident_memory_bytes", "Memory of a process that is in RAM.", "process"
)
PROCESS_FDS: Final = _gauge("neev_process_open_fds", "Files and sockets that a process has open.", "process")
LOOP_LAG: Final = _histogram(
    "neev_event_loop_lag_seconds",
    "How late a process's event loop was, looked at four times a second.",
    "process",
    buckets=_SHORT,
)
LABEL_OVERFLOWS: Final = _counter(
    "neev_label_overflows_total",
    "Updates whose value became `other` because of the cap (neev.metrics.max_...).",
    "label",
    from_zero=(("key",), ("team",), ("model",), ("deployment",), ("series",)),
)
LOST_UPDATES: Final = _counter(
    "neev_metrics_lost_updates_total", "Updates that were not counted: too many series, or a foreign version."
)
BUILD_INFO: Final = _gauge("neev_build_info", "The version that runs; always 1.", "version")

FAMILIES: Final = {family.name: family for family in tuple(globals().values()) if isinstance(family, Family)}
"""All of them by name, in the order in which they are exposed."""
