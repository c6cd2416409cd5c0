"""The admin routes for the document: what each takes, and what it answers. Called by `document.py`.

The routes themselves read field by field (`gateway/admin_*.py`); tests hold these types against them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from msgspec import Meta, Struct
from msgspec.structs import fields

from neev_provider.openapi import answers

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ADMIN", "AdminOperation"]

_Models = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=200)]],
    Meta(max_length=500, description="public model names; none, or one of `*`: all"),
]
_Limit = Annotated[int, Meta(ge=1, le=10**12)]
_Usd = Annotated[
    Annotated[float, Meta(ge=0, le=9_000_000)] | Annotated[str, Meta(pattern=r"^[0-9]{1,7}(\.[0-9]{1,9})?$")],
    Meta(description="USD with at most nine places after the point; a text is exact"),
]
_DURATION: Final = r"^([1-9][0-9]{0,8})(s|m|h|d|w|mo)$"
_Duration = Annotated[str, Meta(pattern=_DURATION, description="24h, 30d, 2w, 1mo ...; at most ten years")]
_Lifetime = Annotated[
    str,
    Meta(pattern=rf"{_DURATION}|^-1$|^$", description="from now on, as 24h, 30d, 1mo; -1: for ever"),
]
_Name = Annotated[str, Meta(min_length=1, max_length=500)]
_Alias = Annotated[str, Meta(min_length=1, max_length=200, description="printable characters")]
_Key = Annotated[
    str,
    Meta(min_length=1, max_length=500, description="a key: its token, its id, or the SHA-256 of its token"),
]
_Team = Annotated[str, Meta(max_length=500, description="a team's id")]
_Keys = Annotated[list[_Key], Meta(max_length=1000)]


class _Shared(Struct, kw_only=True, forbid_unknown_fields=True):
    models: _Models | None = None
    rpm_limit: _Limit | None = None
    tpm_limit: _Limit | None = None
    max_parallel_requests: _Limit | None = None
    max_budget: _Usd | None = None
    budget_duration: _Duration | None = None
    blocked: bool | None = None
    metadata: Annotated[dict[str, Any], Meta(description="at most 16,384 bytes of JSON")] | None = None


class NewKey(_Shared, kw_only=True):
    """A key to be made. null means the same as leaving a field away."""

    key_alias: _Alias | None = None
    duration: _Lifetime | None = None
    team_id: _Team | None = None


class KeyUpdate(_Shared, kw_only=True):
    """What changes of a key; null unsets."""

    key: _Key
    key_alias: _Alias | None = None
    duration: _Lifetime | None = None
    team_id: _Team | None = None


class KeyRegeneration(_Shared, kw_only=True):
    """A new secret for a key, and what else changes of it."""

    key: _Key
    key_alias: _Alias | None = None
    duration: _Lifetime | None = None
    team_id: _Team | None = None
    grace_period: Annotated[str, Meta(description="how long the old secret stays good, as 24h")] | None = None


class NamedKeyRegeneration(_Shared, kw_only=True):
    """The same for the key that the path names."""

    key_alias: _Alias | None = None
    duration: _Lifetime | None = None
    team_id: _Team | None = None
    grace_period: Annotated[str, Meta(description="how long the old secret stays good, as 24h")] | None = None


class KeyName(Struct, forbid_unknown_fields=True):
    """A key."""

    key: _Key


class KeyNames(Struct, forbid_unknown_fields=True):
    """Keys, by whatever names them, or by their aliases."""

    keys: _Keys | None = None
    key_aliases: _Keys | None = None


class KeysToRevoke(KeyNames, forbid_unknown_fields=True):
    """Keys, at least one."""


class NewTeam(_Shared, kw_only=True):
    """A team to be made."""

    team_alias: _Alias | None = None
    team_id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{1,40}$|^$")] | None = None


class TeamUpdate(_Shared, kw_only=True):
    """What changes of a team; null unsets."""

    team_id: _Name
    team_alias: _Alias | None = None


class TeamName(Struct, forbid_unknown_fields=True):
    """A team."""

    team_id: _Name


class TeamNames(Struct, forbid_unknown_fields=True):
    """Teams."""

    team_ids: Annotated[list[_Name], Meta(min_length=1, max_length=1000)]


_TEXT: Final[Mapping[str, Any]] = {"type": "string"}
_FLAG: Final[Mapping[str, Any]] = {"type": "boolean"}
_DATE: Final[Mapping[str, Any]] = {"type": "string", "format": "date", "example": "2026-01-31"}
_ORDER: Final[Mapping[str, Any]] = {"enum": ["asc", "desc"]}
_PAGE: Final[Mapping[str, Any]] = {"type": "integer", "minimum": 1, "maximum": 1_000_000}
_SIZE: Final[Mapping[str, Any]] = {"type": "integer", "minimum": 1, "maximum": 100}
_BY: Final = ("spend", "max_budget", "created_at", "updated_at")


@dataclass(frozen=True, slots=True)
class AdminOperation:
    """One route.

    Attributes:
        summary: what it does.
        answer: type of what is answered.
        body: type of what is taken; None for a GET.
        query: its parameters' schemas by name.
        required: the parameters that must be given.
        statuses: of errors beside those of every admin route.
    """

    summary: str
    answer: Any
    body: type[Struct] | None = None
    query: Mapping[str, Mapping[str, Any]] | None = None
    required: frozenset[str] = frozenset()
    statuses: frozenset[int] = frozenset()

    @property
    def needs_body(self) -> bool:
        """Whether something must be said in the body."""
        return self.body is KeysToRevoke or any(field.required for field in fields(self.body or Struct))

    @property
    def method(self) -> Literal["get", "post"]:
        """The HTTP method."""
        return "get" if self.body is None else "post"


_MISSING: Final = frozenset({404})
_KEY_LIST: Final[Mapping[str, Mapping[str, Any]]] = {
    "page": _PAGE,
    "size": _SIZE,
    **dict.fromkeys(
        ("access_group_id", "agent_id", "expand", "key_alias", "key_hash", "organization_id"), _TEXT
    ),
    **dict.fromkeys(("project_id", "search", "team_id", "user_id"), _TEXT),
    **dict.fromkeys(("include_created_by_keys", "include_team_keys", "return_full_object"), _FLAG),
    "substring_matching": _FLAG,
    "expires": {"enum": ["active", "expired"]},
    "sort_by": {"enum": [*_BY, "token", "key_alias"]},
    "sort_order": _ORDER,
    "status": {"enum": ["active", "expired", "revoked", "deleted"]},
}
_TEAM_PAGE: Final[Mapping[str, Mapping[str, Any]]] = {
    "page": _PAGE,
    "page_size": _SIZE,
    **dict.fromkeys(("organization_id", "search", "team_alias", "team_id", "user_id"), _TEXT),
    "search_team_id_match": {"enum": ["exact", "prefix"]},
    "sort_by": {"enum": ["team_id", "team_alias", *_BY]},
    "sort_order": _ORDER,
    "status": {"enum": ["deleted"]},
}
_SPAN: Final[Mapping[str, Mapping[str, Any]]] = {"start_date": _DATE, "end_date": _DATE, "api_key": _TEXT}
_DAYS: Final = frozenset({"start_date", "end_date"})

ADMIN: Final[Mapping[str, AdminOperation]] = {
    "/key/generate": AdminOperation(
        "Make a key; its token is told this once", answers.NewKeyAnswer, NewKey, statuses=_MISSING
    ),
    "/key/update": AdminOperation("Change a key", answers.KeyUpdated, KeyUpdate, statuses=_MISSING),
    "/key/regenerate": AdminOperation(
        "Give a key a new secret", answers.NewKeyAnswer, KeyRegeneration, statuses=_MISSING
    ),
    "/key/{key}/regenerate": AdminOperation(
        "Give a key a new secret", answers.NewKeyAnswer, NamedKeyRegeneration, statuses=_MISSING
    ),
    "/key/delete": AdminOperation("Revoke keys", answers.KeysDeleted, KeysToRevoke, statuses=_MISSING),
    "/key/block": AdminOperation("Refuse a key's calls", answers.Key, KeyName, statuses=_MISSING),
    "/key/unblock": AdminOperation("Let a key's calls in again", answers.Key, KeyName, statuses=_MISSING),
    "/v2/key/info": AdminOperation("Tell about keys", answers.KeyInfos, KeyNames, statuses=_MISSING),
    "/key/info": AdminOperation(
        "Tell about a key: any for the operator, itself for its holder",
        answers.KeyInfo,
        query={"key": _TEXT},
        statuses=_MISSING,
    ),
    "/key/list": AdminOperation("List keys", answers.KeyPage, query=_KEY_LIST),
    "/team/new": AdminOperation("Make a team", answers.Team, NewTeam),
    "/team/update": AdminOperation("Change a team", answers.TeamUpdated, TeamUpdate, statuses=_MISSING),
    "/team/delete": AdminOperation(
        "Remove teams and revoke their keys", answers.TeamsDeleted, TeamNames, statuses=_MISSING
    ),
    "/team/block": AdminOperation("Refuse the calls of a team", answers.Team, TeamName, statuses=_MISSING),
    "/team/unblock": AdminOperation("Let a team's calls in", answers.Team, TeamName, statuses=_MISSING),
    "/team/info": AdminOperation(
        "Tell about a team",
        answers.TeamInfo,
        query={"team_id": {"type": "string", "minLength": 1}},
        required=frozenset({"team_id"}),
        statuses=_MISSING,
    ),
    "/team/list": AdminOperation(
        "List teams", list[answers.TeamWithKeys], query={"user_id": _TEXT, "organization_id": _TEXT}
    ),
    "/v2/team/list": AdminOperation("List teams by pages", answers.TeamPage, query=_TEAM_PAGE),
    "/team/available": AdminOperation("List the teams that one may join: none", list[answers.Team]),
    "/spend/keys": AdminOperation("List keys by what they spent", list[answers.Key]),
    "/spend/logs": AdminOperation(
        "Tell each day's spend",
        list[answers.SpendLog],
        query={**_SPAN, "summarize": {"enum": ["true"]}},
        required=_DAYS,
        statuses=_MISSING,
    ),
    "/spend/daily": AdminOperation(
        "Tell spend by key, team, model or day",
        answers.SpendDaily,
        query={
            **_SPAN,
            "since": {"type": "string", "pattern": _DURATION},
            "by": {"enum": ["key", "team", "model", "day"]},
            "team_id": _TEXT,
        },
        statuses=_MISSING,
    ),
    "/global/spend/report": AdminOperation(
        "Tell spend by team and day, or by key",
        list[dict[str, Any]],
        query={**_SPAN, "group_by": {"enum": ["team", "api_key"]}, "team_id": _TEXT},
        required=_DAYS,
        statuses=_MISSING,
    ),
}
"""The admin routes by their paths."""
