"""LiteLLM's words for what a key or a team can be given.

A field that LiteLLM knows and this gateway cannot honour is refused if it says something, for a limit that is
silently not kept is worse than none; a field nobody knows is refused too. Pure functions. Called by the admin routes.
"""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from neev_provider.admission.rules import period_of
from neev_provider.errors import RequestError
from neev_provider.gateway.admin_request import read_exact, read_value, unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import msgspec

__all__ = ["KEY_WORDS", "TEAM_WORDS", "Words", "seconds_of"]

_ALL_MODELS: Final = frozenset({"*", "all-team-models", "all-proxy-models"})
_NEVER: Final = "-1"  # LiteLLM's word for a key that does not expire
_MONEY: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,30})?")

_SHARED: Final = {
    "models": "models",
    "rpm_limit": "rpm_limit",
    "tpm_limit": "tpm_limit",
    "max_parallel_requests": "max_parallel_requests",
    "max_budget": "max_budget",
    "budget_duration": "budget_duration",
    "blocked": "blocked",
    "metadata": "metadata",
}
_NOBODY_KEEPS: Final = frozenset(
    {
        *("access_group_ids", "allowed_passthrough_routes", "allowed_vector_store_indexes"),
        *("budget_limits", "default_estimated_output_tokens"),
        *("default_estimated_output_tokens_per_model", "denied_passthrough_routes"),
        *("disable_global_guardrails", "guardrails", "mcp_rpm_limit", "model_max_budget"),
        *("model_rpm_limit", "model_tpm_limit", "object_permission", "organization_id"),
        *("policies", "prompts", "router_settings", "rpm_limit_type", "soft_budget", "tags"),
        *("tpd_limit", "tpm_limit_type"),
    }
)
_NO_KEY_KEEPS: Final = _NOBODY_KEEPS | frozenset(
    {
        *("agent_id", "aliases", "allowed_cache_controls", "allowed_routes", "auto_rotate"),
        *("budget_fallbacks", "budget_id", "config", "enable_prompt_caching"),
        *("end_user_budget_id", "enforced_params", "key", "key_type", "new_key"),
        *("new_master_key", "permissions", "project_id", "rotation_interval"),
        *("send_invite_email", "spend", "tag_rpm_limit", "temp_budget_expiry"),
        *("temp_budget_increase", "throttle_on_budget_exceeded", "user_id"),
    }
)
_NO_TEAM_KEEPS: Final = _NOBODY_KEEPS | frozenset(
    {
        *("admins", "default_team_member_models", "enforced_batch_output_expires_after"),
        *("enforced_file_expires_after", "members", "members_with_roles", "model_aliases"),
        *("secret_manager_settings", "team_member_budget", "team_member_budget_duration"),
        *("team_member_key_duration", "team_member_permissions", "team_member_rpm_limit"),
        *("team_member_tpm_limit",),
    }
)
# What says nothing: an empty value, or what is so anyway.
_EMPTY: Final[tuple[Any, ...]] = (None, "", [], {})
_SO_ANYWAY: Final[Mapping[str, tuple[str, ...]]] = {"key_type": ("default", "llm_api")}


@dataclass(frozen=True, slots=True)
class Words:
    """LiteLLM's fields for one kind of thing.

    Attributes:
        attributes: field to the attribute of `records.ATTRIBUTES`.
        refused: fields that LiteLLM knows and that are not kept here.
    """

    attributes: Mapping[str, str]
    refused: frozenset[str]

    def read(
        self, fields: Mapping[str, msgspec.Raw], own: Iterable[str] = (), *, is_new: bool = False
    ) -> dict[str, Any]:
        """Return the attributes that a request sets; None for one that it unsets.

        Args:
            fields: of the request.
            own: those that the route itself reads.
            is_new: whether what they are for is about to be made: there is nothing to unset then.

        Raises:
            RequestError: a field that is unknown, cannot be honoured, or is wrong.
        """
        found: dict[str, Any] = {}
        for name, raw in fields.items():
            if name in own:
                continue
            if name in self.attributes:
                value = _read(name, raw)
                if value is not None or not is_new:
                    found[self.attributes[name]] = value
            elif name in self.refused:
                if _says_something(name, read_value(raw, name), is_new=is_new):
                    raise _not_honoured(name)
            else:
                raise unknown(name)
        return found

    def translated(self, error: RequestError) -> RequestError:
        """Return an error about an attribute in LiteLLM's words."""
        for name, attribute in self.attributes.items():
            if error.param == attribute != name and error.code == "invalid_value":
                message = error.message.replace(f"'{attribute}'", f"'{name}'", 1)
                return RequestError(error.code, message, param=name)
        return error


KEY_WORDS: Final = Words({"key_alias": "alias", "duration": "expires", **_SHARED}, _NO_KEY_KEEPS)
TEAM_WORDS: Final = Words({"team_alias": "alias", **_SHARED}, _NO_TEAM_KEEPS)


def _read(name: str, raw: msgspec.Raw) -> Any:
    if name == "max_budget":
        value = read_exact(raw)
        if isinstance(value, str) and _MONEY.fullmatch(value) is None:
            raise RequestError("invalid_value", "'max_budget' must be USD as 12.50.", param=name)
        return value
    value = read_value(raw, name)
    if name == "models" and isinstance(value, list):
        # A list that holds such a word allows all, whatever else stands there.
        return None if any(isinstance(model, str) and model in _ALL_MODELS for model in value) else value
    return _read_expiry(value, name) if name == "duration" else value


def _read_expiry(value: Any, name: str) -> Any:
    if value in (None, "", _NEVER):
        return None
    try:
        period = period_of(value if isinstance(value, str) else "")
    except ValueError:
        rule = "must be a number and s, m, h, d, w or mo, as 24h, 30d or 1mo, of at most ten years"
        raise RequestError("invalid_value", f"'{name}' {rule}.", param=name) from None
    # Milliseconds are counted from the store's clock; calendar months from this machine's.
    return value if period.isdigit() else _months_later(datetime.now(UTC), int(period.removesuffix("mo")))


def _months_later(moment: datetime, months: int) -> datetime:
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    return moment.replace(year=year, month=month + 1, day=min(moment.day, monthrange(year, month + 1)[1]))


def seconds_of(duration: str, name: str) -> float:
    """Return the seconds of a duration as `24h`; months are none.

    Raises:
        RequestError: it is no duration.
    """
    try:
        return int(period_of(duration)) / 1000
    except ValueError:
        raise RequestError(
            "invalid_value", f"'{name}' must be a number and s, m, h, d or w, as 24h or 30d.", param=name
        ) from None


def _says_something(name: str, value: Any, *, is_new: bool) -> bool:
    if name == "spend" and is_new and not isinstance(value, bool) and value == 0:
        return False  # as every new key's
    return not (value is False or value in _EMPTY or value in _SO_ANYWAY.get(name, ()))


def _not_honoured(name: str) -> RequestError:
    why = {
        "spend": "What was spent is kept exactly and cannot be set; a limit is 'max_budget'.",
        "key": "Keys are made here, with an id that tells whose they are.",
        "new_key": "Keys are made here, with an id that tells whose they are.",
        "user_id": "There are keys and teams here, no users; 'metadata' can hold who it is.",
    }.get(name, "It would be of no effect here.")
    return RequestError("unsupported_parameter", f"'{name}' cannot be set. {why}", param=name)
