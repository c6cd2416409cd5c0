"""A real Prometheus with the rules of grafana/rules and a real Alertmanager, and what they answer."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from grafana.live.processes import free_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Alertmanager", "Prometheus", "QueryError", "alertmanager", "prometheus"]

RULES: Final = Path(__file__).resolve().parents[1] / "rules"
JOB: Final = "neev-gateway"


class QueryError(Exception):
    """Prometheus would not answer; with what it said."""


def _get(url: str, **parameters: str) -> Any:
    query = urllib.parse.urlencode(parameters)
    try:
        with urllib.request.urlopen(f"{url}?{query}" if query else url, timeout=30) as response:  # noqa: S310 - ours
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise QueryError(error.read().decode(errors="replace")) from None


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus."""

    url: str

    def query(self, expression: str, at: float | None = None) -> list[dict[str, Any]]:
        """Return the series of an expression at a moment; a scalar is a series without labels.

        Raises:
            QueryError: the expression is wrong.
        """
        moment = {} if at is None else {"time": str(at)}
        data = _get(f"{self.url}/api/v1/query", query=expression, **moment)["data"]
        if data["resultType"] == "scalar":
            return [{"metric": {}, "value": data["result"]}]
        return list(data["result"])

    def query_range(self, expression: str, begin: float, end: float, step: float) -> list[dict[str, Any]]:
        """Return the series of an expression over time, each with `values`.

        Raises:
            QueryError: the expression is wrong.
        """
        span = {"start": str(begin), "end": str(end), "step": str(step)}
        return list(_get(f"{self.url}/api/v1/query_range", query=expression, **span)["data"]["result"])

    def rules(self) -> list[dict[str, Any]]:
        """Return every rule with its health, its last error and, of an alert, its alerts."""
        groups = _get(f"{self.url}/api/v1/rules")["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def metadata(self) -> dict[str, str]:
        """Return the types of all metric families that were scraped, by name."""
        told = _get(f"{self.url}/api/v1/metadata")["data"]
        return {name: entries[0]["type"] for name, entries in told.items()}


@dataclass(frozen=True)
class Alertmanager:
    """A running Alertmanager."""

    address: str

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that have arrived and hold."""
        return list(_get(f"http://{self.address}/api/v2/alerts"))


@contextlib.contextmanager
def alertmanager(folder: Path) -> Iterator[Alertmanager]:
    """Run an Alertmanager that tells nobody, until the block is left."""
    config = folder / "alertmanager.yml"
    config.write_text(yaml.safe_dump({"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}))
    address = f"127.0.0.1:{free_port()}"
    command = [
        "prometheus-alertmanager",
        f"--config.file={config}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    with running(command, ready=f"http://{address}/-/ready", log=folder / "alertmanager.log"):
        yield Alertmanager(address)


@contextlib.contextmanager
def prometheus(
    folder: Path, *, scraped: str, every: str = "1s", alerts_to: Alertmanager | None = None
) -> Iterator[Prometheus]:
    """Run a Prometheus with this folder's rules until the block is left.

    Args:
        folder: for its files.
        scraped: host and port of metrics.
        every: how often it scrapes and evaluates, as `1s`.
        alerts_to: where alerts go.
    """
    config: dict[str, Any] = {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": [str(RULES / "*.yaml")],
        "scrape_configs": [
            {
                "job_name": JOB,
                "static_configs": [{"targets": [scraped], "labels": {"instance": "gateway-a"}}],
            }
        ],
    }
    if alerts_to is not None:
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alerts_to.address]}]}]}
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        "prometheus",
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    with running(command, ready=f"http://{address}/-/ready", log=folder / "prometheus.log"):
        yield Prometheus(f"http://{address}")
