"""The shapes of what the gateway answers, as the document tells them. Nothing is decoded or encoded by them.

NeevAI's own answers pass through unchanged, so only what clients rely on stands here; more may come. Called by
`document.py` and `admin.py`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

__all__ = [
    "ChatCompletion",
    "ChatCompletionChunk",
    "Health",
    "Key",
    "KeyAnswer",
    "KeyInfo",
    "KeyInfos",
    "KeyPage",
    "KeyUpdated",
    "KeysDeleted",
    "ModelEntry",
    "ModelList",
    "NewKeyAnswer",
    "SpendDaily",
    "SpendLog",
    "Team",
    "TeamInfo",
    "TeamPage",
    "TeamUpdated",
    "TeamWithKeys",
    "TeamsDeleted",
]

_Usd = Annotated[float, Meta(ge=0, description="USD; the exact amount stands beside it in nano-USD")]
_Nanos = Annotated[int, Meta(description="nano-USD, 10^-9 USD, exact")]
_Count = Annotated[int, Meta(ge=0)]
_Time = Annotated[str, Meta(description="a time as 2026-01-31T12:00:00.000Z")]


class Usage(Struct):
    """Tokens, as the model provider counted them."""

    prompt_tokens: _Count
    completion_tokens: _Count
    total_tokens: _Count


class Choice(Struct):
    """One completion."""

    index: _Count
    message: dict[str, Any]
    finish_reason: str | None = None


class ChatCompletion(Struct):
    """OpenAI's chat completion, as NeevAI gave it; `model` is the name that was asked for."""

    id: str
    object: str
    model: str
    choices: list[Choice]
    created: int | None = None
    usage: Usage | None = None


class ChunkChoice(Struct):
    """A part of one completion."""

    index: _Count
    delta: dict[str, Any]
    finish_reason: str | None = None


class ChatCompletionChunk(Struct):
    """The data of one event of a stream. The last event is `data: [DONE]`; one with `error` ends a failed stream."""

    id: str
    object: str
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None


class ModelEntry(Struct):
    """A model that this key may call. Of another provider's model only the first four are known."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    modality: str | None = None
    context_window: int | None = None
    pricing: dict[str, float] | None = None


class ModelList(Struct):
    """All models that this key may call."""

    object: Literal["list"]
    data: list[ModelEntry]


class Health(Struct):
    """Whether requests should be sent here."""

    status: Literal["ok", "starting", "draining"]
    litellm: Literal["ok", "down", "starting"] | None = None


class _Limits(Struct, kw_only=True):
    models: list[str]
    rpm_limit: int | None
    tpm_limit: int | None
    max_parallel_requests: int | None
    max_budget: _Usd | None
    max_budget_nanos: _Nanos | None
    budget_duration: str | None
    budget_reset_at: _Time | None
    spend: _Usd
    spend_nanos: _Nanos
    held_nanos: _Nanos
    in_flight: _Count
    blocked: bool
    metadata: dict[str, Any]
    created_at: _Time | None
    updated_at: _Time | None


class Key(_Limits, kw_only=True):
    """A key; never its secret. `token` is its public id."""

    token: str
    token_id: str
    key_name: str
    key_alias: str | None
    team_id: str | None
    expires: _Time | None
    old_secret_until: _Time | None
    status: Literal["active", "expired", "revoked"]


class NewKeyAnswer(Key, kw_only=True):
    """A key and, this once, its token in `key`."""

    key: Annotated[str, Meta(pattern=r"^sk-neev-")]


class KeyUpdated(Key, kw_only=True):
    """A key after a change; `key` is its id."""

    key: str


class KeyAnswer(Struct, kw_only=True):
    """What is known of a key; one of the configuration has no limits and no account."""

    token: str
    status: Literal["active", "expired", "revoked"]
    key_alias: str | None
    blocked: bool


class KeyInfo(Struct):
    """A key by its id."""

    key: str
    info: KeyAnswer


class KeyInfos(Struct):
    """Several keys by their ids."""

    key: list[str]
    info: list[Key]


class KeyPage(Struct):
    """A page of ids, or of keys if `return_full_object` says so."""

    keys: list[str | Key]
    total_count: _Count
    current_page: int
    total_pages: _Count


class KeysDeleted(Struct):
    """Ids and aliases of what was revoked."""

    deleted_keys: list[str]


class Team(_Limits, kw_only=True):
    """A team."""

    team_id: str
    team_alias: str | None


class TeamUpdated(Struct):
    """A team after a change."""

    team_id: str
    data: Team


class TeamWithKeys(Team, kw_only=True):
    """A team and its keys."""

    keys: list[Key]


class TeamInfo(Struct):
    """A team by its id, and its keys."""

    team_id: str
    team_info: Team
    keys: list[Key]


class TeamPage(Struct):
    """A page of teams."""

    teams: list[Team]
    total: _Count
    page: int
    page_size: int
    total_pages: _Count


class TeamsDeleted(Struct):
    """Ids of what was removed."""

    deleted_teams: list[str]


class SpendLog(Struct):
    """What one day did cost; beside it each key's part, by its id."""

    startTime: Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\d$")]  # noqa: N815 - LiteLLM's word
    spend: _Usd
    spend_nanos: _Nanos
    models: dict[str, float]


class SpendSum(Struct, kw_only=True):
    """What a key, team, model or day did use."""

    requests: _Count
    prompt_tokens: _Count
    completion_tokens: _Count
    characters: _Count
    estimated_requests: _Count
    spend: _Usd
    spend_nanos: _Nanos


class SpendDaily(Struct):
    """Spend between two days, both included."""

    by: Literal["key", "team", "model", "day"]
    start_date: str
    end_date: str
    rows: list[SpendSum]
    total: SpendSum
