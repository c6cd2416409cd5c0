"""`/_emulator/...`: faults for every request, what really happened, the last requests. From this machine only.

    GET    /_emulator            engine, quirks, faults in force, the table of faults
    DELETE /_emulator            forget faults, statistics and requests
    GET    /_emulator/faults     the process-wide faults
    PUT    /_emulator/faults     {"fault": "...", "model": optional, "times": optional}
    DELETE /_emulator/faults     forget them, and every count of `times`
    GET    /_emulator/stats      counts of what was really produced
    GET    /_emulator/requests   the last 200 requests, oldest first
    DELETE /_emulator/stats      forget statistics and requests; DELETE /_emulator/requests is the same

Called by `app.py`. These requests are not counted themselves.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

import orjson

from neev_provider.emulator.faults import FAULTS, FaultSyntaxError
from neev_provider.emulator.refusal import Refusal
from neev_provider.emulator.validation import read_json_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from neev_provider.emulator.exchange import Exchange
    from neev_provider.emulator.fault_book import FaultBook
    from neev_provider.emulator.stats import Stats

__all__ = ["PREFIX", "Control"]

PREFIX: Final = "/_emulator"
REDIRECTED: Final = (
    PREFIX + "/redirected"
)  # where the fault `redirect` points; asking for it is a client's mistake


class Control:
    """The control routes of one emulator.

    Args:
        about: what GET /_emulator says beside faults.
        stats: the counts.
        faults: the process-wide faults.
    """

    def __init__(self, about: dict[str, Any], stats: Stats, faults: FaultBook) -> None:
        self._about = about
        self._stats = stats
        self._faults = faults
        self._routes: dict[tuple[str, str], Callable[[], Any]] = {
            ("GET", ""): self._overview,
            ("DELETE", ""): self._reset,
            ("GET", "/faults"): self._rules,
            ("DELETE", "/faults"): self._faults.clear,
            ("GET", "/stats"): self._snapshot,
            ("DELETE", "/stats"): self._stats.clear,
            ("GET", "/requests"): self._requests,
            ("DELETE", "/requests"): self._stats.clear,
        }

    async def answer(self, exchange: Exchange) -> None:
        """Answer a request below `/_emulator`.

        Raises:
            Refusal: it comes from another machine, or means nothing.
        """
        if not _is_local(exchange.client_host):
            raise Refusal(403, "forbidden", "The control routes answer to this machine only.")
        place = exchange.path.removeprefix(PREFIX)
        if (exchange.method, place) == ("PUT", "/faults"):
            self._put(read_json_object(await exchange.body(), exchange.header(b"content-type")))
            handler: Callable[[], Any] = self._rules
        else:
            known = self._routes.get((exchange.method, place))
            if known is None:
                raise Refusal(404, "unknown_url", f"There is no {exchange.method} {exchange.path}.")
            handler = known
        result = handler()
        if result is None:
            await exchange.respond(204, b"", b"")
        else:
            await exchange.respond(200, orjson.dumps(result))

    def _overview(self) -> dict[str, Any]:
        table = [{"fault": kind.usage, "applies_to": kind.scope, "help": kind.help} for kind in FAULTS]
        return {**self._about, "faults": self._faults.rules(), "known_faults": table}

    def _rules(self) -> dict[str, Any]:
        return {"faults": self._faults.rules()}

    def _snapshot(self) -> dict[str, Any]:
        return {**self._stats.snapshot(), "faults_applied": dict(self._faults.applied)}

    def _requests(self) -> dict[str, Any]:
        return {"requests": self._stats.last_requests()}

    def _reset(self) -> None:
        self._faults.clear()
        self._stats.clear()

    def _put(self, body: dict[str, Any]) -> None:
        fault, model, times = body.get("fault"), body.get("model"), body.get("times")
        unknown = body.keys() - {"fault", "model", "times"}
        if unknown:
            raise Refusal(
                400, "unknown_parameter", f"Unknown parameter: '{min(unknown)}'.", param=min(unknown)
            )
        if not isinstance(fault, str):
            raise Refusal(400, "invalid_type", "'fault' must be a string.", param="fault")
        if model is not None and not isinstance(model, str):
            raise Refusal(400, "invalid_type", "'model' must be a string.", param="model")
        if times is not None and (isinstance(times, bool) or not isinstance(times, int) or times < 1):
            raise Refusal(400, "invalid_value", "'times' must be an integer of at least 1.", param="times")
        try:
            self._faults.put(fault, model=model, times=times)
        except FaultSyntaxError as error:
            raise Refusal(400, "invalid_value", str(error), param="fault") from None


def _is_local(host: str | None) -> bool:
    """Return whether a peer is this machine; a Unix socket's peer has no address."""
    if host is None:
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
