"""`/key/...`: keys made, shown, listed, changed, blocked, given a new secret and revoked over HTTP."""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime, timedelta

import pytest

KEY = {
    "key_alias": "of the search team",
    "models": ["gpt-oss-20b", "house"],
    "rpm_limit": 60,
    "tpm_limit": 60_000,
    "max_parallel_requests": 4,
    "max_budget": 12.5,
    "budget_duration": "30d",
    "metadata": {"cost centre": 17, "share": 0.1},
}


def moment(text: str) -> datetime:
    assert text.endswith("Z")
    return datetime.fromisoformat(text)


class TestAKeyIsMade:
    def test_its_token_calls_a_model_at_once(self, admin, make_key):
        made = make_key()
        assert admin.chat(made["key"]).status_code == 200
        assert made["key"].startswith(f"sk-neev-{made['token']}.")

    def test_all_that_was_given_is_told(self, make_key):
        made = make_key(**KEY)
        assert {name: made[name] for name in KEY} == KEY
        assert (made["spend"], made["spend_nanos"], made["blocked"]) == (0.0, 0, False)
        assert (made["token_id"], made["key_name"]) == (made["token"], f"sk-neev-{made['token']}....")
        assert moment(made["budget_reset_at"]) - moment(made["created_at"]) == timedelta(days=30)

    def test_without_anything_it_may_do_everything(self, admin):
        answer = admin.send("POST", "/key/generate")
        assert answer.status_code == 200
        made = answer.json()
        assert (made["models"], made["max_budget"], made["expires"], made["team_id"]) == (
            [],
            None,
            None,
            None,
        )

    @pytest.mark.parametrize("word", ["*", "all-team-models", "all-proxy-models"])
    def test_litellms_words_for_all_models_mean_all(self, make_key, word):
        assert make_key(models=["house", word])["models"] == []

    def test_a_duration_says_when_it_ends(self, make_key):
        made = make_key(duration="2h")
        assert moment(made["expires"]) - moment(made["created_at"]) == timedelta(hours=2)
        months = moment(make_key(duration="1mo")["expires"]) - datetime.now(UTC)
        assert timedelta(days=27) < months < timedelta(days=32)

    def test_an_expired_key_is_refused(self, admin, make_key):
        made = make_key(duration="1s")
        deadline = time.monotonic() + 10
        while (answer := admin.chat(made["key"])).status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert answer.json()["error"]["code"] == "expired_api_key"

    @pytest.mark.parametrize(
        ("written", "nanos"),
        [
            ("0.1", 100_000_000),
            ("0.300000001", 300_000_001),
            ("1234567.123456789", 1_234_567_123_456_789),
            ('"0.1"', 100_000_000),
            ("1e-9", 1),
            ("2.5E2", 250_000_000_000),
            ("0", 0),
        ],
    )
    def test_money_is_taken_to_the_nano_usd(self, admin, written, nanos):
        body = f'{{"max_budget": {written}}}'
        answer = admin.send("POST", "/key/generate", data=body, headers={"Content-Type": "application/json"})
        assert answer.json()["max_budget_nanos"] == nanos

    def test_what_litellm_knows_and_says_nothing_is_let_pass(self, make_key):
        made = make_key(
            aliases={}, config={}, permissions={}, user_id=None, budget_id="", tags=[], guardrails=None, spend=0,
            key_type="default", send_invite_email=False, auto_rotate=False, max_budget=None, models=None,
        )  # fmt: skip
        assert made["max_budget"] is None


class TestAKeyIsNamed:
    """By its token, its id, or the SHA-256 of its token."""

    @pytest.fixture
    def made(self, make_key):
        return make_key()

    @pytest.fixture(params=["token", "id", "hash"])
    def name(self, request, made):
        digest = hashlib.sha256(made["key"].encode()).hexdigest()
        return {"token": made["key"], "id": made["token"], "hash": digest}[request.param]

    def test_in_info(self, admin, made, name):
        told = admin.get("/key/info", key=name)
        assert told["key"] == told["info"]["token"] == made["token"]

    def test_in_every_change(self, admin, made, name):
        assert admin.post("/key/update", key=name, rpm_limit=7)["rpm_limit"] == 7
        assert admin.post("/key/block", key=name)["blocked"] is True
        assert admin.post("/key/unblock", key=name)["blocked"] is False
        assert admin.post("/key/delete", keys=[name]) == {"deleted_keys": [made["token"]]}

    def test_several_at_once(self, admin, make_key, made, name):
        other = make_key(key_alias="another")
        told = admin.post("/v2/key/info", keys=[name], key_aliases=["another"])
        assert told["key"] == [made["token"], other["token"]]
        assert [info["token"] for info in told["info"]] == told["key"]
        admin.post("/key/delete", key_aliases=["another"])

    def test_no_answer_repeats_its_secret(self, admin, made):
        secret = made["key"].partition(".")[2]
        for method, path, words in (
            ("GET", "/key/info", {"params": {"key": made["key"]}}),
            ("GET", "/key/list", {"params": {"return_full_object": "true", "size": 100}}),
            ("GET", "/spend/keys", {}),
            ("POST", "/key/update", {"json": {"key": made["key"], "rpm_limit": 3}}),
            ("POST", "/key/block", {"json": {"key": made["key"]}}),
            ("POST", "/key/delete", {"json": {"keys": [made["key"]]}}),
            ("POST", "/key/delete", {"json": {"keys": [made["key"]]}}),  # it is not there any more
        ):
            answer = admin.send(method, path, **words)
            assert secret not in answer.text
            assert hashlib.sha256(made["key"].encode()).hexdigest() not in answer.text


class TestAKeyIsChanged:
    def test_only_what_is_given(self, admin, make_key):
        made = make_key(rpm_limit=5, tpm_limit=500, metadata={"a": 1})
        changed = admin.post("/key/update", key=made["token"], rpm_limit=6, max_budget=1.25)
        assert (changed["rpm_limit"], changed["tpm_limit"], changed["max_budget"]) == (6, 500, 1.25)
        assert changed["metadata"] == {"a": 1}

    def test_null_unsets(self, admin, make_key):
        made = make_key(**{**KEY, "key_alias": "to be unset", "duration": "1d"})
        nulls = dict.fromkeys((*KEY, "duration"))
        changed = admin.post("/key/update", **{**nulls, "key": made["token"]})
        unset = (changed[name] for name in ("key_alias", "rpm_limit", "tpm_limit", "max_budget", "expires"))
        assert list(unset) == [None] * 5
        assert (changed["models"], changed["metadata"]) == ([], {})

    def test_litellms_word_for_never_ends_an_expiry(self, admin, make_key):
        made = make_key(duration="1d")
        assert admin.post("/key/update", key=made["token"], duration="-1")["expires"] is None

    def test_it_holds_for_the_next_call(self, admin, make_key):
        made = make_key()
        assert admin.chat(made["key"]).status_code == 200
        admin.post("/key/update", key=made["token"], models=["gpt-oss-20b"])
        assert admin.chat(made["key"]).json()["error"]["code"] == "model_not_allowed"

    def test_a_team_cannot_be_changed(self, admin, make_key):
        team = admin.post("/team/new")["team_id"]
        made = make_key(team_id=team)
        assert admin.post("/key/update", key=made["token"], team_id=team, rpm_limit=3)["rpm_limit"] == 3
        other = admin.post("/team/new")["team_id"]
        for wanted in (other, None):
            body = {"key": made["token"], "team_id": wanted}
            assert admin.refused("POST", "/key/update", json=body) == (
                400,
                "unsupported_parameter",
                "team_id",
            )

    def test_blocking_and_unblocking_hold_for_the_next_call(self, admin, make_key):
        made = make_key()
        admin.post("/key/block", key=made["token"])
        for _ in range(4):
            assert admin.chat(made["key"]).json()["error"]["code"] == "key_blocked"
        admin.post("/key/unblock", key=made["token"])
        assert admin.chat(made["key"]).status_code == 200


class TestAKeyGetsANewSecret:
    @pytest.mark.parametrize("way", ["path", "body"])
    def test_the_old_one_is_refused(self, admin, make_key, way):
        made = make_key(key_alias=f"by {way}")
        if way == "path":
            answer = admin.send("POST", f"/key/{made['key']}/regenerate")
            assert answer.status_code == 200
            anew = answer.json()
        else:
            anew = admin.post("/key/regenerate", key=made["token"])
        assert (anew["token"], anew["key_alias"]) == (made["token"], f"by {way}")
        assert admin.chat(made["key"]).json()["error"]["code"] == "invalid_api_key"
        assert admin.chat(anew["key"]).status_code == 200

    def test_with_a_grace_period_both_are_good(self, admin, make_key):
        made = make_key()
        anew = admin.post("/key/regenerate", key=made["token"], grace_period="2h", rpm_limit=9)
        assert [admin.chat(token).status_code for token in (made["key"], anew["key"])] == [200, 200]
        left = moment(anew["old_secret_until"]) - datetime.now(UTC)
        assert timedelta(hours=1, minutes=55) < left <= timedelta(hours=2, seconds=5)
        assert anew["rpm_limit"] == 9

    @pytest.mark.parametrize(
        "grace", ["31d", "1mo", "soon", "-1s", 60],
    )  # fmt: skip
    def test_a_wrong_grace_period_changes_nothing(self, admin, make_key, grace):
        made = make_key()
        body = {"key": made["token"], "grace_period": grace, "rpm_limit": 9}
        status, _, param = admin.refused("POST", "/key/regenerate", json=body)
        assert (status, param) == (400, "grace_period")
        assert admin.get("/key/info", key=made["token"])["info"]["rpm_limit"] is None
        assert admin.chat(made["key"]).status_code == 200

    def test_the_path_and_the_body_must_name_the_same_key(self, admin, make_key):
        made, other = make_key(), make_key()
        way = f"/key/{made['token']}/regenerate"
        assert admin.refused("POST", way, json={"key": other["token"]}) == (400, "invalid_value", "key")


class TestAKeyIsRevoked:
    def test_its_next_call_is_refused_by_every_process(self, admin, make_key):
        made = make_key()
        assert admin.chat(made["key"]).status_code == 200
        admin.post("/key/delete", keys=[made["token"]])
        for _ in range(6):
            assert admin.chat(made["key"]).json()["error"]["code"] == "invalid_api_key"
        assert admin.refused("GET", "/key/info", params={"key": made["token"]})[:2] == (404, "key_not_found")

    def test_by_alias(self, admin, make_key):
        made = make_key(key_alias="to be deleted")
        assert admin.post("/key/delete", keys=None, key_aliases=["to be deleted"]) == {
            "deleted_keys": ["to be deleted"]
        }
        assert admin.chat(made["key"]).status_code == 401

    def test_all_or_none(self, admin, make_key):
        made = make_key()
        body = {"keys": [made["token"], "knothere"]}
        assert admin.refused("POST", "/key/delete", json=body) == (404, "key_not_found", "keys")
        body = {"keys": [made["token"]], "key_aliases": ["no such alias"]}
        assert admin.refused("POST", "/key/delete", json=body) == (404, "key_not_found", "key_aliases")
        assert admin.chat(made["key"]).status_code == 200

    def test_named_twice_it_is_revoked_once(self, admin, make_key):
        made = make_key(key_alias="twice")
        names = [made["token"], made["key"], made["token"]]
        told = admin.post("/key/delete", keys=names, key_aliases=["twice"])
        assert told["deleted_keys"] == [made["token"], made["token"], "twice"]


@pytest.fixture(scope="module")
def team(admin):
    """A team with six keys, made in this order."""
    team = admin.post("/team/new")["team_id"]
    for number in range(6):
        fields = {"key_alias": f"{team} {number}", "team_id": team, "max_budget": 6 - number}
        admin.post("/key/generate", **fields)
    return team


class TestKeysAreListed:
    def aliases(self, admin, team, **query):
        told = admin.get("/key/list", team_id=team, return_full_object="true", **query)
        return [int(key["key_alias"].split()[1]) for key in told["keys"]]

    def test_by_pages_the_newest_first(self, admin, team):
        told = admin.get("/key/list", team_id=team, size=4, page=2, return_full_object="true")
        assert (told["total_count"], told["current_page"], told["total_pages"]) == (6, 2, 2)
        assert [key["key_alias"] for key in told["keys"]] == [f"{team} 1", f"{team} 0"]
        assert admin.get("/key/list", team_id=team, size=4, page=3)["keys"] == []

    def test_as_ids_unless_all_is_wanted(self, admin, team):
        told = admin.get("/key/list", team_id=team)
        assert all(isinstance(key, str) and key.startswith(f"{team}_") for key in told["keys"])

    def test_in_another_order(self, admin, team):
        assert self.aliases(admin, team, sort_by="max_budget", sort_order="asc") == [5, 4, 3, 2, 1, 0]
        assert self.aliases(admin, team, sort_by="key_alias") == [5, 4, 3, 2, 1, 0]
        assert self.aliases(admin, team, sort_by="created_at", sort_order="asc") == [0, 1, 2, 3, 4, 5]

    def test_by_alias_exactly_or_in_part(self, admin, team):
        assert self.aliases(admin, team, key_alias=f"{team} 3") == [3]
        assert self.aliases(admin, team, key_alias=team.upper()) == []
        assert len(self.aliases(admin, team, key_alias=team.upper(), substring_matching="true")) == 6
        assert self.aliases(admin, team, search=f"{team} 4") == [4]

    def test_by_id(self, admin, team):
        key_id = admin.get("/key/list", team_id=team)["keys"][0]
        assert admin.get("/key/list", key_hash=key_id)["keys"] == [key_id]
        assert admin.get("/key/list", search=key_id)["keys"] == [key_id]

    def test_by_status(self, admin, team):
        assert len(self.aliases(admin, team, status="active")) == 6
        assert self.aliases(admin, team, status="revoked") == []
        assert self.aliases(admin, team, expires="expired") == []
        assert len(self.aliases(admin, team, expires="active")) == 6

    @pytest.mark.parametrize("of", ["user_id", "organization_id", "project_id", "agent_id"])
    def test_nobody_is_a_user_here(self, admin, team, of):
        assert admin.get("/key/list", **{of: "somebody"})["total_count"] == 0

    def test_of_no_such_team_there_are_none(self, admin, team):
        for name in ("nobody", "a b", "{x}", "*", "a" * 41):
            assert admin.get("/key/list", team_id=name)["keys"] == []


class TestAKeysHolder:
    def test_reads_about_itself(self, admin, make_key):
        made = make_key(**(KEY | {"key_alias": "its holder"}))
        for query in ({}, {"key": made["key"]}, {"key": made["token"]}):
            answer = admin.send("GET", "/key/info", key=made["key"], params=query)
            assert answer.status_code == 200
            assert answer.json()["info"]["key_alias"] == "its holder"
            assert answer.json()["key"] == made["token"]

    def test_learns_nothing_of_others(self, admin, make_key):
        made, other = make_key(), make_key()
        for name in (other["token"], other["key"], "knothere", admin.served.key, "../x"):
            words = {"key": made["key"], "params": {"key": name}}
            assert admin.refused("GET", "/key/info", **words) == (403, "admin_only", None)

    def test_sees_what_it_has_spent(self, admin, make_key):
        made = make_key(max_budget=1)
        assert admin.chat(made["key"], tokens=10, prompt=5).status_code == 200
        deadline = time.monotonic() + 10
        while (info := admin.send("GET", "/key/info", key=made["key"]).json()["info"])["spend_nanos"] == 0:
            assert time.monotonic() < deadline
        assert info["spend_nanos"] == 5 * 100 + 10 * 500
        assert info["spend"] == info["spend_nanos"] / 10**9


class TestTheAuditTells:
    def test_who_did_what_on_whose_behalf(self, admin):
        headers = {"litellm-changed-by": "ada@example.com"}
        key_id = admin.send("POST", "/key/generate", json={"max_budget": 0.1}, headers=headers).json()[
            "token"
        ]
        admin.post("/key/update", key=key_id, rpm_limit=2)
        admin.post("/key/block", key=key_id)
        admin.post("/key/regenerate", key=key_id)
        admin.post("/key/delete", keys=[key_id])
        entries = [entry for entry in reversed(admin.audit()) if entry.id == key_id]
        assert [(entry.action, entry.by) for entry in entries] == [
            ("create", "admin:ada@example.com"),
            ("update", "admin"),
            ("block", "admin"),
            ("rotate", "admin"),
            ("revoke", "admin"),
        ]
        assert entries[0].changes == {"max_budget": "0.1"}
        assert entries[1].changes == {"rpm_limit": 2}

    @pytest.mark.parametrize("said", ["x" * 101, "a\tb", "<script>", "ü"])
    def test_a_name_that_is_no_plain_text_is_left_out(self, admin, said):
        headers = {"litellm-changed-by": said.encode()}
        key_id = admin.send("POST", "/key/generate", headers=headers).json()["token"]
        assert next(entry for entry in admin.audit() if entry.id == key_id).by == "admin"
