"""What the live service gets wrong, as data: each defect with where it was observed and the fault that plays it.

Source of all of it: NEEV_API.md, from one third party's live run of 62 requests (2026-09-14; certainty B). Bodies of
those errors were not recorded beyond "not the documented shape", so which of the tolerated shapes stands in is
certainty D. Off unless `--quirks live`; then `app.py`, `chat.py`, `speech.py` and `models.py` ask here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from neev_provider.emulator.faults import parse_faults

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from neev_provider.emulator.faults import Faults

__all__ = ["LIVE", "Quirk", "Quirks"]

Route = Literal["any", "chat", "models", "speech"]

_WRONG: Final = 'NEEV_API.md, "What the live service got wrong"'
_AUTH: Final = 'NEEV_API.md, "Hosts and auth": 401 body is not the documented shape (B, 4 of 4)'
_RESPONSE: Final = 'NEEV_API.md, "Chat response"'
_SPEECH: Final = 'NEEV_API.md, "Speech"'
_ERRORS: Final = 'NEEV_API.md, "Errors": another shape for missing-field 500 and bad-path 500'


@dataclass(frozen=True, slots=True)
class Quirk:
    """One defect.

    Attributes: route: where it shows. rule: the broken rule that it answers in place of the documented error
    (`Refusal.rule`), or "" if it hits valid requests. fault: the fault string that plays it. citation: where it is
    recorded. model: the only model it concerns; "" for all.
    """

    route: Route
    rule: str
    fault: str
    citation: str
    model: str = ""


def _server_errors(route: Route, rules: Iterable[str], shape: str, citation: str) -> tuple[Quirk, ...]:
    return tuple(Quirk(route, rule, f"status=500,shape={shape}", citation) for rule in rules)


_CHAT_500: Final = (
    "messages:empty",
    "role:unknown",
    "content:missing",
    "temperature:low",
    "top_p:low",
    "max_tokens:low",
    "n:high",
    "stop:many",
    "body:json",
    "body:media-type",
)

LIVE: Final[tuple[Quirk, ...]] = (
    Quirk("any", "key", "status=401,shape=string", _AUTH),
    *_server_errors("any", ("path",), "reason", _ERRORS),
    *_server_errors("chat", ("model:missing", "messages:missing"), "flat", _ERRORS),
    *_server_errors("chat", _CHAT_500, "openai", _WRONG),
    *_server_errors("models", ("trailing-slash", "traversal", "method"), "reason", _WRONG),
    *_server_errors("speech", ("model:missing", "voice:missing", "input:missing"), "flat", _ERRORS),
    *_server_errors("speech", ("response_format:unknown", "speed:low"), "openai", _WRONG),
    Quirk("speech", "voice:unknown", "empty-audio", _SPEECH),
    Quirk(
        "chat", "", "status=500", _WRONG + ": all 16 valid chat calls on that model", "llama-3.1-8b-instant"
    ),
    Quirk("chat", "", "think", _RESPONSE + "; the catalog notes it of this model", "minimax-m3"),
    Quirk("chat", "", "odd-chunks", _RESPONSE + ": once broke a strict streaming client", "glm-5-2"),
)

# Fields beyond the documented request get 400 from this model (NEEV_API.md, "Chat request", certainty B).
REFUSES_UNKNOWN_FIELDS: Final = frozenset({"llama-3.1-8b-instant"})


class Quirks:
    """The defects that are switched on.

    Attributes:
        only_listed: GET /v1/models leaves out what the live list does (NEEV_API.md, "Models": no TTS model).
        strict_models: models that refuse unknown top-level fields.
    """

    def __init__(self, table: Iterable[Quirk] = ()) -> None:
        table = tuple(table)
        self.only_listed = bool(table)
        self.strict_models: frozenset[str] = REFUSES_UNKNOWN_FIELDS if table else frozenset()
        self._refusals: Mapping[tuple[Route, str], Faults] = {
            (quirk.route, quirk.rule): parse_faults(quirk.fault) for quirk in table if quirk.rule
        }
        self._models: Mapping[tuple[Route, str], Faults] = {
            (quirk.route, quirk.model): parse_faults(quirk.fault) for quirk in table if quirk.model
        }

    @classmethod
    def named(cls, name: str | None) -> Quirks:
        """Return the quirks of `--quirks NAME`; None or `none` for none.

        Raises:
            ValueError: the name is not known.
        """
        if name in {None, "none"}:
            return cls()
        if name == "live":
            return cls(LIVE)
        raise ValueError(f"unknown quirks '{name}'; known are live, none")

    def instead_of(self, route: Route, rule: str) -> Faults | None:
        """Return how a broken rule is really answered, or None: as documented."""
        return self._refusals.get((route, rule)) or self._refusals.get(("any", rule))

    def of_model(self, route: Route, model: str) -> Faults | None:
        """Return what goes wrong with valid requests for a model, or None."""
        return self._models.get((route, model))
