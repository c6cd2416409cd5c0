"""Keys and teams: what can be set, who is let in, and what is left of it in the audit."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from neev_provider.admission import Demand, Principal, Spent
from neev_provider.admission.declared import apply_plan, make_plan, read_declaration
from neev_provider.admission.rules import AdmissionSettings, period_of
from neev_provider.admission.scripts import RECORD
from neev_provider.admission.static import StaticKeys
from neev_provider.admission.tokens import new_key_id, new_token
from neev_provider.admission.virtual import VirtualKeys
from neev_provider.errors import ConfigError, RequestError, ServerError
from tests.admission.conftest import NOON

ONE = Demand("m", 10, 10, output_cap=100, prompt_nanos=100, completion_nanos=300)
EVERYTHING = {
    "alias": "chat bot",
    "models": ["m", "n"],
    "rpm_limit": 5,
    "tpm_limit": 1000,
    "max_parallel_requests": 2,
    "max_budget": "12.345678901",
    "budget_duration": "30d",
    "expires": "2036-12-01T00:00:00+00:00",
    "blocked": False,
    "metadata": {"owner": "ü", "n": 1},
}


async def refused(call):
    with pytest.raises(RequestError) as error:
        await call
    return error.value


class TestAToken:
    async def test_is_shown_once_and_kept_as_a_hash(self, keys, valkey):
        made = await keys.create_key({"alias": "a"}, by="test")
        await keys.rotate_key(made.key.id, grace_seconds=60, by="test")
        secret = made.token.rpartition(".")[2].encode()
        client = valkey.client()
        for name in client.scan_iter():
            assert secret not in client.dump(name)
        assert made.token not in repr(made)

    async def test_of_a_team_begins_with_the_teams_id(self, keys):
        await keys.create_team(team_id="red-team", by="test")
        made = await keys.create_key(team="red-team", by="test")
        assert made.token.startswith("sk-neev-red-team_")

    @pytest.mark.parametrize("change", ["secret", "id", "form", "other key"])
    async def test_that_is_wrong_in_any_way_gets_one_and_the_same_answer(self, keys, access, change):
        made, other = [await keys.create_key(by="test") for _ in range(2)]
        head, _, secret = made.token.rpartition(".")
        token = {
            "secret": f"{head}.{'A' * 43}",
            "id": f"sk-neev-k{'a' * 13}.{secret}",
            "form": made.token[:-1],
            "other key": f"sk-neev-{other.key.id}.{secret}",
        }[change]
        for call in (access.authenticate(token), access.admit(token, ONE)):
            error = await refused(call)
            assert (error.status, error.code, error.message) == (
                401,
                "invalid_api_key",
                "The API key is not known here.",
            )

    async def test_without_the_form_of_one_asks_no_store(self, access, valkey):
        before = valkey.client().info("stats")["total_commands_processed"]
        for token in ("sk-neev-x.y", "sk-neev-{x}." + "a" * 43, "", "é" * 50, "sk-neev-" + "a" * 90_000):
            with pytest.raises(RequestError):
                access.check_form(token)
            await refused(access.admit(token, ONE))
        assert (await refused(access.admit(None, ONE))).message.startswith("No API key given.")
        assert valkey.client().info("stats")["total_commands_processed"] - before == 1


class TestTheRecord:
    async def test_keeps_what_was_set(self, keys):
        key = (await keys.create_key(EVERYTHING, by="test")).key
        assert (key.alias, key.models, key.rpm_limit, key.tpm_limit) == ("chat bot", ("m", "n"), 5, 1000)
        assert (key.max_parallel_requests, key.max_budget_nanos, key.budget_duration) == (
            2,
            12_345_678_901,
            "30d",
        )
        assert key.expires == datetime(2036, 12, 1, tzinfo=UTC)
        assert key.metadata == {"owner": "ü", "n": 1}
        assert key.created_at == datetime.fromtimestamp(NOON / 1000, UTC)

    async def test_forgets_what_is_unset(self, keys, access):
        key = (await keys.create_key(EVERYTHING, by="test")).key
        key = await keys.update_key(key.id, dict.fromkeys(EVERYTHING), by="test")
        assert key.attributes() == {}

    @pytest.mark.parametrize(
        ("name", "values"),
        {
            "alias": ["", 1, "a" * 201, "a\nb"],
            "models": ["m", [""], [1], ["a"] * 501],
            "rpm_limit": [0, -1, 1.5, "5", True, 10**13],
            "tpm_limit": [0],
            "max_parallel_requests": [0],
            "max_budget": [-1, "x", 9_000_001, "0.0000000001", True, float("nan"), float("inf"), [], "1e400"],
            "budget_duration": ["30", "1y", "0d", "-1d", 30, "4000d", "121mo", "1.5h"],
            "expires": ["soon", 5, "1mo", "2020-01-01"],
            "blocked": [1, "yes"],
            "metadata": [[], "x", {"a": "b" * 20_000}, {"x": float("nan")}],
            "nonsense": [1],
        }.items(),
    )
    async def test_takes_no_wrong_value(self, keys, name, values):
        for value in values:
            error = await refused(keys.create_key({name: value}, by="test"))
            assert (error.status, error.param) == (400, name), value

    async def test_forgets_a_budget_of_nothing_too(self, keys):
        made = await keys.create_key({"max_budget": 0}, by="test")
        assert (await keys.key(made.key.id)).attributes() == {"max_budget": 0}
        await keys.update_key(made.key.id, {"max_budget": None}, by="test")
        assert (await keys.key(made.key.id)).max_budget_nanos is None

    async def test_of_no_such_key_or_team(self, keys):
        assert (await refused(keys.key("nobody"))).message == "There is no key 'nobody'."
        await refused(keys.update_key("nobody", {"rpm_limit": 1}, by="test"))
        await refused(keys.revoke_key("nobody", by="test"))
        await refused(keys.rotate_key("nobody", by="test"))
        await refused(keys.create_key(team="nobody", by="test"))
        await refused(keys.team("nobody"))
        assert await keys.list_keys() == []

    async def test_an_alias_names_one_key(self, keys):
        first = (await keys.create_key({"alias": "bot"}, by="test")).key
        assert "taken" in (await refused(keys.create_key({"alias": "bot"}, by="test"))).message
        assert (await keys.key_of_alias("bot")).id == first.id
        await keys.update_key(first.id, {"alias": "other"}, by="test")
        second = (await keys.create_key({"alias": "bot"}, by="test")).key
        await keys.revoke_key(second.id, by="test")
        assert (await keys.create_key({"alias": "bot"}, by="test")).key.alias == "bot"

    @pytest.mark.parametrize("change", ["revoke", "rename"])
    async def test_an_alias_that_another_key_took_meanwhile_stays_its(
        self, keys, store, clock, monkeypatch, change
    ):
        old = (await keys.create_key({"alias": "bot"}, by="test")).key
        run, new = store.run, []

        async def run_and_be_overtaken(script, names, words):
            answer = await run(script, names, words)
            if script is RECORD and not new:
                new.append(None)
                clock.moved += 30_000
                new[0] = await keys.create_key({"alias": "bot"}, by="another")
            return answer

        monkeypatch.setattr(store, "run", run_and_be_overtaken)
        if change == "revoke":
            await keys.revoke_key(old.id, by="test")
        else:
            await keys.update_key(old.id, {"alias": "other"}, by="test")
        assert (await keys.find_key("bot")).id == new[0].key.id
        assert "taken" in (await refused(keys.create_key({"alias": "bot"}, by="test"))).message

    @pytest.mark.parametrize("kind", ["key", "renamed key", "team"])
    async def test_an_alias_is_not_taken_over_before_its_record_is_written(
        self, keys, store, monkeypatch, kind
    ):
        async def make():
            if kind == "team":
                return await keys.create_team({"alias": "bot"}, by="test")
            if kind == "key":
                return await keys.create_key({"alias": "bot"}, by="test")
            made = await keys.create_key(by="test")
            return await keys.update_key(made.key.id, {"alias": "bot"}, by="test")

        run, others = store.run, []

        async def run_after_another(script, names, words):
            if script is RECORD and "bot" in words and not others:
                others.append(None)
                others[0] = await refused(make())
            return await run(script, names, words)

        monkeypatch.setattr(store, "run", run_after_another)
        await make()
        assert others[0].message == (
            f"The alias 'bot' is just being taken by another {kind.split()[-1]}; if that fails, it is free soon."
        )

    async def test_a_record_comes_too_late_for_an_alias_that_may_be_another_s(
        self, keys, store, clock, monkeypatch
    ):
        run, overtaken = store.run, []

        async def run_late(script, names, words):
            if script is RECORD and not overtaken:
                overtaken.append(None)
                clock.moved += 30_000
                overtaken[0] = (await keys.create_key({"alias": "bot"}, by="another")).key
                words = (words[0], clock.moved, *words[2:])
            return await run(script, names, words)

        monkeypatch.setattr(store, "run", run_late)
        with pytest.raises(ServerError, match="Try again"):
            await keys.create_key({"alias": "bot"}, by="test")
        assert [key.id for key in await keys.list_keys()] == [overtaken[0].id]
        assert (await keys.find_key("bot")).id == overtaken[0].id

    async def test_a_claim_without_a_record_gives_way(self, keys, store, clock, monkeypatch):
        async def crash(*_, **__):
            raise ConnectionError

        with monkeypatch.context() as broken, pytest.raises(ConnectionError):
            broken.setattr(keys._subjects, "write", crash)
            await keys.create_key({"alias": "bot"}, by="test")
        await refused(keys.create_key({"alias": "bot"}, by="test"))
        clock.moved += 30_000
        made = await keys.create_key({"alias": "bot"}, by="test")
        assert (await keys.find_key("bot")).id == made.key.id

    async def test_a_key_that_exists_already_keeps_its_alias(self, keys):
        made = await keys.create_key({"alias": "bot"}, by="test")
        await refused(keys.create_key({"alias": "bot"}, token=made.token, by="test"))
        await refused(keys.create_key({"alias": "new"}, token=made.token, by="test"))
        assert (await keys.find_key("bot")).id == made.key.id
        await keys.create_key({"alias": "new"}, by="test")

    @pytest.mark.parametrize("when", ["before it is retired", "while it is retired"])
    @pytest.mark.parametrize("who", ["team", "key"])
    async def test_what_is_made_anew_while_it_is_deleted_is_listed(self, keys, monkeypatch, who, when):
        token = new_token(new_key_id(None))

        async def make():
            if who == "team":
                return await keys.create_team(team_id="again", by="test")
            return (await keys.create_key(token=token, by="test")).key

        async def make_and_retire(tag):
            monkeypatch.undo()
            await make()
            await keys._index.retire_owner(tag)

        async def list_and_retire(tag):
            monkeypatch.undo()
            await keys._index.add_owner(tag)
            await keys._retire(tag)

        made = await make()
        if when == "before it is retired":
            monkeypatch.setattr(keys._index, "retire_owner", make_and_retire)
        await (keys.delete_team if who == "team" else keys.revoke_key)(made.id, by="test")
        if when == "while it is retired":
            monkeypatch.setattr(keys._index, "add_owner", list_and_retire)
            await make()
        listed = await (keys.list_teams if who == "team" else keys.list_keys)()
        assert [info.id for info in listed] == [made.id]

    async def test_a_team_with_keys_is_not_deleted_by_accident(self, keys, access):
        await keys.create_team(team_id="t", by="test")
        token = (await keys.create_key(team="t", by="test")).token
        assert "has keys" in (await refused(keys.delete_team("t", by="test"))).message
        await keys.delete_team("t", with_keys=True, by="test")
        await refused(access.admit(token, ONE))
        assert await keys.list_teams() == await keys.list_keys() == []

    async def test_300_keys_are_listed(self, keys):
        await asyncio.gather(*(keys.create_key(by="test") for _ in range(300)))
        assert len({key.id for key in await keys.list_keys()}) == 300


class TestWhoIsLetIn:
    async def test_changes_count_with_the_next_request(self, keys, access):
        made = await keys.create_key(by="test")
        await access.admit(made.token, ONE)
        await keys.block_key(made.key.id, by="test")
        assert (await refused(access.admit(made.token, ONE))).code == "key_blocked"
        await keys.unblock_key(made.key.id, by="test")
        await keys.update_key(made.key.id, {"models": ["other"]}, by="test")
        assert (await refused(access.admit(made.token, ONE))).code == "model_not_allowed"
        await keys.update_key(made.key.id, {"models": None}, by="test")
        await access.admit(made.token, ONE)
        await keys.revoke_key(made.key.id, by="test")
        assert (await refused(access.admit(made.token, ONE))).code == "invalid_api_key"

    async def test_an_expired_key_is_not(self, keys, access, clock):
        made = await keys.create_key({"expires": "10s"}, by="test")
        clock.moved += 9_999
        await access.admit(made.token, ONE)
        clock.moved += 1
        assert (await refused(access.admit(made.token, ONE))).code == "expired_api_key"

    async def test_both_secrets_are_good_until_the_grace_is_over(self, keys, access, clock):
        made = await keys.create_key(by="test")
        new = await keys.rotate_key(made.key.id, grace_seconds=60, by="test")
        await access.admit(made.token, ONE)
        clock.moved += 60_000
        await refused(access.admit(made.token, ONE))
        await access.admit(new.token, ONE)

    async def test_each_old_secret_is_good_for_its_own_grace(self, keys, access, clock):
        made = await keys.create_key(by="test")
        tokens = [made.token]
        for grace in (60, 30, 10):
            tokens.append((await keys.rotate_key(made.key.id, grace_seconds=grace, by="test")).token)
        start = clock.moved
        assert (await keys.key(made.key.id)).old_secret_until.timestamp() * 1000 == start + 60_000
        for seconds, good in ((9.999, 4), (10, 3), (30, 2), (60, 1)):
            clock.moved = start + seconds * 1000
            ends = [*sorted([60, 30, 10])]
            expected = [tokens[0]] * (seconds < ends[2]) + [tokens[1]] * (seconds < ends[1])
            expected += [tokens[2]] * (seconds < ends[0]) + [tokens[3]]
            assert len(expected) == good
            for token in tokens:
                if token in expected:
                    await access.admit(token, ONE)
                else:
                    await refused(access.admit(token, ONE))

    async def test_a_rotation_without_a_grace_ends_all_old_secrets(self, keys, access):
        made = await keys.create_key(by="test")
        tokens = [made.token]
        for grace in (60, 60, 0):
            tokens.append((await keys.rotate_key(made.key.id, grace_seconds=grace, by="test")).token)
        for token in tokens[:-1]:
            assert (await refused(access.admit(token, ONE))).code == "invalid_api_key"
        await access.admit(tokens[-1], ONE)
        assert (await keys.key(made.key.id)).old_secret_until is None

    async def test_eight_old_secrets_are_good_at_most(self, keys, access, clock):
        made = await keys.create_key(by="test")
        for _ in range(8):
            await keys.rotate_key(made.key.id, grace_seconds=60, by="test")
        why = await refused(keys.rotate_key(made.key.id, grace_seconds=60, by="test"))
        assert (why.status, why.param) == (400, "grace")
        await access.admit(made.token, ONE)
        clock.moved += 60_000
        await keys.rotate_key(made.key.id, grace_seconds=60, by="test")

    async def test_models_of_key_and_team_must_both_allow(self, keys, access):
        await keys.create_team({"models": ["m", "n"]}, team_id="t", by="test")
        token = (await keys.create_key({"models": ["n", "o"]}, team="t", by="test")).token
        principal = await access.authenticate(token)
        assert principal == Principal(principal.key_id, frozenset({"n"}), None, "t", is_limited=True)
        assert "team may not call 'o'" in (await refused(access.admit(token, Demand("o")))).message
        assert "key may not call 'm'" in (await refused(access.admit(token, ONE))).message

    async def test_the_master_key_calls_models_only_if_the_operator_says_so(self, store, clock):
        for may, expected in ((False, 403), (True, None)):
            settings = AdmissionSettings(clock=clock, master_may_call_models=may)
            access = VirtualKeys(store, settings, master_key="sk-master")
            assert await access.authenticate("sk-master") == Principal("master")
            if expected:
                assert (await refused(access.admit("sk-master", ONE))).status == expected
            else:
                (await access.admit("sk-master", ONE)).settle(Spent())

    async def test_keys_of_the_configuration_are_too(self, store):
        access = VirtualKeys(store, configured=StaticKeys({"sk-static": Principal("s")}))
        access.check_form("sk-static")
        assert (await access.admit("sk-static", ONE)).principal.key_id == "s"
        await refused(access.admit("sk-other", ONE))


async def test_every_change_is_in_the_audit_and_no_secret(keys):
    made = await keys.create_key({"alias": "a"}, by="anna")
    await keys.update_key(made.key.id, {"rpm_limit": 5}, by="bert")
    await keys.update_key(made.key.id, {"rpm_limit": 5}, by="nobody: it is so already")
    await keys.block_key(made.key.id, by="bert")
    new = await keys.rotate_key(made.key.id, by="carl")
    await keys.revoke_key(made.key.id, by="dora")
    entries = await keys.audit()
    assert sorted((entry.by, entry.action) for entry in entries) == [
        ("anna", "create"),
        ("bert", "block"),
        ("bert", "update"),
        ("carl", "rotate"),
        ("dora", "revoke"),
    ]
    assert {entry.id for entry in entries} == {made.key.id}
    assert not any(token in repr(entries) for token in (made.token, new.token))


async def carry_out(keys, plan):
    return [new async for new in apply_plan(keys, plan, by="test")]


class TestADeclaration:
    FILE = {
        "teams": [{"id": "red", "max_budget": 100, "budget_duration": "1mo"}],
        "keys": [
            {"alias": "bot", "team": "red", "rpm_limit": 60},
            {"alias": "ci", "models": ["m"], "expires": "90d"},
        ],
    }

    async def test_is_done_once(self, keys):
        declared = read_declaration(self.FILE, "keys.yaml")
        plan = await make_plan(keys, declared)
        assert [(step.action, step.kind, step.name) for step in plan] == [
            ("create", "team", "red"),
            ("create", "key", "bot"),
            ("create", "key", "ci"),
        ]
        made = [new async for new in apply_plan(keys, plan, by="test")]
        assert [new.key.alias for new in made] == ["bot", "ci"]
        assert await make_plan(keys, declared, prune=True) == []

    async def test_changes_what_differs_and_prunes_if_told_to(self, keys):
        await carry_out(keys, await make_plan(keys, read_declaration(self.FILE, "f")))
        wanted = {"teams": self.FILE["teams"], "keys": [{"alias": "bot", "team": "red", "tpm_limit": 9}]}
        declared = read_declaration(wanted, "f")
        (update,) = await make_plan(keys, declared)
        assert update.attributes == {"rpm_limit": None, "tpm_limit": 9}
        plan = await make_plan(keys, declared, prune=True)
        assert [(step.action, step.name) for step in plan] == [("update", "bot"), ("revoke", "ci")]
        await carry_out(keys, plan)
        assert [key.alias for key in await keys.list_keys()] == ["bot"]

    async def test_prunes_no_team_whose_key_is_declared(self, keys):
        await keys.create_team({"rpm_limit": 5}, team_id="red", by="somebody")
        await keys.create_team(team_id="blue", by="somebody")
        declared = read_declaration({"keys": [{"alias": "bot", "team": "red"}]}, "f")
        plan = await make_plan(keys, declared, prune=True)
        assert [(step.action, step.name) for step in plan] == [("create", "bot"), ("revoke", "blue")]
        await carry_out(keys, plan)
        assert [key.alias for key in await keys.list_keys()] == ["bot"]
        assert [(team.id, team.rpm_limit) for team in await keys.list_teams()] == [("red", 5)]

    @pytest.mark.parametrize(
        ("document", "place"),
        [
            ({"keys": [{"rpm_limit": 1}]}, "keys[0]: has no alias"),
            ({"keys": [{"alias": "a"}, {"alias": "a"}]}, "keys[1]: 'a' stands twice"),
            ({"teams": [{"id": "t", "rpm_limit": 0}]}, "teams[0].rpm_limit: 'rpm_limit' must be"),
            ({"keyz": []}, "keyz"),
            ([], "must be a mapping, not a list"),
        ],
    )
    def test_that_is_wrong_says_where(self, document, place):
        with pytest.raises(ConfigError) as error:
            read_declaration(document, "keys.yaml")
        assert str(error.value).startswith("keys.yaml: ")
        assert place in str(error.value)


def test_durations_are_litellms_words():
    words = {
        "30s": "30000",
        "15m": "900000",
        "24h": "86400000",
        "30d": "2592000000",
        "2w": "1209600000",
        "1mo": "1mo",
    }
    assert {word: period_of(word) for word in words} == words
