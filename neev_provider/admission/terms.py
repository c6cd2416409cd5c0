"""The words between the doors and admission: who calls, what a call may cost, what it did cost.

The doors see nothing else of keys, limits and budgets: they ask before upstream is called and settle after. Two
things implement `Access`: keys of the configuration (`static.py`) and virtual keys in Redis.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DEFAULT_OUTPUT_CAP", "Access", "Demand", "FreeGrant", "Grant", "Principal", "Spent"]

DEFAULT_OUTPUT_CAP: Final = 16_384
"""Tokens that a request without a limit may produce, on a model whose own limit is not known."""

_NO_HEADERS: Final[Mapping[bytes, bytes]] = {}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling.

    Attributes:
        key_id: public name of the key, for logs and metrics.
        models: public model names that it may call; None = all.
        alias: the name that a person gave it.
        team: id of its team.
        is_limited: whether limits or a budget may hold for it, as for every virtual key.
    """

    key_id: str
    models: frozenset[str] | None = None
    alias: str | None = None
    team: str | None = None
    is_limited: bool = False

    def may_call(self, model_name: str) -> bool:
        """Tell whether the model is allowed."""
        return self.models is None or model_name in self.models


class Demand(msgspec.Struct, frozen=True, gc=False):
    """What a request asks for, before it is sent: enough to reserve the worst that it can cost.

    Attributes:
        model: the public model name.
        prompt_tokens: estimate.
        max_tokens: the client's own limit; None if it set none.
        output_cap: tokens that the model may produce if the client set no limit; 0 if it produces none (speech).
        choices: how many answers (`n`).
        prompt_nanos: nano-USD per prompt token, the dearest deployment's; None if the model is unpriced.
        completion_nanos: nano-USD per produced token; None if unpriced.
        flat_nanos: nano-USD that are known before, as a speech's characters are.
        characters: of speech.
    """

    model: str
    prompt_tokens: int = 0
    max_tokens: int | None = None
    output_cap: int = 0
    choices: int = 1
    prompt_nanos: int | None = None
    completion_nanos: int | None = None
    flat_nanos: int = 0
    characters: int = 0

    @property
    def priced(self) -> bool:
        """Whether what it costs can be said."""
        return self.prompt_nanos is not None and self.completion_nanos is not None


class Spent(msgspec.Struct, frozen=True, gc=False):
    """What a request did cost.

    Attributes:
        prompt_tokens: tokens read.
        completion_tokens: tokens produced.
        cost_nanos: nano-USD; None if the model is unpriced.
        estimated: whether tokens are our estimate.
        model: upstream's id of the model that answered; empty if none did.
        characters: of speech.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_nanos: int | None = 0
    estimated: bool = False
    model: str = ""
    characters: int = 0


class Grant(Protocol):
    """A request that was let in; settled exactly once, whatever becomes of it."""

    @property
    def principal(self) -> Principal:
        """Who is calling."""

    @property
    def max_tokens(self) -> int | None:
        """The limit to send upstream; None leaves the client's words as they are."""

    @property
    def ticket(self) -> str | None:
        """What lets another process take this request over in place of counting it again; None: it cannot."""

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """What the client is told: OpenAI's `x-ratelimit-*`, and whether `max_tokens` was lowered."""

    def settle(self, spent: Spent) -> None:
        """Charge what the request did cost and give back the rest; returns at once, written behind.

        Args:
            spent: `Spent()` if upstream produced nothing.
        """


class Access(Protocol):
    """Tells who may call, and keeps account."""

    def check_form(self, token: str | None) -> None:
        """Refuse at once what cannot be a key; asks nobody.

        Raises:
            RequestError: 401.
        """

    async def authenticate(self, token: str | None) -> Principal:
        """Return who holds the token; takes nothing from limits.

        Raises:
            RequestError: nobody does: 401.
            ServerError: the store is away: 503.
        """

    async def admit(self, token: str | None, demand: Demand, *, ticket: str | None = None) -> Grant:
        """Let a request in, or say why not; everything it may use is taken, or nothing.

        Args:
            token: the key.
            demand: what the request may cost.
            ticket: of the grant under which another process has this same request, to be taken over: what that
                took is given back first, and its count in `rpm_limit` stands for this one too. What is no ticket
                counts as absent.

        Raises:
            RequestError: the key (401) or the model (403).
            LimitError: a limit or a budget (429).
            ServerError: the store is away: 503.
        """


@dataclass(frozen=True, slots=True)
class FreeGrant:
    """A grant that nothing is charged for."""

    principal: Principal
    max_tokens: int | None = None
    ticket: str | None = None
    headers: Mapping[bytes, bytes] = field(default_factory=lambda: _NO_HEADERS)

    def settle(self, spent: Spent) -> None:
        """Keep no account."""
