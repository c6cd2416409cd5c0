"""The metric families that dashboards and rules may name: kind and labels. Nothing but data, for `queries.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["FAMILIES", "Family"]

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family: its type at Prometheus, and the names of its labels."""

    kind: Kind
    labels: tuple[str, ...]


def _family(kind: Kind, labels: str = "") -> Family:
    return Family(kind, tuple(labels.split()))


FAMILIES: Final[dict[str, Family]] = {
    # Requests
    "neev_requests_total": _family("counter", "model team key path status code"),
    "neev_request_duration_seconds": _family("histogram", "model path stream"),
    "neev_time_to_first_token_seconds": _family("histogram", "model path"),
    "neev_time_per_output_token_seconds": _family("histogram", "model path"),
    "neev_gateway_overhead_seconds": _family("histogram", "path"),
    "neev_tokens_total": _family("counter", "model team key direction estimated"),
    "neev_speech_characters_total": _family("counter", "model team key"),
    "neev_spend_usd_total": _family("counter", "model team key"),
    "neev_estimated_charges_total": _family("counter", "model"),
    "neev_unpriced_calls_total": _family("counter", "model"),
    "neev_in_flight_requests": _family("gauge", "path"),
    "neev_open_streams": _family("gauge"),
    "neev_aborted_streams_total": _family("counter", "model"),
    "neev_limit_rejections_total": _family("counter", "limit scope team key"),
    # Upstream
    "neev_upstream_calls_total": _family("counter", "model deployment status"),
    "neev_upstream_errors_total": _family("counter", "model deployment code"),
    "neev_upstream_duration_seconds": _family("histogram", "model deployment"),
    "neev_upstream_retries_total": _family("counter", "model"),
    "neev_fallbacks_total": _family("counter", "model to"),
    "neev_cooldowns_total": _family("counter", "model deployment"),
    # Admission and store
    "neev_admission_seconds": _family("histogram", "result"),
    "neev_store_call_seconds": _family("histogram", "operation"),
    "neev_store_errors_total": _family("counter", "kind"),
    "neev_store_breaker_open": _family("gauge", "process"),
    "neev_pending_settles": _family("gauge", "process"),
    "neev_logged_settles_total": _family("counter"),
    "neev_expired_leases_total": _family("counter"),
    # Budgets
    "neev_budget_limit_usd": _family("gauge", "scope team key"),
    "neev_budget_used_usd": _family("gauge", "scope team key"),
    "neev_budget_reserved_usd": _family("gauge", "scope team key"),
    "neev_budget_reset_seconds": _family("gauge", "scope team key"),
    "neev_budget_read_age_seconds": _family("gauge"),
    # Catalog and processes
    "neev_catalog_age_seconds": _family("gauge"),
    "neev_catalog_models": _family("gauge"),
    "neev_process_up": _family("gauge", "process"),
    "neev_process_restarts_total": _family("counter", "process"),
    "neev_process_cpu_seconds_total": _family("counter", "process"),
    "neev_process_resident_memory_bytes": _family("gauge", "process"),
    "neev_process_open_fds": _family("gauge", "process"),
    "neev_event_loop_lag_seconds": _family("histogram", "process"),
    "neev_label_overflows_total": _family("counter", "label"),
    "neev_metrics_lost_updates_total": _family("counter"),
    "neev_build_info": _family("gauge", "version"),
}
