"""Virtual keys and teams: made, changed, blocked, rotated and revoked, each change with its line in the audit.

A change is one script at its owner, so it is whole or not at all, and takes effect with the next request in every
process: nothing caches a record. Called by the command line and the admin routes; who may do so is theirs to check.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from neev_provider.admission import tokens
from neev_provider.admission.lookup import Lookup, no_such_key, no_such_team
from neev_provider.admission.records import (
    Change,
    KeyInfo,
    TeamInfo,
    changed_attributes,
    encode_attributes,
    refuse_past,
)
from neev_provider.errors import RequestError, ServerError
from neev_provider.store.node import UnknownOutcomeError, unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from neev_provider.admission.aliases import Claim

__all__ = ["Keys", "NewKey"]

_MAX_GRACE: Final = 30 * 86_400  # seconds
_LOOKS: Final = 8  # whether a secret is in force, after a write that was not answered
_BETWEEN_LOOKS: Final = 0.25  # seconds

_Subject = TypeVar("_Subject", bound=TeamInfo)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key and its token, which is shown this once.

    Attributes:
        key: as it is now.
        token: the secret.
    """

    key: KeyInfo
    token: str = field(repr=False)


class Keys(Lookup):
    """The keys and teams of a store, which change here; read as `Lookup` says.

    Args:
        store: that holds them.
        clock: the scripts'.
    """

    # Keys

    async def create_key(
        self,
        attributes: Mapping[str, Any] | None = None,
        *,
        team: str | None = None,
        token: str | None = None,
        by: str,
    ) -> NewKey:
        """Make a key.

        Args:
            attributes: as `records.ATTRIBUTES` names them.
            team: id of its team.
            token: that it is to have, with an id for this team; a random one by default.
            by: who does it, for the audit.

        Raises:
            RequestError: a wrong attribute, an alias that is taken, or no such team.
            ServerError: the store is away.
        """
        attributes = dict(attributes or {})
        change = encode_attributes(attributes, is_team=False)
        refuse_past(attributes)
        if team is not None and not tokens.is_tag(team):
            raise no_such_team(team)
        token = token or tokens.new_token(tokens.new_key_id(team))
        key_id = tokens.id_of(token) or ""
        if (team or key_id) != tokens.tag_of(key_id):
            raise RequestError("invalid_value", "The token is not one for a key of this team.", param="token")
        fields = {
            "models": "",
            **change.set,
            "secret": tokens.digest_of(token),
            "created": "+0",
            "updated": "+0",
        }
        if team is not None:
            fields["team"] = team
        tag = tokens.tag_of(key_id)
        alias = attributes.get("alias")
        claim = await self._key_aliases.claim(alias, key_id)
        if team is None:
            await self._index.add_owner(tag)
        done, made = await self._write_secret(
            "create", key_id, Change(fields), by=by, noted=attributes, claim=claim
        )
        if not isinstance(made, KeyInfo):
            await self._key_aliases.give_up(alias, claim)
            if done == b"exists":
                raise RequestError("invalid_value", f"The key '{key_id}' exists already.", param="token")
            raise no_such_team(str(team)) if done == b"no_team" else unavailable(1.0)
        if team is None:
            await self._list_again(tag)
        return NewKey(made, token)

    async def update_key(self, key_id: str, attributes: Mapping[str, Any], *, by: str) -> KeyInfo:
        """Change a key; None as a value unsets.

        Raises:
            RequestError: a wrong attribute, an alias that is taken, or no such key.
            ServerError: the store is away.
        """
        refuse_past(attributes)
        return await self._update(await self.key(key_id), attributes, by, "update")

    async def block_key(self, key_id: str, *, by: str) -> None:
        """Refuse all calls of a key from now on."""
        await self._update(await self.key(key_id), {"blocked": True}, by, "block")

    async def unblock_key(self, key_id: str, *, by: str) -> None:
        """Let calls of a key in again."""
        await self._update(await self.key(key_id), {"blocked": False}, by, "unblock")

    async def rotate_key(
        self, key_id: str, *, grace_seconds: float = 0.0, token: str | None = None, by: str
    ) -> NewKey:
        """Give a key a new secret.

        Args:
            key_id: of the key; its id stays.
            grace_seconds: for how long the old secret is good too, and those before it for the rest of their own
                grace; 0 ends them all.
            token: that it is to have, with the key's id; a random one by default.
            by: who does it.

        Raises:
            RequestError: no such key, a grace of more than 30 days, or eight old secrets are good still.
            ServerError: the store is away.
        """
        if not 0 <= grace_seconds <= _MAX_GRACE:
            raise RequestError("invalid_value", "'grace' must be from 0 seconds to 30 days.", param="grace")
        token = token or tokens.new_token(key_id)
        if tokens.id_of(token) != key_id:
            raise RequestError("invalid_value", "The token is not one for this key.", param="token")
        fields: dict[str, str | bytes] = {"secret": tokens.digest_of(token), "updated": "+0"}
        removed: tuple[str, ...] = ("old_secret", "old_until", "older", "olds_until")
        if grace_seconds:
            fields["old_until"] = f"+{round(grace_seconds * 1000)}"
            removed = ()
        noted = {"grace_seconds": grace_seconds}
        done, rotated = await self._write_secret(
            "rotate", key_id, Change(fields, removed), by=by, noted=noted
        )
        if done == b"too_many":
            raise RequestError(
                "invalid_value",
                "Eight old secrets of this key are still good. Wait until the grace of one is over, or rotate "
                "without a grace, which ends them all.",
                param="grace",
            )
        if not isinstance(rotated, KeyInfo):
            raise no_such_key(key_id)
        return NewKey(rotated, token)

    async def revoke_key(self, key_id: str, *, by: str) -> None:
        """Remove a key; its next request is refused in every process. What it spent stays in the reports.

        Raises:
            RequestError: no such key.
            ServerError: the store is away.
        """
        before = await self.key(key_id)
        claim = await self._key_aliases.claim_of(before.alias, key_id)
        tag = tokens.tag_of(key_id)
        done, _ = await self._subjects.write(
            "delete", tag, key_id, Change(), by=by, action="revoke", noted={"alias": before.alias}
        )
        if done != b"ok":
            raise no_such_key(key_id)
        await self._tidy(self._key_aliases.free(before.alias, claim))
        if before.team_id is None:
            await self._tidy(self._retire(tag))

    # Teams

    async def create_team(
        self, attributes: Mapping[str, Any] | None = None, *, team_id: str | None = None, by: str
    ) -> TeamInfo:
        """Make a team.

        Args:
            attributes: as `records.ATTRIBUTES` names them, but `expires`.
            team_id: 1 to 40 letters, digits and hyphens; stands at the beginning of its keys' ids. Random by default.
            by: who does it.

        Raises:
            RequestError: a wrong attribute, or an id or alias that is taken.
            ServerError: the store is away.
        """
        attributes = dict(attributes or {})
        change = encode_attributes(attributes, is_team=True)
        team_id = f"t{secrets.token_hex(6)}" if team_id is None else team_id
        if not tokens.is_tag(team_id):
            raise RequestError(
                "invalid_value", "'team_id' must be 1 to 40 letters, digits and hyphens.", param="team_id"
            )
        fields = {"models": "", **change.set, "id": team_id, "created": "+0", "updated": "+0"}
        alias = attributes.get("alias")
        claim = await self._team_aliases.claim(alias, team_id)
        await self._index.add_owner(team_id)
        done, made = await self._subjects.write(
            "create",
            team_id,
            "",
            Change(fields),
            by=by,
            action="create",
            noted=attributes,
            claim=claim,
        )
        if made is None:
            await self._team_aliases.give_up(alias, claim)
            if done == b"late":
                raise unavailable(1.0)
            raise RequestError("invalid_value", f"The team '{team_id}' exists already.", param="team_id")
        await self._list_again(team_id)
        return made

    async def update_team(self, team_id: str, attributes: Mapping[str, Any], *, by: str) -> TeamInfo:
        """Change a team; None as a value unsets. Errors as `update_key`."""
        return await self._update(await self.team(team_id), attributes, by, "update")

    async def block_team(self, team_id: str, *, by: str) -> None:
        """Refuse all calls of a team's keys from now on."""
        await self._update(await self.team(team_id), {"blocked": True}, by, "block")

    async def unblock_team(self, team_id: str, *, by: str) -> None:
        """Let calls of a team's keys in again."""
        await self._update(await self.team(team_id), {"blocked": False}, by, "unblock")

    async def delete_team(self, team_id: str, *, with_keys: bool = False, by: str) -> None:
        """Remove a team.

        Args:
            team_id: of the team.
            with_keys: revoke its keys first; else a team that has keys is refused.
            by: who does it.

        Raises:
            RequestError: no such team, or it has keys.
            ServerError: the store is away.
        """
        before = await self.team(team_id)
        claim = await self._team_aliases.claim_of(before.alias, team_id)
        if with_keys:
            for key in await self.list_keys(team=team_id):
                await self.revoke_key(key.id, by=by)
        done, _ = await self._subjects.write(
            "delete", team_id, "", Change(), by=by, action="revoke", noted={"alias": before.alias}
        )
        if done == b"has_keys":
            raise RequestError(
                "invalid_value", f"The team '{team_id}' has keys; revoke them first.", param="team_id"
            )
        await self._tidy(self._team_aliases.free(before.alias, claim))
        await self._tidy(self._retire(team_id))

    # Their parts

    async def _write_secret(
        self,
        mode: Literal["create", "rotate"],
        key_id: str,
        change: Change,
        *,
        by: str,
        noted: Mapping[str, Any],
        claim: Claim | None = None,
    ) -> tuple[bytes, TeamInfo | None]:
        """Write a key with a new secret; see `Subjects.write`.

        Raises:
            ServerError: the store is away. Nothing was written, or the message says that this is not known.
        """
        tag = tokens.tag_of(key_id)
        try:
            return await self._subjects.write(
                mode, tag, key_id, change, by=by, action=mode, noted=noted, claim=claim
            )
        except UnknownOutcomeError as error:
            # A secret that is in force and was shown to nobody would lock its holder out: look whether it is.
            for _ in range(_LOOKS):
                try:
                    found = await self.key_of_id(key_id)
                except ServerError:
                    await asyncio.sleep(_BETWEEN_LOOKS)
                    continue
                if found is not None and found.digest == change.set["secret"]:
                    return b"ok", found
                raise error from None
            raise _nobody_knows(mode, key_id) from None

    async def _list_again(self, tag: str) -> None:
        """List an owner after its record is written: whoever deleted one of this id meanwhile may have retired it."""
        await self._tidy(self._index.add_owner(tag))

    async def _tidy(self, work: Awaitable[None]) -> None:
        """Do what follows a change that is done: a store that is away now must not have it told as failed.

        What is left undone names nobody (`aliases.py`, `index.py`).
        """
        with contextlib.suppress(ServerError):
            await work

    async def _update(
        self, before: _Subject, attributes: Mapping[str, Any], by: str, action: str
    ) -> _Subject:
        is_team = not isinstance(before, KeyInfo)
        changed = changed_attributes(before, attributes, is_team=is_team)
        if not changed:
            return before
        alias = changed.get("alias", before.alias)
        aliases = self._team_aliases if is_team else self._key_aliases
        claim = old_claim = None
        if alias != before.alias:
            old_claim = await aliases.claim_of(before.alias, before.id)
            claim = await aliases.claim(alias, before.id)
        change = encode_attributes(changed, is_team=is_team)
        change = Change({**change.set, "updated": "+0"}, change.removed)
        tag = before.id if is_team else tokens.tag_of(before.id)
        done, after = await self._subjects.write(
            "update",
            tag,
            "" if is_team else before.id,
            change,
            by=by,
            action=action,
            noted=changed,
            claim=claim,
        )
        if not isinstance(after, type(before)):
            await aliases.give_up(alias, claim)
            if done == b"late":
                raise unavailable(1.0)
            raise no_such_team(before.id) if is_team else no_such_key(before.id)
        await self._tidy(aliases.free(before.alias, old_claim))
        return after

    async def _retire(self, tag: str) -> None:
        """Keep an owner that is gone for the reports; it may have been made anew meanwhile."""
        await self._index.retire_owner(tag)
        if await self._subjects.describe(tag):
            await self._index.add_owner(tag)


def _nobody_knows(mode: Literal["create", "rotate"], key_id: str) -> ServerError:
    what = {
        "create": "was made. If it is there later, rotate or revoke it: nobody was shown its token",
        "rotate": "has its new secret. Rotate it again: nobody was shown the new one",
    }[mode]
    return ServerError(
        "store_unavailable",
        f"The gateway's store went away before it told whether the key '{key_id}' {what}.",
        retry_after=1.0,
    )
