"""What keys and teams are made of: attributes as people write them, as the store keeps them, and back.

Field names and their meaning are LiteLLM's. Everything that comes from outside is checked here, and a wrong value is
refused with its field and the rule. Asks no store. Called by `keys.py` and `declared.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from typing import TYPE_CHECKING, Any, Final

from neev_provider.admission.refusals import usd
from neev_provider.admission.rules import MAX_BUDGET_NANOS, NANOS, period_of
from neev_provider.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "ATTRIBUTES",
    "Change",
    "KeyInfo",
    "TeamInfo",
    "changed_attributes",
    "encode_attributes",
    "read_subject",
    "refuse_past",
]

_MOST_MODELS: Final = 500
_LONGEST_NAME: Final = 200
_LARGEST_METADATA: Final = 16_384
_MOST: Final = 10**12
_EXACTLY: Final = Context(prec=40, traps=[Inexact, InvalidOperation, Overflow])


@dataclass(frozen=True, slots=True)
class Change:
    """Fields of a record to write and to remove.

    Attributes:
        set: field to value.
        removed: fields.
    """

    set: dict[str, str | bytes] = field(default_factory=dict)
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamInfo:
    """A team.

    Attributes:
        id: of the team (or of the key).
        alias: the name that a person gave it.
        models: public model names that may be called; None = all.
        rpm_limit: requests a minute; None for no limit, as with the others.
        tpm_limit: tokens a minute.
        max_parallel_requests: calls at once.
        max_budget_nanos: nano-USD.
        budget_duration: after which the budget begins anew; None for never.
        blocked: whether calls are refused.
        metadata: what the operator keeps with it.
        created_at: when it was made.
        updated_at: when it was last changed.
        spend_nanos: nano-USD that were charged in the budget's present window.
        held_nanos: nano-USD that calls in flight may still need.
        in_flight: calls in flight.
        budget_reset_at: when the budget begins anew.
    """

    id: str
    alias: str | None = None
    models: tuple[str, ...] | None = None
    rpm_limit: int | None = None
    tpm_limit: int | None = None
    max_parallel_requests: int | None = None
    max_budget_nanos: int | None = None
    budget_duration: str | None = None
    blocked: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
    created_at: datetime | None = None
    updated_at: datetime | None = None
    spend_nanos: int = 0
    held_nanos: int = 0
    in_flight: int = 0
    budget_reset_at: datetime | None = None

    def attributes(self) -> dict[str, Any]:
        """Return what can be changed, in the words of `encode_attributes`; what is not set is left out."""
        found = {name: self._attribute(name) for name in ATTRIBUTES}
        # By identity: a budget of 0 is set, and equals False.
        return {
            name: value
            for name, value in found.items()
            if value is not None and value is not False and value != {}
        }

    def _attribute(self, name: str) -> Any:
        if name == "max_budget":
            nanos = self.max_budget_nanos
            return None if nanos is None else Decimal(nanos) / NANOS
        if name == "models":
            return None if self.models is None else list(self.models)
        return getattr(self, name, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInfo(TeamInfo):
    """A key; see `TeamInfo` for the rest.

    Attributes:
        team_id: of its team.
        expires: when it ends to be good.
        old_secret_until: when the last of the secrets before ends to be good.
        digest: SHA-256 of the token.
    """

    team_id: str | None = None
    expires: datetime | None = None
    old_secret_until: datetime | None = None
    digest: bytes = field(default=b"", repr=False)


def _refuse(name: str, rule: str) -> RequestError:
    return RequestError("invalid_value", f"'{name}' {rule}.", param=name)


def _encode_alias(value: Any, name: str) -> dict[str, str]:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME or not value.isprintable():
        raise _refuse(name, f"must be a text of 1 to {_LONGEST_NAME} printable characters")
    return {"alias": value}


def _encode_models(value: Any, name: str) -> dict[str, str]:
    if not isinstance(value, (list, tuple)) or len(value) > _MOST_MODELS:
        raise _refuse(name, f"must be a list of at most {_MOST_MODELS} model names")
    for model in value:
        if not isinstance(model, str) or not 0 < len(model) <= _LONGEST_NAME or not model.isprintable():
            raise _refuse(name, f"must hold model names of 1 to {_LONGEST_NAME} printable characters")
    if not value or "*" in value:
        return {"models": ""}
    names = sorted(set(value))
    return {"models": json.dumps(names), **{f"m:{model}": "1" for model in names}}


def _encode_count(stored: str) -> Callable[[Any, str], dict[str, str]]:
    def encode(value: Any, name: str) -> dict[str, str]:
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # to JSON 60.0 is an integer
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST:
            raise _refuse(name, f"must be a whole number from 1 to {_MOST:,}; leave it away for no limit")
        return {stored: str(value)}

    return encode


def _encode_budget(value: Any, name: str) -> dict[str, str]:
    try:
        # Through text: the binary fraction of 0.1 is not what was meant.
        nanos = _EXACTLY.multiply(Decimal("NaN" if isinstance(value, bool) else str(value)), NANOS)
        is_right = nanos == nanos.to_integral_value() and 0 <= nanos <= MAX_BUDGET_NANOS
    except ArithmeticError:  # no number, or one with more digits than money has
        is_right = False
    if not is_right:
        raise _refuse(
            name,
            f"must be USD from 0 to {usd(MAX_BUDGET_NANOS)[1:]} with at most nine places after the point",
        )
    return {"budget": str(int(nanos))}


def _encode_duration(value: Any, name: str) -> dict[str, str]:
    try:
        period = period_of(value if isinstance(value, str) else "")
    except ValueError:
        raise _refuse(
            name, "must be a number and s, m, h, d, w or mo, as 24h, 30d or 1mo, of at most ten years"
        ) from None
    return {"duration": str(value), "period": period, "anchor": "+0"}


def _encode_expires(value: Any, name: str) -> dict[str, str]:
    rule = "must be a time as 2026-01-31T12:00:00Z, or a duration from now as 30d"
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, str):
        try:
            return {"expires": f"+{int(period_of(value))}"}
        except ValueError:
            pass
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise _refuse(name, rule) from None
    else:
        raise _refuse(name, rule)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return {"expires": str(round(moment.timestamp() * 1000))}


def _encode_blocked(value: Any, name: str) -> dict[str, str]:
    if not isinstance(value, bool):
        raise _refuse(name, "must be true or false")
    return {"blocked": str(int(value))}


def _encode_metadata(value: Any, name: str) -> dict[str, str]:
    rule = f"must be a JSON object of at most {_LARGEST_METADATA:,} bytes"
    try:
        text = json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError):
        raise _refuse(name, rule) from None
    if not isinstance(value, dict) or len(text) > _LARGEST_METADATA:
        raise _refuse(name, rule)
    return {"metadata": text}


ATTRIBUTES: Final[Mapping[str, tuple[tuple[str, ...], Callable[[Any, str], dict[str, str]]]]] = {
    "alias": (("alias",), _encode_alias),
    "models": (("models",), _encode_models),
    "rpm_limit": (("rpm",), _encode_count("rpm")),
    "tpm_limit": (("tpm",), _encode_count("tpm")),
    "max_parallel_requests": (("parallel",), _encode_count("parallel")),
    "max_budget": (("budget",), _encode_budget),
    "budget_duration": (("duration", "period", "anchor"), _encode_duration),
    "expires": (("expires",), _encode_expires),
    "blocked": (("blocked",), _encode_blocked),
    "metadata": (("metadata",), _encode_metadata),
}
"""What can be set: name to the fields of the record and how the value is written there."""


def encode_attributes(attributes: Mapping[str, Any], *, is_team: bool) -> Change:
    """Check attributes and return the change that sets them; None as a value unsets.

    Raises:
        RequestError: 400, with the attribute as `param`.
    """
    written: dict[str, str | bytes] = {}
    removed: list[str] = []
    for name, value in attributes.items():
        if name not in ATTRIBUTES or (is_team and name == "expires"):
            known = ", ".join(sorted(ATTRIBUTES.keys() - ({"expires"} if is_team else set())))
            raise RequestError(
                "unsupported_parameter", f"'{name}' cannot be set. Known: {known}.", param=name
            )
        fields, encode = ATTRIBUTES[name]
        if value is not None:
            written |= encode(value, name)
        elif name == "models":
            written["models"] = ""  # the one that every record has
        else:
            removed.extend(fields)
    return Change(written, tuple(removed))


def refuse_past(attributes: Mapping[str, Any]) -> None:
    """Refuse to let a key end at a time that has passed: a typing error would be silent until its first call.

    Apart from `encode_attributes`, by which also what was set long ago is compared.

    Raises:
        RequestError: 400, with the attribute as `param`; also if it is no time.
    """
    value = attributes.get("expires")
    moment = "+" if value is None else _encode_expires(value, "expires")["expires"]
    if not moment.startswith("+") and int(moment) <= datetime.now(UTC).timestamp() * 1000:
        raise _refuse("expires", "is a time that has passed; to end a key now, block or revoke it")


def changed_attributes(before: TeamInfo, wanted: Mapping[str, Any], *, is_team: bool) -> dict[str, Any]:
    """Return those of the attributes that differ from what is there.

    Raises:
        RequestError: one is wrong.
    """
    there = before.attributes()
    changed = {}
    for name, value in wanted.items():
        new = encode_attributes({name: value}, is_team=is_team)
        old = encode_attributes({name: there.get(name)}, is_team=is_team)
        is_unset = name == "blocked" and value is False and name not in there
        if (new.set, new.removed) != (old.set, old.removed) and not is_unset:
            changed[name] = value
    return changed


def read_subject(described: list[Any], team: str | None) -> TeamInfo:
    """Return the key or team that describe.lua tells of; `team` is the id of the owner's team, if there is one."""
    key_id, flat, spent, held, in_flight, reset = described
    fields = {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}

    def text(name: str) -> str | None:
        value = fields.get(name)
        return None if not value else value.decode()

    def number(name: str) -> int | None:
        value = fields.get(name)
        return None if not value else int(value)

    def moment(milliseconds: int | None) -> datetime | None:
        return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)

    models = text("models")
    common: dict[str, Any] = {
        "id": key_id.decode() or text("id") or "",
        "alias": text("alias"),
        "models": None if models is None else tuple(json.loads(models)),
        "rpm_limit": number("rpm"),
        "tpm_limit": number("tpm"),
        "max_parallel_requests": number("parallel"),
        "max_budget_nanos": number("budget"),
        "budget_duration": text("duration"),
        "blocked": fields.get("blocked") == b"1",
        "metadata": json.loads(text("metadata") or "{}"),
        "created_at": moment(number("created")),
        "updated_at": moment(number("updated")),
        "spend_nanos": int(spent),
        "held_nanos": int(held),
        "in_flight": int(in_flight),
        "budget_reset_at": moment(int(reset)) if reset != b"" else None,
    }
    if not key_id:
        return TeamInfo(**common)
    return KeyInfo(
        **common,
        team_id=text("team") and team,
        expires=moment(number("expires")),
        old_secret_until=moment(number("olds_until")),
        digest=fields.get("secret", b""),
    )
