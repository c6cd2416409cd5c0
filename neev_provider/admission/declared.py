"""Keys and teams as a file declares them: the plan of what has to change, and carrying it out.

A team is known by its id, a key by its alias. What the file does not mention is left alone, unless it is to be
pruned. Called by the command line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from neev_provider.admission.keys import changed_attributes
from neev_provider.admission.records import ATTRIBUTES, encode_attributes
from neev_provider.errors import ConfigError, RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from neev_provider.admission.keys import Keys, NewKey
    from neev_provider.admission.records import KeyInfo, TeamInfo

__all__ = ["Declaration", "Step", "apply_plan", "make_plan", "read_declaration"]

_IDENTITY: Final = frozenset({"id", "team"})


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a file wants.

    Attributes:
        teams: id to attributes.
        keys: alias to the id of the team, None for none, and attributes.
    """

    teams: Mapping[str, Mapping[str, Any]]
    keys: Mapping[str, tuple[str | None, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Step:
    """One change.

    Attributes:
        action: what is done.
        kind: to what.
        name: a team's id or a key's alias.
        id: of what is there already; "" for what is to be made.
        team: of a key.
        attributes: that are set; None as a value unsets.
    """

    action: Literal["create", "update", "revoke"]
    kind: Literal["team", "key"]
    name: str
    id: str = ""
    team: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


class _File(msgspec.Struct, forbid_unknown_fields=True):
    teams: list[dict[str, Any]] = []
    keys: list[dict[str, Any]] = []


def read_declaration(document: object, source: str) -> Declaration:
    """Check what a YAML or JSON file holds.

    Args:
        document: as parsed: `teams`, each with `id`, and `keys`, each with `alias` and perhaps `team`.
        source: the file's name, for errors.

    Raises:
        ConfigError: names the place and the remedy.
    """
    try:
        given = msgspec.convert(document, _File)
    except msgspec.ValidationError as error:
        raise ConfigError(source, "", str(error), "A file holds the lists teams and keys.") from None
    teams: dict[str, Mapping[str, Any]] = {}
    for index, entry in enumerate(given.teams):
        name = _name(entry, "id", teams, source, f"teams[{index}]")
        teams[name] = _checked(entry, source, f"teams[{index}]", is_team=True)
    keys: dict[str, tuple[str | None, Mapping[str, Any]]] = {}
    for index, entry in enumerate(given.keys):
        name = _name(entry, "alias", keys, source, f"keys[{index}]")
        team = entry.get("team")
        if team is not None and not isinstance(team, str):
            raise ConfigError(source, f"keys[{index}].team", "is not the id of a team", "Give a text.")
        keys[name] = (team, _checked(entry, source, f"keys[{index}]", is_team=False))
    return Declaration(teams, keys)


def _name(entry: Mapping[str, Any], name: str, known: Mapping[str, Any], source: str, place: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not value:
        raise ConfigError(source, place, f"has no {name}", f"Give it one: {name}: ...")
    if value in known:
        raise ConfigError(source, place, f"'{value}' stands twice", "Remove one of them.")
    return value


def _checked(entry: Mapping[str, Any], source: str, place: str, *, is_team: bool) -> dict[str, Any]:
    attributes = {name: value for name, value in entry.items() if name not in _IDENTITY}
    try:
        encode_attributes(attributes, is_team=is_team)
    except RequestError as error:
        raise ConfigError(source, f"{place}.{error.param}", error.message, "Correct it.") from None
    return attributes


async def make_plan(keys: Keys, declared: Declaration, *, prune: bool = False) -> list[Step]:
    """Return what has to be done so that all is as declared; nothing if it is.

    What a declared key or team does not mention is unset.

    Args:
        keys: what is there.
        declared: what should be.
        prune: revoke what is not declared.

    Raises:
        RequestError: a key is declared for another team than it has; its id names its team, so it must be made anew.
        ServerError: the store is away.
    """
    teams = {team.id: team for team in await keys.list_teams()}
    present = {key.alias: key for key in await keys.list_keys() if key.alias is not None}
    steps = [_team_step(name, wanted, teams.get(name)) for name, wanted in declared.teams.items()]
    steps += [
        _key_step(name, team, wanted, present.get(name)) for name, (team, wanted) in declared.keys.items()
    ]
    if prune:
        gone_keys = [key for key in await keys.list_keys() if key.alias not in declared.keys]
        steps += [Step("revoke", "key", key.alias or key.id, key.id) for key in gone_keys]
        steps += [Step("revoke", "team", name, name) for name in teams if name not in declared.teams]
    return [step for step in steps if step.action != "update" or step.attributes]


def _team_step(name: str, wanted: Mapping[str, Any], there: TeamInfo | None) -> Step:
    if there is None:
        return Step("create", "team", name, attributes=wanted)
    return Step("update", "team", name, name, attributes=_difference(there, wanted, is_team=True))


def _key_step(name: str, team: str | None, wanted: Mapping[str, Any], there: KeyInfo | None) -> Step:
    if there is None:
        return Step("create", "key", name, team=team, attributes=wanted)
    if there.team_id != team:
        raise RequestError(
            "invalid_value",
            f"The key '{name}' is of the team '{there.team_id}' and declared for '{team}'. Its token names its team: "
            "revoke it, or declare a key of another alias.",
            param="team",
        )
    return Step("update", "key", name, there.id, team, _difference(there, wanted, is_team=False))


def _difference(there: TeamInfo, wanted: Mapping[str, Any], *, is_team: bool) -> dict[str, Any]:
    names = [name for name in ATTRIBUTES if not (is_team and name == "expires")]
    complete = {name: wanted.get(name, False if name == "blocked" else None) for name in names}
    if (
        isinstance(wanted.get("expires"), str)
        and wanted["expires"][0:1].isdigit()
        and "-" not in wanted["expires"]
    ):
        # A duration from now would move with every run; it counts when the key is made.
        del complete["expires"]
    return changed_attributes(there, complete, is_team=is_team)


async def apply_plan(keys: Keys, plan: Sequence[Step], *, by: str) -> list[NewKey]:
    """Carry a plan out; return the keys that were made, with their tokens.

    Raises:
        RequestError: a step cannot be done; those before it are.
        ServerError: the store is away.
    """
    made: list[NewKey] = []
    for step in plan:
        match step.action, step.kind:
            case "create", "team":
                await keys.create_team(step.attributes, team_id=step.name, by=by)
            case "create", "key":
                made.append(await keys.create_key(step.attributes, team=step.team, by=by))
            case "update", "team":
                await keys.update_team(step.id, step.attributes, by=by)
            case "update", "key":
                await keys.update_key(step.id, step.attributes, by=by)
            case "revoke", "team":
                await keys.delete_team(step.id, with_keys=True, by=by)
            case _:
                await keys.revoke_key(step.id, by=by)
    return made
