"""What a LiteLLM process counts: tokens and spend of what it serves, and its calls of upstreams.

The gateway in front counts the requests themselves. LiteLLM tells of an upstream call when it is over, so there is no
duration until headers here. Made by `litellm_auth.py`, called by `litellm_admission.py`.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from neev_provider.errors import ERRORS, ConfigError
from neev_provider.metrics import families
from neev_provider.metrics.charges import charge, holder
from neev_provider.metrics.families import NONE
from neev_provider.metrics.names import PublicNames
from neev_provider.routing import Router

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from neev_provider.admission import Principal, Spent
    from neev_provider.config import ProxyConfig
    from neev_provider.metrics.recorder import Recorder

__all__ = ["LiteLLMMetrics", "configured_names"]

_PATH: Final = "litellm"
_OF_UPSTREAM: Final = "upstream_"
_NO_STATUS: Final = {"upstream_timeout": "timeout", "upstream_unavailable": "unavailable"}
_BY_STATUS: Final = {
    401: "upstream_auth_error",
    402: "upstream_auth_error",
    403: "upstream_auth_error",
    408: "upstream_timeout",
    429: "upstream_rate_limited",
    503: "upstream_unavailable",
    504: "upstream_timeout",
}


class LiteLLMMetrics:
    """Counts for one LiteLLM process.

    Args:
        recorder: where to.
        names: the configuration's public model names, which bound the label `model`.
    """

    def __init__(self, recorder: Recorder, names: Collection[str]) -> None:
        self._recorder: Final = recorder
        self._names: Final = PublicNames(lambda: names, lambda: names)

    def charged(self, principal: Principal, model: str, spent: Spent) -> None:
        """Count what a request was charged.

        Args:
            principal: who asked.
            model: what for.
            spent: as it is settled.
        """
        key, team = holder(self._recorder, principal)
        charge(self._recorder, (self._names.label(model or None), team, key), spent)

    def succeeded(self, model: str, kwargs: Mapping[str, Any], end: object, produced: int) -> None:
        """Count a call that an upstream answered.

        Args:
            model: that the client asked for.
            kwargs: of LiteLLM's success event.
            end: of the call, as the event says.
            produced: tokens.
        """
        label = self._names.label(model or None)
        self._recorder.add(families.UPSTREAM_CALLS, (label, self._deployment(kwargs), "200"))
        first = kwargs.get("completion_start_time")
        if (
            kwargs.get("stream")
            and produced > 1
            and isinstance(first, datetime)
            and isinstance(end, datetime)
        ):
            per_token = (end - first).total_seconds() / (produced - 1)
            self._recorder.observe(families.TIME_PER_OUTPUT_TOKEN, (label, _PATH), max(0.0, per_token))

    def failed(self, model: str, kwargs: Mapping[str, Any]) -> None:
        """Count a call that an upstream did not answer well; LiteLLM may try another."""
        labels = (self._names.label(model or None), self._deployment(kwargs))
        error = kwargs.get("exception")
        status = getattr(error, "status_code", None)
        code = _code_of(error, status)
        shown = _NO_STATUS.get(code) or (str(status) if isinstance(status, int) else NONE)
        self._recorder.add(families.UPSTREAM_CALLS, (*labels, shown))
        if code.startswith(_OF_UPSTREAM):
            self._recorder.add(families.UPSTREAM_ERRORS, (*labels, code))

    def _deployment(self, kwargs: Mapping[str, Any]) -> str:
        """Return the model group that was called: deployments of one group have no names in LiteLLM."""
        params = kwargs.get("litellm_params") or {}
        for where in ("litellm_metadata", "metadata"):
            metadata = params.get(where)
            if isinstance(metadata, dict) and isinstance(group := metadata.get("model_group"), str):
                return self._names.label(group)
        return NONE


def configured_names(config: ProxyConfig, environ: Mapping[str, str]) -> Collection[str]:
    """Return the public model names of a configuration, those of wildcards too."""
    try:
        return Router(config, environ).public_names()
    except ConfigError:  # some deployment lacks its key: LiteLLM's to report
        return frozenset(deployment.model_name for deployment in config.deployments)


def _code_of(error: object, status: object) -> str:
    """Return our code for an exception: its own if it is one of ours, else what its status means."""
    code = getattr(error, "code", None)
    if isinstance(code, str) and code in ERRORS:
        return code
    if not isinstance(status, int):
        return "upstream_unavailable"
    known = _BY_STATUS.get(status)
    return known or ("upstream_error" if status >= 500 else "invalid_request")  # noqa: PLR2004
