"""LiteLLM's `/key/...` routes. Who may call them is checked by `admin.py`, which calls them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from neev_provider.errors import RequestError
from neev_provider.gateway.admin_desk import page_of, sorted_by
from neev_provider.gateway.admin_shapes import key_entry, key_status
from neev_provider.gateway.admin_words import KEY_WORDS, seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from neev_provider.admission.keys import NewKey
    from neev_provider.admission.records import KeyInfo
    from neev_provider.gateway.admin_desk import Desk
    from neev_provider.gateway.admin_request import AdminRequest

__all__ = [
    "KEY_LIST_PARAMETERS",
    "block_key",
    "delete_keys",
    "generate_key",
    "key_infos",
    "list_keys",
    "regenerate_key",
    "unblock_key",
    "update_key",
]

KEY_LIST_PARAMETERS: Final = frozenset(
    {
        *("access_group_id", "agent_id", "expand", "expires", "include_created_by_keys"),
        *("include_team_keys", "key_alias", "key_hash", "organization_id", "page"),
        *("project_id", "return_full_object", "search", "size", "sort_by", "sort_order"),
        *("status", "substring_matching", "team_id", "user_id"),
    }
)
_OF_NOBODY: Final = ("user_id", "organization_id", "project_id", "access_group_id", "agent_id")
_STATES: Final = ("active", "expired", "revoked", "deleted")
_LARGEST_PAGE: Final = 100
_PAGE: Final = 10
_MAX_GRACE: Final = 30 * 86_400.0  # seconds
_SORTED_BY: Final[Mapping[str, Callable[[KeyInfo], Any]]] = {
    "spend": lambda key: key.spend_nanos,
    "max_budget": lambda key: key.max_budget_nanos,
    "created_at": lambda key: key.created_at,
    "updated_at": lambda key: key.updated_at,
    "token": lambda key: key.id,
    "key_alias": lambda key: key.alias,
}


async def generate_key(request: AdminRequest, desk: Desk) -> Any:
    """Make a key; its token is in the answer, and never again."""
    attributes = KEY_WORDS.read(request.fields, ("team_id",), is_new=True)
    made = await desk.keys.create_key(attributes, team=request.optional_text("team_id"), by=request.by)
    return _with_token(made)


async def update_key(request: AdminRequest, desk: Desk) -> Any:
    """Change what is given; null unsets."""
    key = await desk.key(request.text("key"))
    attributes = KEY_WORDS.read(request.fields, ("key", "team_id"))
    _check_team(request, key)
    entry = key_entry(await desk.keys.update_key(key.id, attributes, by=request.by))
    return {"key": key.id, **entry}


def _check_team(request: AdminRequest, key: KeyInfo) -> None:
    if "team_id" in request.fields and request.optional_text("team_id") != key.team_id:
        raise RequestError(
            "unsupported_parameter",
            "'team_id' cannot be changed: a key's id tells whose it is. Make a new key in the team.",
            param="team_id",
        )


async def regenerate_key(request: AdminRequest, desk: Desk) -> Any:
    """Give a key a new secret, for a time beside the old one if wanted, and change what is given."""
    own = ("key", "team_id", "grace_period")
    if request.named is not None and request.value("key") not in (None, request.named):
        raise RequestError("invalid_value", "'key' is not the key that the path names.", param="key")
    key = await desk.key(request.text("key") if request.named is None else request.named)
    attributes = KEY_WORDS.read(request.fields, own)
    _check_team(request, key)
    grace = _grace(request)
    if attributes:
        await desk.keys.update_key(key.id, attributes, by=request.by)
    return _with_token(await desk.keys.rotate_key(key.id, grace_seconds=grace, by=request.by))


def _grace(request: AdminRequest) -> float:
    duration = request.optional_text("grace_period")
    if duration is None:
        return 0.0
    seconds = seconds_of(duration, "grace_period")
    if seconds > _MAX_GRACE:
        raise RequestError("invalid_value", "'grace_period' must be at most 30d.", param="grace_period")
    return seconds


def _with_token(made: NewKey) -> dict[str, Any]:
    return {**key_entry(made.key), "key": made.token}


async def delete_keys(request: AdminRequest, desk: Desk) -> Any:
    """Revoke keys; none if one of them is not there."""
    request.only("keys", "key_aliases")
    names, aliases = request.texts("keys"), request.texts("key_aliases")
    if not names and not aliases:
        raise RequestError("missing_required_parameter", "'keys' or 'key_aliases' is required.", param="keys")
    named = {name: await desk.key(name, "keys") for name in names}
    called = {alias: await desk.key_of_alias(alias, "key_aliases") for alias in aliases}
    for key_id in dict.fromkeys(key.id for key in (*named.values(), *called.values())):
        await desk.keys.revoke_key(key_id, by=request.by)
    # Ids, not what was sent: that may be a secret.
    return {"deleted_keys": [*(key.id for key in named.values()), *called]}


async def block_key(request: AdminRequest, desk: Desk) -> Any:
    """Refuse a key's calls from now on."""
    request.only("key")
    key = await desk.key(request.text("key"))
    await desk.keys.block_key(key.id, by=request.by)
    return key_entry(await desk.keys.key(key.id))


async def unblock_key(request: AdminRequest, desk: Desk) -> Any:
    """Let a key's calls in again."""
    request.only("key")
    key = await desk.key(request.text("key"))
    await desk.keys.unblock_key(key.id, by=request.by)
    return key_entry(await desk.keys.key(key.id))


async def key_infos(request: AdminRequest, desk: Desk) -> Any:
    """Tell about several keys (LiteLLM's `/v2/key/info`)."""
    request.only("keys", "key_aliases")
    found = [await desk.key(name, "keys") for name in request.texts("keys")]
    found += [await desk.key_of_alias(alias, "key_aliases") for alias in request.texts("key_aliases")]
    return {"key": [key.id for key in found], "info": [key_entry(key) for key in found]}


async def list_keys(request: AdminRequest, desk: Desk) -> Any:
    """List keys by pages: their ids, or all about them."""
    page, size = request.number("page", 1), request.number("size", _PAGE, _LARGEST_PAGE)
    keeps = _filter(request)
    keys = [key for key in await desk.keys_of_team(request.query.get("team_id")) if keeps(key)]
    sort_by = request.choice("sort_by", tuple(_SORTED_BY)) or "created_at"
    order = request.choice("sort_order", ("asc", "desc"), "desc")
    keys = sorted_by(keys, _SORTED_BY[sort_by], descending=order == "desc")
    shown, pages = page_of(keys, page, size)
    is_full = request.flag("return_full_object") or "expand" in request.query
    # Nobody's keys are seen by the way: who asks is the operator.
    request.flag("include_team_keys"), request.flag("include_created_by_keys")
    return {
        "keys": [key_entry(key) if is_full else key.id for key in shown],
        "total_count": len(keys),
        "current_page": page,
        "total_pages": pages,
    }


def _filter(request: AdminRequest) -> Callable[[KeyInfo], bool]:
    """Return what a listed key must fulfil."""
    query, now = request.query, datetime.now(UTC)
    status = request.choice("status", _STATES)
    expires = request.choice("expires", ("active", "expired"))
    alias, part = query.get("key_alias"), request.flag("substring_matching")
    search, key_id = query.get("search"), query.get("key_hash")

    def keeps(key: KeyInfo) -> bool:
        own = key.alias or ""
        is_over = key.expires is not None and key.expires <= now
        return not (
            any(name in query for name in _OF_NOBODY)
            or (status is not None and key_status(key, now) != status)
            or (expires is not None and is_over != (expires == "expired"))
            or (key_id is not None and key_id not in {key.id, key.digest.hex()})
            or (alias is not None and not (alias.lower() in own.lower() if part else alias == own))
            or (search is not None and search != key.id and search.lower() not in own.lower())
        )

    return keeps
