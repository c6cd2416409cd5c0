"""Which deployments answer a request for usage in a stream with an error, so that they are asked once an hour only.

Whether NeevAI knows `stream_options` is unknown, and an unknown field got a 400 there (`NEEV_API.md`, "Chat
request"). Responsible for telling such a refusal from others and for the memory of it. Called by `upstream.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from neev_provider.errors import NeevError

__all__ = ["UsageRefusals"]

_REMEMBERED_SECONDS: Final = 3600.0  # not for ever: an endpoint may be upgraded

_STATUSES: Final = frozenset({400, 422})
# A refusal that says that it is about something else is not sent again.
_OTHER_CODES: Final = frozenset({"context_length_exceeded", "model_not_found"})
_OTHER_FIELDS: Final = frozenset(
    {
        "frequency_penalty",
        "max_tokens",
        "messages",
        "model",
        "n",
        "presence_penalty",
        "response_format",
        "stop",
        "temperature",
        "tool_choice",
        "tools",
        "top_p",
    }
)


class UsageRefusals:
    """Remembers refusals by base URL and model.

    Only places that then answered without `stream_options` are remembered, so there are no more of them than real
    models.

    Args:
        clock: seconds, monotonic.
    """

    __slots__ = ("_clock", "_until")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock: Final = clock
        self._until: Final[dict[tuple[str, str], float]] = {}

    def expected(self, base_url: str, model: str) -> bool:
        """Return whether asking for usage would be refused, as far as is known."""
        until = self._until.get((base_url, model))
        return until is not None and self._clock() < until

    def remember(self, base_url: str, model: str) -> None:
        """Note that the request was taken as soon as it did not ask for usage."""
        self._until[base_url, model] = self._clock() + _REMEMBERED_SECONDS

    @staticmethod
    def possible(error: NeevError) -> bool:
        """Return whether `error` may be upstream's refusal of `stream_options`."""
        if error.upstream_status not in _STATUSES or error.code in _OTHER_CODES:
            return False
        return error.param is None or error.param.partition(".")[0].partition("[")[0] not in _OTHER_FIELDS
