"""LiteLLM's `/team/...` routes. Who may call them is checked by `admin.py`, which calls them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from neev_provider.errors import RequestError
from neev_provider.gateway.admin_desk import page_of, sorted_by, told
from neev_provider.gateway.admin_shapes import key_entry, team_entry
from neev_provider.gateway.admin_words import TEAM_WORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from neev_provider.admission.records import KeyInfo, TeamInfo
    from neev_provider.gateway.admin_desk import Desk
    from neev_provider.gateway.admin_request import AdminRequest

__all__ = [
    "TEAM_LIST_PARAMETERS",
    "TEAM_PAGE_PARAMETERS",
    "available_teams",
    "block_team",
    "delete_teams",
    "list_teams",
    "new_team",
    "page_teams",
    "team_info",
    "unblock_team",
    "update_team",
]

TEAM_LIST_PARAMETERS: Final = frozenset({"user_id", "organization_id"})
TEAM_PAGE_PARAMETERS: Final = TEAM_LIST_PARAMETERS | frozenset(
    {
        *("page", "page_size", "search", "search_team_id_match", "sort_by", "sort_order"),
        *("status", "team_alias", "team_id"),
    }
)
_LARGEST_PAGE: Final = 100
_PAGE: Final = 10
_SORTED_BY: Final[Mapping[str, Callable[[TeamInfo], Any]]] = {
    "team_id": lambda team: team.id,
    "team_alias": lambda team: team.alias,
    "created_at": lambda team: team.created_at,
    "updated_at": lambda team: team.updated_at,
    "spend": lambda team: team.spend_nanos,
    "max_budget": lambda team: team.max_budget_nanos,
}


async def new_team(request: AdminRequest, desk: Desk) -> Any:
    """Make a team."""
    attributes = TEAM_WORDS.read(request.fields, ("team_id",), is_new=True)
    team_id = request.optional_text("team_id")
    return team_entry(await desk.keys.create_team(attributes, team_id=team_id, by=request.by))


async def update_team(request: AdminRequest, desk: Desk) -> Any:
    """Change what is given; null unsets."""
    team_id = request.text("team_id")
    attributes = TEAM_WORDS.read(request.fields, ("team_id",))
    entry = team_entry(await desk.keys.update_team(team_id, attributes, by=request.by))
    return {"team_id": team_id, "data": entry}


async def delete_teams(request: AdminRequest, desk: Desk) -> Any:
    """Remove teams and revoke their keys; none if one of them is not there."""
    request.only("team_ids")
    team_ids = request.texts("team_ids")
    if not team_ids:
        raise RequestError("missing_required_parameter", "'team_ids' is required.", param="team_ids")
    for team_id in team_ids:
        await desk.keys.team(team_id)
    for team_id in team_ids:
        await desk.keys.delete_team(team_id, with_keys=True, by=request.by)
    return {"deleted_teams": team_ids}


async def block_team(request: AdminRequest, desk: Desk) -> Any:
    """Refuse the calls of a team's keys from now on."""
    request.only("team_id")
    team_id = request.text("team_id")
    await desk.keys.block_team(team_id, by=request.by)
    return team_entry(await desk.keys.team(team_id))


async def unblock_team(request: AdminRequest, desk: Desk) -> Any:
    """Let the calls of a team's keys in again."""
    request.only("team_id")
    team_id = request.text("team_id")
    await desk.keys.unblock_team(team_id, by=request.by)
    return team_entry(await desk.keys.team(team_id))


async def team_info(request: AdminRequest, desk: Desk) -> Any:
    """Tell about a team and its keys."""
    team_id = request.query.get("team_id")
    if team_id is None:
        raise RequestError("missing_required_parameter", "'team_id' is required.", param="team_id")
    team = await desk.keys.team(team_id)
    keys = await desk.keys_of_team(team_id)
    return {
        "team_id": team.id,
        "team_info": team_entry(team),
        "keys": await told(keys, key_entry),
        "team_memberships": [],
    }


async def list_teams(request: AdminRequest, desk: Desk) -> Any:
    """List all teams with their keys."""
    if request.query:  # nobody is a member of a team here, and teams have no organization
        return []
    of_team: dict[str | None, list[KeyInfo]] = {}
    for key in await desk.keys_of_team(None):
        of_team.setdefault(key.team_id, []).append(key)
    return [
        {
            **team_entry(team),
            "team_memberships": [],
            "keys": await told(of_team.get(team.id, ()), key_entry),
        }
        for team in await desk.keys.list_teams()
    ]


async def page_teams(request: AdminRequest, desk: Desk) -> Any:
    """List teams by pages (LiteLLM's `/v2/team/list`)."""
    page, size = request.number("page", 1), request.number("page_size", _PAGE, _LARGEST_PAGE)
    keeps = _filter(request)
    teams = [team for team in await desk.keys.list_teams() if keeps(team)]
    sort_by = request.choice("sort_by", tuple(_SORTED_BY)) or "created_at"
    order = request.choice("sort_order", ("asc", "desc"), "asc")
    teams = sorted_by(teams, _SORTED_BY[sort_by], descending=order == "desc")
    shown, pages = page_of(teams, page, size)
    return {
        "teams": [team_entry(team) for team in shown],
        "total": len(teams),
        "page": page,
        "page_size": size,
        "total_pages": pages,
    }


def _filter(request: AdminRequest) -> Callable[[TeamInfo], bool]:
    """Return what a listed team must fulfil."""
    query = request.query
    match = request.choice("search_team_id_match", ("exact", "prefix"), "exact")
    is_nobodys = request.choice("status", ("deleted",)) is not None or bool(TEAM_LIST_PARAMETERS & set(query))
    team_id, alias, search = query.get("team_id"), query.get("team_alias"), query.get("search")

    def keeps(team: TeamInfo) -> bool:
        own = (team.alias or "").lower()
        return not (
            is_nobodys
            or (team_id is not None and team_id != team.id)
            or (alias is not None and alias.lower() not in own)
            or (
                search is not None
                and not (team.id == search or (match == "prefix" and team.id.startswith(search)))
                and search.lower() not in own
            )
        )

    return keeps


async def available_teams(request: AdminRequest, desk: Desk) -> Any:
    """List the teams that one may join by oneself: none."""
    del request, desk
    return []
