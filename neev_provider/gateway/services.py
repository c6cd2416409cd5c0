"""What the routes work with, made once by the composition root."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from neev_provider.gateway.exchange import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from neev_provider.admission import Access
    from neev_provider.admission.keys import Keys
    from neev_provider.catalog import Catalog
    from neev_provider.gateway.litellm_path import LiteLLMPath
    from neev_provider.gateway.logs import AccessLog
    from neev_provider.gateway.request_metrics import RequestMetrics
    from neev_provider.routing import Router
    from neev_provider.store import Store
    from neev_provider.tracing.spans import Tracing
    from neev_provider.upstream import Upstream

__all__ = ["Services"]


@dataclass(slots=True)
class Services:
    """Everything that outlives a request.

    Attributes:
        router: which deployments serve a model name.
        upstream: the pooled client; it retries nothing, the router's plan does.
        access: who may call.
        catalog: returns the models as known now.
        limits: what a request may take up.
        litellm: the way to the LiteLLM process; None if there is none.
        litellm_charges: whether LiteLLM's configuration has our own authentication and accounts.
        fast_path: whether NeevAI's endpoints are answered here where they can be.
        access_log: takes the request lines; None if none are wanted.
        keys: the virtual keys and teams; None without a store.
        store: that holds them; None if there is none.
        metrics: counts; None if nobody wants to know.
        tracing: traces requests; None if nobody wants to know.
    """

    router: Router
    upstream: Upstream
    access: Access
    catalog: Callable[[], Catalog]
    limits: Limits = field(default_factory=Limits)
    litellm: LiteLLMPath | None = None
    litellm_charges: bool = False
    fast_path: bool = True
    access_log: AccessLog | None = None
    keys: Keys | None = None
    store: Store | None = None
    metrics: RequestMetrics | None = None
    tracing: Tracing | None = None
