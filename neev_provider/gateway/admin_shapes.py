"""Keys and teams as LiteLLM tells them; never a secret. Pure functions. Called by the admin routes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from neev_provider.admission.rules import NANOS

if TYPE_CHECKING:
    from neev_provider.admission import Principal
    from neev_provider.admission.records import KeyInfo, TeamInfo

__all__ = ["configured_key_entry", "key_entry", "key_status", "team_entry", "usd_of"]


def usd_of(nanos: int | None) -> float | None:
    """Return USD as LiteLLM tells them; the exact nano-USD stand beside them."""
    return None if nanos is None else nanos / NANOS


def _time(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _entry(info: TeamInfo) -> dict[str, Any]:
    return {
        "models": list(info.models or ()),
        "rpm_limit": info.rpm_limit,
        "tpm_limit": info.tpm_limit,
        "max_parallel_requests": info.max_parallel_requests,
        "max_budget": usd_of(info.max_budget_nanos),
        "max_budget_nanos": info.max_budget_nanos,
        "budget_duration": info.budget_duration,
        "budget_reset_at": _time(info.budget_reset_at),
        "spend": usd_of(info.spend_nanos),
        "spend_nanos": info.spend_nanos,
        "held_nanos": info.held_nanos,
        "in_flight": info.in_flight,
        "blocked": info.blocked,
        "metadata": dict(info.metadata),
        "organization_id": None,
        "created_at": _time(info.created_at),
        "updated_at": _time(info.updated_at),
    }


def key_status(key: KeyInfo, now: datetime) -> str:
    """Return `revoked` (LiteLLM's word for blocked), `expired` or `active`."""
    if key.blocked:
        return "revoked"
    return "expired" if key.expires is not None and key.expires <= now else "active"


def key_entry(key: KeyInfo) -> dict[str, Any]:
    """Return a key as LiteLLM tells it; never its secret."""
    return {
        "token": key.id,
        "token_id": key.id,
        "key_name": _masked(key.id),
        "key_alias": key.alias,
        "team_id": key.team_id,
        "user_id": None,
        **_entry(key),
        "expires": _time(key.expires),
        "old_secret_until": _time(key.old_secret_until),
        "status": key_status(key, datetime.now(UTC)),
        "aliases": {},
        "config": {},
        "permissions": {},
    }


def configured_key_entry(principal: Principal) -> dict[str, Any]:
    """Return a key of the configuration, which has no limits and no account."""
    return {
        "token": principal.key_id,
        "token_id": principal.key_id,
        "key_name": None,
        "key_alias": principal.alias,
        "team_id": None,
        "user_id": None,
        "models": sorted(principal.models or ()),
        "max_budget": None,
        "spend": None,
        "blocked": False,
        "expires": None,
        "status": "active",
    }


def team_entry(team: TeamInfo) -> dict[str, Any]:
    """Return a team as LiteLLM tells it."""
    return {
        "team_id": team.id,
        "team_alias": team.alias,
        **_entry(team),
        "admins": [],
        "members": [],
        "members_with_roles": [],
    }


def _masked(key_id: str) -> str:
    return f"sk-neev-{key_id}...."
