"""`neev-gateway keys`, `teams` and `audit`: what they change holds for the next call, what they print can be read."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta

import pytest


class TestATable:
    def test_has_a_row_a_line_for_other_programs(self, neev, monkeypatch):
        monkeypatch.delenv("COLUMNS")
        models = [word for number in range(9) for word in ("--model", f"a-model-with-a-long-name-{number}")]
        neev("keys", "create", "--alias", "alice-in-a-team-with-a-long-name", *models, "--metadata", "{}")
        for words in (("keys", "list"), ("audit",)):
            _, *rows = neev(*words).out.splitlines()
            assert len(rows) == 1, rows
            assert "alice-in-a-team-with-a-long-name" in rows[0]

    def test_shows_changes_as_they_are_written(self, neev):
        neev("keys", "create", "--model", "big", "--metadata", '{"of": "R & D"}')
        assert 'models=["big"], metadata={"of": "R & D"}' in neev("audit").out


class TestAKey:
    def test_is_made_and_its_token_shown_this_once(self, neev, calls, valkey):
        made = neev(
            "keys",
            "create",
            "--alias",
            "alice",
            "--rpm",
            "60",
            "--budget",
            "12.5",
            "--budget-duration",
            "30d",
        )
        assert made.code == 0
        assert "$12.50" in made.out
        assert calls.refusal(made.token) is None
        secret = made.token.partition(".")[2]
        for words in (
            ("keys", "list"),
            ("keys", "info", "alice"),
            ("keys", "list", "--json"),
            ("audit", "--json"),
        ):
            assert "alice" in (shown := neev(*words).out)
            assert secret not in shown
        assert secret.encode() not in b"".join(
            str(valkey.client().hgetall(name)).encode() for name in valkey.client().keys("*key:*")
        )

    def test_is_json_for_scripts(self, neev):
        made = neev("keys", "create", "--model", "a", "-m", "b", "--budget", "0.000000001", "--json").json
        assert made["token"].startswith(f"sk-neev-{made['id']}.")
        assert made["models"] == ["a", "b"]
        assert made["max_budget_nanos"] == 1
        (listed,) = neev("keys", "list", "--json").json
        assert listed == {name: value for name, value in made.items() if name != "token"}

    def test_is_the_token_alone_if_nothing_else_is_wanted(self, neev, calls):
        token = neev("keys", "create", "-q").out.strip()
        assert calls.refusal(token) is None
        assert calls.refusal(neev("keys", "rotate", token, "-q").out.strip()) is None
        assert calls.refusal(token) == "invalid_api_key"

    def test_goes_by_its_id_its_alias_and_its_token(self, neev):
        made = neev("keys", "create", "--alias", "alice", "--json").json
        for word in (made["id"], "alice", made["token"]):
            assert neev("keys", "info", word, "--json").json["id"] == made["id"]

    @pytest.mark.parametrize("alias", ["[red]alice[/red]", "a[/b]"])
    def test_shows_its_alias_as_it_is(self, neev, alias):
        for words in (("create", "--alias", alias), ("info", alias), ("list",)):
            done = neev("keys", *words)
            assert (done.code, done.err) == (0, "")
            assert alias in done.out

    def test_of_a_team_goes_by_the_teams_alias_too(self, neev):
        neev("teams", "create", "research", "--alias", "R & D")
        made = neev("keys", "create", "--team", "R & D", "--json").json
        assert made["team"] == "research"
        neev("keys", "create", "--alias", "other")
        assert [key["id"] for key in neev("keys", "list", "--team", "research", "--json").json] == [
            made["id"]
        ]

    def test_is_changed_in_what_is_given_alone(self, neev):
        neev("keys", "create", "--alias", "alice", "--rpm", "60", "--tpm", "1000", "--metadata", '{"a": 1}')
        changed = neev("keys", "update", "alice", "--rpm", "70", "--unset", "tpm_limit", "--json").json
        assert (changed["rpm_limit"], changed["tpm_limit"], changed["metadata"]) == (70, None, {"a": 1})

    def test_is_blocked_and_let_in_again(self, neev, calls):
        token = neev("keys", "create", "--alias", "alice", "-q").out.strip()
        assert neev("keys", "block", "alice").code == 0
        assert calls.refusal(token) == "key_blocked"
        assert "blocked" in neev("keys", "list").out
        assert neev("keys", "unblock", "alice").code == 0
        assert calls.refusal(token) is None

    def test_keeps_its_old_secret_for_a_grace(self, neev, calls):
        token = neev("keys", "create", "--alias", "alice", "-q").out.strip()
        new = neev("keys", "rotate", "alice", "--grace", "1h").token
        assert calls.refusal(token) is None
        assert calls.refusal(new) is None
        assert "old secret until" in neev("keys", "info", "alice").out

    def test_is_revoked_for_good(self, neev, calls):
        tokens = [neev("keys", "create", "--alias", alias, "-q").out.strip() for alias in ("a", "b", "c")]
        assert neev("keys", "revoke", "a", "b", "--yes").code == 0
        assert [calls.refusal(token) for token in tokens] == ["invalid_api_key", "invalid_api_key", None]
        assert neev("keys", "info", "a").code == 1

    def test_is_not_revoked_if_one_of_them_is_not_there(self, neev, calls):
        token = neev("keys", "create", "--alias", "a", "-q").out.strip()
        done = neev("keys", "revoke", "a", "nobody", "--yes")
        assert (done.code, done.err) == (1, "error: There is no key 'nobody'.\n")
        assert calls.refusal(token) is None

    def test_that_may_call_a_model_which_is_not_served_is_made_with_a_warning(self, neev, tmp_path):
        (tmp_path / "proxy_config.yaml").write_text("model_list: [{model_name: there}]")
        done = neev("keys", "create", "-m", "there", "-m", "not-there")
        assert done.code == 0
        assert done.err == "warning: proxy_config.yaml serves no model 'not-there'.\n"

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (["--rpm", "0"], "'--rpm-limit' must be a whole number from 1"),
            (["--budget", "-1"], "'--budget' must be USD from 0"),
            (["--budget", "0.0000000001"], "nine places"),
            (["--rpm", "-1"], "'--rpm-limit' must be a whole number"),
            (["--budget", "5", "--budget-duration", "1 week"], "'--budget-duration' must be a number and"),
            (["--budget", "a lot"], "'--budget' must be USD"),
            (["--budget-duration", "1 month"], "'--budget-duration' must be"),
            (["--expires", "soon"], "'--expires' must be a time"),
            (["--expires", "2020-01-01"], "'--expires' is a time that has passed"),
            (["--metadata", "[]"], "'--metadata' must be a JSON object"),
            (["--metadata", "{"], "'--metadata' is not JSON"),
            (["--alias", ""], "'--alias' must be a text"),
            (["--team", "nowhere"], "There is no team 'nowhere'"),
        ],
    )
    def test_is_not_made_of_a_wrong_value(self, neev, words, says):
        done = neev("keys", "create", *words)
        assert done.code == 1
        assert done.err.startswith("error: ")
        assert says in done.err
        assert neev("keys", "list", "--json").json == []

    def test_an_alias_names_one_key(self, neev):
        neev("keys", "create", "--alias", "alice")
        assert "taken by another key" in neev("keys", "create", "--alias", "alice").err

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (["info", "nobody"], "There is no key 'nobody'."),
            (["update", "nobody", "--rpm", "1"], "There is no key 'nobody'."),
            (["rotate", "nobody", "--grace", "1y"], "'--grace' must be"),
            (["rotate", "nobody", "--grace", "1mo"], "'--grace' must be"),
            (["update", "nobody"], "Nothing to change"),
            (
                ["update", "nobody", "--rpm", "1", "--unset", "rpm_limit"],
                "'--rpm-limit' is both given and in --unset",
            ),
            (["new-token", "--team", "a b"], "the id of a team"),
        ],
    )
    def test_errors_are_one_line(self, neev, words, says):
        done = neev("keys", *words)
        assert done.code == 1
        assert says in done.err
        assert done.err.count("\n") == 1

    def test_a_part_of_a_secret_is_not_shown_in_an_error(self, neev):
        token = neev("keys", "create", "-q").out.strip()
        assert token[:-3] not in neev("keys", "info", token[:-3]).err


class TestATeam:
    def test_limits_all_its_keys(self, neev, calls):
        neev("teams", "create", "research", "--rpm", "1")
        tokens = [neev("keys", "create", "--team", "research", "-q").out.strip() for _ in range(2)]
        assert [calls.refusal(token) for token in tokens] == [None, "rate_limit_exceeded"]

    def test_is_shown_with_its_keys(self, neev):
        neev("teams", "create", "research", "--budget", "5")
        neev("keys", "create", "--team", "research", "--alias", "alice")
        assert "alice" in neev("teams", "info", "research").out
        shown = neev("teams", "info", "research", "--json").json
        assert (shown["max_budget"], [key["alias"] for key in shown["keys"]]) == (5.0, ["alice"])

    def test_is_changed_blocked_and_let_in(self, neev, calls):
        neev("teams", "create", "research")
        token = neev("keys", "create", "--team", "research", "-q").out.strip()
        assert neev("teams", "update", "research", "-m", "other", "--json").json["models"] == ["other"]
        assert calls.refusal(token) == "model_not_allowed"
        neev("teams", "update", "research", "--unset", "models")
        neev("teams", "block", "research")
        assert calls.refusal(token) == "key_blocked"
        neev("teams", "unblock", "research")
        assert calls.refusal(token) is None

    def test_with_keys_is_revoked_only_if_told_so(self, neev, calls):
        neev("teams", "create", "research")
        token = neev("keys", "create", "--team", "research", "-q").out.strip()
        for words in ((), ("--yes",)):  # nobody is asked in vain
            done = neev("teams", "revoke", "research", *words)
            assert (
                done.err == "error: The team 'research' has keys (1); add --with-keys to revoke them too.\n"
            )
            assert done.out == ""
        assert calls.refusal(token) is None
        assert neev("teams", "revoke", "research", "--yes", "--with-keys").code == 0
        assert calls.refusal(token) == "invalid_api_key"
        assert neev("teams", "list", "--json").json == []

    def test_of_a_taken_id_is_not_made_and_the_other_keeps_its_alias(self, neev):
        neev("teams", "create", "research", "--alias", "R & D")
        assert "exists already" in neev("teams", "create", "research", "--alias", "R & D").err
        assert neev("teams", "info", "R & D", "--json").json["id"] == "research"


FILE = """
teams:
  - {id: research, max_budget: 100, budget_duration: 1mo}
keys:
  - {alias: alice, team: research, rpm_limit: 60}
  - {alias: bot}
"""


class TestApply:
    @pytest.fixture
    def file(self, tmp_path):
        path = tmp_path / "keys.yaml"
        path.write_text(FILE)
        return path

    def test_makes_it_so_once(self, neev, calls, file):
        done = neev("keys", "apply", "-f", str(file), "--yes")
        assert done.code == 0
        tokens = [word for word in done.out.split() if word.startswith("sk-neev-")]
        assert [calls.refusal(token) for token in tokens] == [None, None]
        again = neev("keys", "apply", "-f", str(file), "--yes")
        assert again.out == "Nothing to do: all is as declared.\n"

    def test_changes_nothing_on_a_dry_run_or_unasked(self, neev, file):
        dry = neev("keys", "apply", "-f", str(file), "--dry-run", "--json").json
        assert [(step["action"], step["name"]) for step in dry["plan"]] == [
            ("create", "research"),
            ("create", "alice"),
            ("create", "bot"),
        ]
        assert dry["applied"] is False
        unasked = neev("teams", "apply", "-f", str(file))
        assert (unasked.code, unasked.err) == (1, "Nobody to ask: run it again with --yes.\n")
        assert neev("keys", "list", "--json").json == []

    def test_prunes_if_told_to(self, neev, file):
        neev("keys", "create", "--alias", "old")
        assert neev("keys", "apply", "-f", str(file), "--yes").code == 0
        assert len(neev("keys", "list", "--json").json) == 3
        assert "old" in neev("keys", "apply", "-f", str(file), "--yes", "--prune").out
        assert {key["alias"] for key in neev("keys", "list", "--json").json} == {"alice", "bot"}

    def test_takes_tokens_from_the_environment(self, neev, calls, file, monkeypatch):
        token = neev("keys", "new-token", "--team", "research").out.strip()
        file.write_text(FILE + "  - {alias: app, team: research, token: os.environ/APP}\n")
        monkeypatch.setenv("APP", token)
        done = neev("keys", "apply", "-f", str(file), "--yes")
        assert token not in done.out
        assert calls.refusal(token) is None
        assert "Nothing to do" in neev("keys", "apply", "-f", str(file)).out
        other = token[:-1] + ("A" if token[-1] != "A" else "B")
        monkeypatch.setenv("APP", other)
        assert neev("keys", "apply", "-f", str(file), "--yes").code == 0
        assert [calls.refusal(token), calls.refusal(other)] == ["invalid_api_key", None]

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("- {alias: app, token: sk-neev-x}", "keys[0].token: is a secret and must not stand in a file"),
            ("- {alias: app, token: os.environ/NOT_SET}", "the variable NOT_SET is not set"),
            ("- {alias: app, token: os.environ/HOME}", "HOME is not a token for this key"),
            ("- {alias: app, team: t, token: os.environ/OTHER}", "keys new-token --team t"),
            ("- {alias: app, rpm: 1}", "keys[0].rpm: 'rpm' cannot be set"),
            ("- {alias: app, rpm_limit: 0}", "keys[0].rpm_limit"),
            ("- {team: t}", "has no alias"),
        ],
    )
    def test_says_what_is_wrong_in_the_file(self, neev, tmp_path, monkeypatch, text, says):
        monkeypatch.setenv("OTHER", neev("keys", "new-token").out.strip())
        (tmp_path / "keys.yaml").write_text(f"keys:\n  {text}\n")
        done = neev("keys", "apply", "-f", "keys.yaml", "--yes")
        assert done.code == 2
        assert says in done.err
        assert "sk-neev" not in done.err.replace("sk-neev-x", "")

    @pytest.mark.parametrize("words", [(), ("--prune",)])
    def test_finds_a_team_that_is_missing_before_anything_is_done(self, neev, tmp_path, words):
        says = "is declared for the team 'nowhere', which is not there: declare the team too."
        neev("teams", "create", "there")
        (tmp_path / "keys.yaml").write_text("keys: [{alias: a}, {alias: b, team: nowhere}]")
        for way in ("--dry-run", "--yes"):
            done = neev("keys", "apply", "-f", "keys.yaml", way, *words)
            assert (done.code, done.err) == (1, f"error: The key 'b' {says}\n")
        assert neev("keys", "list", "--json").json == []

    def test_shows_the_tokens_that_were_made_when_a_later_step_fails(
        self, neev, calls, tmp_path, monkeypatch
    ):
        monkeypatch.setenv("TAKEN", neev("keys", "create", "--alias", "other", "-q").out.strip())
        (tmp_path / "keys.yaml").write_text("keys: [{alias: a}, {alias: b, token: os.environ/TAKEN}]")
        done = neev("keys", "apply", "-f", "keys.yaml", "--yes")
        assert done.code == 1
        assert "exists already" in done.err
        (token,) = [word for word in done.out.split() if word.startswith("sk-neev-")]
        assert calls.refusal(token) is None

    @pytest.mark.parametrize(
        "text", ["keys: [", "keys: {}", "- 1", "other: []", "keys: [{alias: a}, {alias: a}]"]
    )
    def test_is_not_done_from_a_file_that_is_none(self, neev, tmp_path, text):
        (tmp_path / "keys.yaml").write_text(text)
        done = neev("keys", "apply", "-f", "keys.yaml", "--yes")
        assert done.code == 2
        assert done.err.startswith("error: keys.yaml")
        assert done.err.count("\n") == 1


class TestTheAudit:
    def test_says_who_did_what_and_when(self, neev):
        neev("keys", "create", "--alias", "alice", "--by", "anna")
        neev("keys", "update", "alice", "--rpm", "5", "--by", "bert")
        neev("keys", "revoke", "alice", "--yes", "--by", "cleo")
        entries = neev("audit", "--json").json
        assert [(entry["by"], entry["action"]) for entry in entries] == [
            ("cli:cleo", "revoke"),
            ("cli:bert", "update"),
            ("cli:anna", "create"),
        ]
        assert entries[1]["changes"] == {"rpm_limit": 5}
        assert "rpm_limit=5" in neev("audit").out
        assert len(neev("audit", "--limit", "1", "--json").json) == 1

    def test_names_the_system_user_by_default(self, neev):
        neev("teams", "create", "t")
        (entry,) = neev("audit", "--json").json
        assert entry["by"].startswith("cli:")
        assert len(entry["by"]) > len("cli:")


class TestADeclarationThatMayBeAMistake:
    def test_of_a_model_that_is_not_served_is_applied_with_a_warning(self, neev, tmp_path):
        (tmp_path / "proxy_config.yaml").write_text("model_list: [{model_name: there}]")
        (tmp_path / "keys.yaml").write_text("keys: [{alias: a, models: [there, not-there]}]")
        done = neev("keys", "apply", "-f", "keys.yaml", "--yes")
        assert done.code == 0
        assert done.err == "warning: proxy_config.yaml serves no model 'not-there'.\n"
        assert neev("keys", "apply", "-f", "keys.yaml").err == ""  # there is nothing to do

    def test_of_an_end_that_has_passed_is_refused_before_anything_is_done(self, neev, tmp_path):
        text = "keys: [{alias: a}, {alias: b, expires: '2020-01-01'}]"
        (tmp_path / "keys.yaml").write_text(text)
        done = neev("keys", "apply", "-f", "keys.yaml", "--yes")
        assert done.code == 1
        assert "'expires' is a time that has passed; to end a key now, block or revoke it." in done.err
        assert neev("keys", "list", "--json").json == []

    def test_of_an_end_that_has_come_meanwhile_finds_nothing_to_do(self, neev, tmp_path):
        soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
        (tmp_path / "keys.yaml").write_text(f"keys: [{{alias: a, expires: '{soon}'}}]")
        assert neev("keys", "apply", "-f", "keys.yaml", "--yes").code == 0
        time.sleep(2.1)
        assert "Nothing to do" in neev("keys", "apply", "-f", "keys.yaml").out


class TestTheStore:
    def test_that_does_not_answer_is_one_line(self, neev, monkeypatch):
        monkeypatch.setenv("NEEV_STORE", "redis://:secret@127.0.0.1:1")
        done = neev("keys", "list")
        assert done.code == 2
        assert "does not answer" in done.err
        assert "secret" not in done.err

    def test_none_keeps_no_keys(self, neev):
        assert "keeps no keys" in neev("keys", "list", "--store", "none").err

    def test_is_the_configurations_unless_one_is_named(self, neev, valkey, monkeypatch, tmp_path):
        neev("keys", "create", "--alias", "alice")
        monkeypatch.delenv("NEEV_STORE")
        (tmp_path / "other.yaml").write_text(json.dumps({"neev": {"store": valkey.url}}))
        (key,) = neev("keys", "list", "-c", "other.yaml", "--json").json
        assert key["alias"] == "alice"

    @pytest.mark.parametrize(
        "words",
        [
            "keys list", "keys info x", "teams list", "teams info x", "spend", "audit",
            "keys apply --dry-run -f keys.yaml",
        ],
    )  # fmt: skip
    def test_that_is_not_there_is_said_so_and_not_made_by_who_only_reads(
        self, neev, monkeypatch, tmp_path, words
    ):
        monkeypatch.delenv("NEEV_STORE")
        (tmp_path / "keys.yaml").write_text("keys: [{alias: a}]")
        done = neev(*words.split())
        assert (done.code, done.out) == (2, "")
        assert ".neev: holds no store" in done.err
        assert "Name the gateway's directory with --state, or its Redis with --store." in done.err
        assert not (tmp_path / ".neev").exists()

    def test_is_embedded_and_kept_without_any(self, neev, monkeypatch):
        monkeypatch.delenv("NEEV_STORE")
        neev("keys", "create", "--alias", "alice")
        (key,) = neev("keys", "list", "--json").json
        assert key["alias"] == "alice"
