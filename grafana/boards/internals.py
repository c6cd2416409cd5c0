"""Gateway internals: processes, overhead, store, settles, LiteLLM, metrics of the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from grafana.frame import Row, dashboard
from grafana.objectives import OVERHEAD
from grafana.panels import AMBER, GREEN, RED, Column, Query, graph, number, rows
from grafana.queries import increase, largest, quantile, rate, select, total

if TYPE_CHECKING:
    from grafana_foundation_sdk.models.dashboard import Dashboard

    from grafana.panels import Panel

QUANTILES: Final = (0.5, 0.99)
LITELLM: Final = 'process="litellm"'


def board() -> Dashboard:
    """Return the dashboard."""
    return dashboard(
        "internals",
        "The gateway itself: processes, overhead, event loops, store, settles, LiteLLM, memory.",
        [
            Row("Is it well?", _health()),
            Row("What it takes of a request", _overhead()),
            Row("The store, admission and settling", _store()),
            Row("Processes", _processes()),
        ],
        since="now-6h",
    )


def _figure(title: str, description: str, unit: str, query: Query, **more: Any) -> Panel:
    return number(title, description, unit, query, height=3, **more)


def _health() -> list[Panel]:
    none = ((None, GREEN), (1, RED))
    return [
        _figure(
            "Processes down",
            "Processes of the gateway that do not serve; LiteLLM and the embedded store count.",
            "short",
            Query(f"count({select('neev_process_up')} == 0) or vector(0)"),
            see=("NeevProcessDown", "NeevLiteLLMDown"),
            steps=none,
        ),
        _figure(
            "Restarts",
            "Processes started anew in the time shown.",
            "short",
            Query(increase("neev_process_restarts_total")),
            see=("NeevProcessRestarts",),
            steps=((None, GREEN), (1, AMBER), (5, RED)),
            decimals=0,
        ),
        _figure(
            "Breakers open",
            "Processes that have stopped asking the store because it does not answer.",
            "short",
            Query(total("neev_store_breaker_open")),
            see=("NeevStoreDown", "NeevStoreBreakerOpen"),
            steps=none,
        ),
        _figure(
            "Pending settles",
            "Calls whose cost is not yet written to the ledger. They wait in memory.",
            "short",
            Query(total("neev_pending_settles")),
            see=("NeevSettlesPilingUp",),
            steps=((None, GREEN), (100, AMBER), (1000, RED)),
        ),
        _figure(
            "Settles in the log",
            "Charges that the store would not take in the time shown. Replay them.",
            "short",
            Query(increase("neev_logged_settles_total")),
            see=("NeevSettlesLogged",),
            steps=none,
            decimals=0,
        ),
        _figure(
            "Expired leases",
            "Calls in the time shown whose process died before it could settle; their prompts were charged.",
            "short",
            Query(increase("neev_expired_leases_total")),
            see=("NeevProcessRestarts",),
            steps=((None, GREEN), (1, AMBER)),
            decimals=0,
        ),
        _figure(
            "LiteLLM",
            "Whether the LiteLLM process serves; without it every route but chat, models and speech is refused.",
            "bool_yes_no",
            Query(f"min({select('neev_process_up', LITELLM)})"),
            see=("NeevLiteLLMDown",),
            steps=((None, RED), (1, GREEN)),
        ),
        _figure(
            "Instances by version",
            "How many instances run of each version.",
            "short",
            Query(f"count by (version) ({select('neev_build_info')})", "{{version}}"),
            see=("NeevMetricsAbsent",),
            named=True,
        ),
        _figure(
            "Budgets read",
            "Since budgets were last read from the store for these dashboards; older while the store is away.",
            "dtdurations",
            Query(largest("neev_budget_read_age_seconds")),
            see=("spend", "NeevStoreDown"),
            steps=((None, GREEN), (120, AMBER), (600, RED)),
        ),
        _figure(
            "Values without a name",
            "Updates in the time shown of which a key, team or model was counted as `other`: there are too many.",
            "short",
            Query(increase("neev_label_overflows_total")),
            see=("NeevLabelOverflow",),
            steps=((None, GREEN), (1, AMBER)),
            decimals=0,
        ),
        _figure(
            "Catalog age",
            "Since upstream's list of models was last read.",
            "dtdurations",
            Query(largest("neev_catalog_age_seconds")),
            see=("models",),
        ),
        _figure(
            "Models",
            "Models in the catalog.",
            "short",
            Query(largest("neev_catalog_models")),
            see=("models",),
        ),
    ]


def _overhead() -> list[Panel]:
    return [
        graph(
            "Overhead by path",
            "Duration less the time spent waiting for upstream. Dashed: what the objective allows on the fast path.",
            "s",
            *(
                Query(quantile(of, "neev_gateway_overhead_seconds", by="path"), f"{{{{path}}}} p{100 * of:g}")
                for of in QUANTILES
            ),
            see=(OVERHEAD.alert,),
            width=8,
            limit=OVERHEAD.threshold,
        ),
        graph(
            "Event-loop lag p99",
            "How late each process's event loop runs what is due: above 10 ms it has too much to do.",
            "s",
            Query(quantile(0.99, "neev_event_loop_lag_seconds", by="process"), "{{process}}"),
            see=(OVERHEAD.alert,),
            width=8,
        ),
        graph(
            "Requests by path",
            "fast: answered here. litellm: passed on to LiteLLM. none: refused before either.",
            "reqps",
            Query(rate("neev_requests_total", by="path"), "{{path}}"),
            see=("overview", "NeevLiteLLMDown"),
            width=8,
            stacked=True,
        ),
    ]


def _store() -> list[Panel]:
    store = ("NeevStoreDown",)
    return [
        graph(
            "Store latency by operation",
            "From the question to the store's answer; above 250 ms a call is given up.",
            "s",
            *(
                Query(
                    quantile(of, "neev_store_call_seconds", by="operation"),
                    f"{{{{operation}}}} p{100 * of:g}",
                )
                for of in QUANTILES
            ),
            see=store,
            width=8,
        ),
        graph(
            "Admission latency by result",
            "Key, limits and budget of a request, in one round trip to the store.",
            "s",
            *(
                Query(quantile(of, "neev_admission_seconds", by="result"), f"{{{{result}}}} p{100 * of:g}")
                for of in QUANTILES
            ),
            see=store,
            width=8,
        ),
        graph(
            "Store calls and errors",
            "Calls per second by operation, and errors per second by kind.",
            "ops",
            Query(rate("neev_store_call_seconds", by="operation", suffix="_count"), "{{operation}}"),
            Query(rate("neev_store_errors_total", by="kind"), "error: {{kind}}", RED),
            see=store,
            width=8,
        ),
        graph(
            "Pending settles by process",
            "Charges that wait for the store. They should come and go.",
            "short",
            Query(total("neev_pending_settles", by="process"), "{{process}}"),
            see=("NeevSettlesPilingUp",),
            width=8,
        ),
        graph(
            "Breaker by process",
            "1: the process does not ask the store, because it did not answer.",
            "short",
            Query(largest("neev_store_breaker_open", by="instance, process"), "{{instance}} {{process}}"),
            see=("NeevStoreBreakerOpen", "NeevStoreDown"),
            width=8,
            largest=1,
        ),
        graph(
            "Charges out of the ordinary",
            "Per hour: settles written to the log, leases that expired, calls charged by estimate.",
            "short",
            Query(increase("neev_logged_settles_total", window="1h"), "settles in the log", RED),
            Query(increase("neev_expired_leases_total", window="1h"), "expired leases", AMBER),
            Query(increase("neev_estimated_charges_total", window="1h"), "estimated", "blue"),
            see=("NeevSettlesLogged", "NeevEstimatedChargesRising"),
            width=8,
        ),
    ]


def _processes() -> list[Panel]:
    return [
        rows(
            "Processes",
            "Every process of every instance: whether it serves, how often it was started anew in the time shown.",
            (
                Column("instance", "Instance"),
                Column("process", "Process"),
                Column("up", "Up", "bool_yes_no", ((None, RED), (1, GREEN)), width=70),
                Column("restarts", "Restarts", "short", ((None, GREEN), (1, AMBER)), decimals=0, width=90),
                Column("memory", "Memory", "bytes"),
                Column("files", "Files open", "short"),
            ),
            {
                "up": largest("neev_process_up", by="instance, process"),
                "restarts": increase("neev_process_restarts_total", by="instance, process"),
                "memory": largest("neev_process_resident_memory_bytes", by="instance, process"),
                "files": largest("neev_process_open_fds", by="instance, process"),
            },
            see=("NeevProcessDown", "NeevLiteLLMDown", "NeevProcessRestarts"),
            sort="Process",
            descending=False,
            width=12,
        ),
        graph(
            "CPU by process",
            "Cores in use.",
            "short",
            Query(rate("neev_process_cpu_seconds_total", by="instance, process"), "{{instance}} {{process}}"),
            see=(OVERHEAD.alert,),
        ),
        graph(
            "Memory by process",
            "Resident memory. A gateway worker takes about 100 MB, LiteLLM 400 MB.",
            "bytes",
            Query(
                largest("neev_process_resident_memory_bytes", by="instance, process"),
                "{{instance}} {{process}}",
            ),
            see=("NeevProcessRestarts",),
        ),
        graph(
            "Metrics of the metrics",
            "Per hour: label values that became `other` because there were too many, and updates that were lost.",
            "short",
            Query(increase("neev_label_overflows_total", by="label", window="1h"), "{{label}} overflows"),
            Query(increase("neev_metrics_lost_updates_total", window="1h"), "lost updates", RED),
            see=("NeevLabelOverflow",),
        ),
    ]
