"""Keys and teams as a file declares them: the plan of what has to change, and carrying it out.

A team is known by its id, a key by its alias. What the file does not mention is left alone, unless it is to be
pruned. A key may bring its token in a variable of the environment, so that one who declares it (a cluster's secret)
has it before it is made. Called by the command line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from neev_provider.admission import tokens
from neev_provider.admission.records import ATTRIBUTES, changed_attributes, encode_attributes, refuse_past
from neev_provider.errors import ConfigError, RequestError
from neev_provider.schema_words import in_words

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from neev_provider.admission.keys import Keys, NewKey
    from neev_provider.admission.records import KeyInfo, TeamInfo

__all__ = ["Declaration", "DeclaredKey", "Step", "apply_plan", "make_plan", "read_declaration"]

_REFERENCE: Final = "os.environ/"


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a file wants.

    Attributes:
        teams: id to attributes.
        keys: alias to the key.
    """

    teams: Mapping[str, Mapping[str, Any]]
    keys: Mapping[str, DeclaredKey]


@dataclass(frozen=True, slots=True)
class DeclaredKey:
    """A key that a file wants.

    Attributes:
        team: id of its team; None for none.
        attributes: as `records.ATTRIBUTES` names them.
        token: that it is to have; None for any.
    """

    team: str | None
    attributes: Mapping[str, Any]
    token: str | None = field(default=None, repr=False)


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
        token: that a key is given; None for a random one.
    """

    action: Literal["create", "update", "rotate", "revoke"]
    kind: Literal["team", "key"]
    name: str
    id: str = ""
    team: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    token: str | None = field(default=None, repr=False)


class _File(msgspec.Struct, forbid_unknown_fields=True):
    teams: list[dict[str, Any]] = []
    keys: list[dict[str, Any]] = []


def read_declaration(document: object, source: str, environ: Mapping[str, str] | None = None) -> Declaration:
    """Check what a YAML or JSON file holds.

    Args:
        document: as parsed: `teams`, each with `id`, and `keys`, each with `alias` and perhaps `team` and `token`.
        source: the file's name, for errors.
        environ: where tokens are found.

    Raises:
        ConfigError: names the place and the remedy.
    """
    try:
        given = msgspec.convert(document, _File)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$")
        place = place.strip("`.").replace("[...]", "")
        raise ConfigError(
            source, place, in_words(problem), "A file holds the lists teams and keys."
        ) from None
    teams: dict[str, Mapping[str, Any]] = {}
    for index, entry in enumerate(given.teams):
        name = _name(entry, "id", teams, source, f"teams[{index}]")
        teams[name] = _checked(entry, {"id"}, source, f"teams[{index}]", is_team=True)
    keys: dict[str, DeclaredKey] = {}
    for index, entry in enumerate(given.keys):
        place = f"keys[{index}]"
        name = _name(entry, "alias", keys, source, place)
        team = entry.get("team")
        if team is not None and not isinstance(team, str):
            raise ConfigError(source, f"{place}.team", "is not the id of a team", "Give a text.")
        attributes = _checked(entry, {"team", "token"}, source, place, is_team=False)
        keys[name] = DeclaredKey(team, attributes, _token(entry, team, source, place, environ or {}))
    return Declaration(teams, keys)


def _name(entry: Mapping[str, Any], name: str, known: Mapping[str, Any], source: str, place: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not value:
        raise ConfigError(source, place, f"has no {name}", f"Give it one: {name}: ...")
    if value in known:
        raise ConfigError(source, place, f"'{value}' stands twice", "Remove one of them.")
    return value


def _checked(
    entry: Mapping[str, Any], identity: set[str], source: str, place: str, *, is_team: bool
) -> dict[str, Any]:
    attributes = {name: value for name, value in entry.items() if name not in identity}
    try:
        encode_attributes(attributes, is_team=is_team)
    except RequestError as error:
        raise ConfigError(source, f"{place}.{error.param}", error.message, "Correct it.") from None
    return attributes


def _token(
    entry: Mapping[str, Any], team: str | None, source: str, place: str, environ: Mapping[str, str]
) -> str | None:
    """Return the token that an entry refers to.

    Raises:
        ConfigError: it stands in the file itself, is not there, or is not one for this key.
    """
    place += ".token"
    reference = entry.get("token")
    if reference is None:
        return None
    if not isinstance(reference, str) or not reference.startswith(_REFERENCE):
        raise ConfigError(
            source, place, "is a secret and must not stand in a file", "Refer to it: token: os.environ/NAME."
        )
    variable = reference.removeprefix(_REFERENCE)
    token = environ.get(variable, "").strip()
    if not token:
        raise ConfigError(source, place, f"the variable {variable} is not set", "Set it.")
    key_id = tokens.id_of(token)
    team_of_id = None if key_id is None or tokens.tag_of(key_id) == key_id else tokens.tag_of(key_id)
    if key_id is None or team_of_id != team:
        make = "neev-gateway keys new-token" + ("" if team is None else f" --team {team}")
        raise ConfigError(source, place, f"{variable} is not a token for this key", f"Make one: {make}.")
    return token


async def make_plan(keys: Keys, declared: Declaration, *, prune: bool = False) -> list[Step]:
    """Return what has to be done so that all is as declared; nothing if it is.

    What a declared key or team does not mention is unset.

    Args:
        keys: what is there.
        declared: what should be.
        prune: revoke what is not declared; a team that a declared key names stays as it is.

    Raises:
        RequestError: a key is declared for another team than it has; its id names its team, so it must be made anew.
            Or its team is neither there nor declared. Or it would end in the past.
        ServerError: the store is away.
    """
    teams = {team.id: team for team in await keys.list_teams()}
    all_keys = await keys.list_keys()
    present = {key.alias: key for key in all_keys if key.alias is not None}
    steps = [_team_step(name, wanted, teams.get(name)) for name, wanted in declared.teams.items()]
    for name, wanted_key in declared.keys.items():
        if wanted_key.team is not None and wanted_key.team not in {*teams, *declared.teams}:
            raise RequestError(
                "invalid_value",
                f"The key '{name}' is declared for {_of(wanted_key.team)}, which is not there: declare the team too.",
                param="team",
            )
        steps += await _key_steps(keys, name, wanted_key, present.get(name))
    if prune:
        steps += [
            Step("revoke", "key", key.alias or key.id, key.id)
            for key in all_keys
            if key.alias not in declared.keys
        ]
        named = {*declared.teams, *(key.team for key in declared.keys.values())}
        steps += [Step("revoke", "team", name, name) for name in teams if name not in named]
    for step in steps:
        if step.kind == "key":
            # Before the first step is done; one that is there already may have ended.
            refuse_past(step.attributes)
    return [step for step in steps if step.action != "update" or step.attributes]


def _team_step(name: str, wanted: Mapping[str, Any], there: TeamInfo | None) -> Step:
    if there is None:
        return Step("create", "team", name, attributes=wanted)
    return Step("update", "team", name, name, attributes=_difference(there, wanted, is_team=True))


async def _key_steps(keys: Keys, name: str, wanted: DeclaredKey, there: KeyInfo | None) -> list[Step]:
    if there is None:
        return [Step("create", "key", name, "", wanted.team, wanted.attributes, wanted.token)]
    if there.team_id != wanted.team:
        raise RequestError(
            "invalid_value",
            f"The key '{name}' is of {_of(there.team_id)} and declared for {_of(wanted.team)}. Its token names its "
            "team: revoke it, or declare a key of another alias.",
            param="team",
        )
    changes = _difference(there, wanted.attributes, is_team=False)
    steps = [Step("update", "key", name, there.id, wanted.team, changes)]
    if wanted.token is not None:
        if tokens.id_of(wanted.token) != there.id:
            raise RequestError(
                "invalid_value",
                f"The key '{name}' has the id {there.id}, and its declared token another. Revoke the key, or declare "
                "a key of another alias.",
                param="token",
            )
        if not await keys.is_token(there.id, wanted.token):
            steps.append(Step("rotate", "key", name, there.id, wanted.team, token=wanted.token))
    return steps


def _of(team: str | None) -> str:
    return "no team" if team is None else f"the team '{team}'"


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


async def apply_plan(keys: Keys, plan: Sequence[Step], *, by: str) -> AsyncIterator[NewKey]:
    """Carry a plan out; yields each key that was made, with its token, at once: a later step may fail.

    Raises:
        RequestError: a step cannot be done; those before it are.
        ServerError: the store is away.
    """
    for step in plan:
        match step.action, step.kind:
            case "create", "team":
                await keys.create_team(step.attributes, team_id=step.name, by=by)
            case "create", "key":
                yield await keys.create_key(step.attributes, team=step.team, token=step.token, by=by)
            case "update", "team":
                await keys.update_team(step.id, step.attributes, by=by)
            case "update", "key":
                await keys.update_key(step.id, step.attributes, by=by)
            case "rotate", _:
                await keys.rotate_key(step.id, token=step.token, by=by)
            case "revoke", "team":
                await keys.delete_team(step.id, with_keys=True, by=by)
            case _:
                await keys.revoke_key(step.id, by=by)
