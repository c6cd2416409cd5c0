"""`/team/...`: teams made, shown, listed, changed, blocked and removed over HTTP."""

from __future__ import annotations

import pytest

TEAM = {
    "models": ["gpt-oss-20b", "house"],
    "rpm_limit": 600,
    "tpm_limit": 600_000,
    "max_parallel_requests": 40,
    "max_budget": 250.0,
    "budget_duration": "1mo",
    "metadata": {"floor": 2},
    "blocked": False,
}


class TestATeamIsMade:
    def test_all_that_was_given_is_told(self, admin):
        made = admin.post("/team/new", team_id="search", team_alias="Search", **TEAM)
        assert {name: made[name] for name in TEAM} == TEAM
        assert (made["team_id"], made["team_alias"], made["spend_nanos"]) == ("search", "Search", 0)

    def test_without_an_id_it_gets_one(self, admin):
        made = admin.post("/team/new")
        assert made["team_id"]
        assert (made["models"], made["max_budget"]) == ([], None)

    def test_its_keys_carry_its_id_and_call_within_its_models(self, admin):
        team = admin.post("/team/new", models=["gpt-oss-20b"])["team_id"]
        key = admin.post("/key/generate", team_id=team, models=["all-team-models"])
        assert key["token"].startswith(f"{team}_")
        assert key["team_id"] == team
        assert admin.chat(key["key"]).json()["error"]["code"] == "model_not_allowed"

    def test_its_limit_holds_over_its_keys(self, admin):
        team = admin.post("/team/new", rpm_limit=3)["team_id"]
        keys = [admin.post("/key/generate", team_id=team)["key"] for _ in range(2)]
        answers = [admin.chat(keys[n % 2]).status_code for n in range(6)]
        assert answers == [200] * 3 + [429] * 3

    @pytest.mark.parametrize(
        ("fields", "code", "param"),
        [
            ({"team_id": "a b"}, "invalid_value", "team_id"),
            ({"team_id": "a" * 41}, "invalid_value", "team_id"),
            ({"team_id": 5}, "invalid_type", "team_id"),
            ({"team_alias": ""}, "invalid_value", "team_alias"),
            ({"max_budget": -1}, "invalid_value", "max_budget"),
            ({"members_with_roles": [{"role": "admin", "user_id": "ada"}]}, "unsupported_parameter",
             "members_with_roles"),
            ({"model_aliases": {"a": "b"}}, "unsupported_parameter", "model_aliases"),
            ({"team_member_budget": 0}, "unsupported_parameter", "team_member_budget"),
            ({"organization_id": "o"}, "unsupported_parameter", "organization_id"),
            ({"key_alias": "x"}, "unsupported_parameter", "key_alias"),
            ({"duration": "1d"}, "unsupported_parameter", "duration"),
        ],
    )  # fmt: skip
    def test_what_is_wrong_is_named(self, admin, fields, code, param):
        assert admin.refused("POST", "/team/new", json=fields) == (400, code, param)

    def test_an_id_and_an_alias_are_given_once(self, admin):
        admin.post("/team/new", team_id="once", team_alias="Once")
        for field, value in (("team_id", "once"), ("team_alias", "Once")):
            assert admin.refused("POST", "/team/new", json={field: value}) == (400, "invalid_value", field)

    def test_empty_members_are_none(self, admin):
        assert admin.post("/team/new", members_with_roles=[], admins=[], members=[])["members"] == []


class TestATeamIsChanged:
    def test_only_what_is_given_and_null_unsets(self, admin):
        team = admin.post("/team/new", team_alias="to be changed", rpm_limit=5, tpm_limit=500)["team_id"]
        told = admin.post("/team/update", team_id=team, rpm_limit=6, tpm_limit=None, team_alias="changed")
        assert told["team_id"] == team
        data = told["data"]
        assert (data["rpm_limit"], data["tpm_limit"], data["team_alias"]) == (6, None, "changed")

    def test_blocking_it_holds_for_the_next_call_of_its_keys(self, admin):
        team = admin.post("/team/new")["team_id"]
        key = admin.post("/key/generate", team_id=team)["key"]
        assert admin.post("/team/block", team_id=team)["blocked"] is True
        for _ in range(4):
            assert admin.chat(key).json()["error"]["code"] == "key_blocked"
        assert admin.post("/team/unblock", team_id=team)["blocked"] is False
        assert admin.chat(key).status_code == 200

    @pytest.mark.parametrize("path", ["/team/update", "/team/block", "/team/unblock"])
    @pytest.mark.parametrize(
        ("team_id", "status", "code"),
        [
            ("nosuchteam", 404, "team_not_found"),
            ("a b", 404, "team_not_found"),
            (None, 400, "missing_required_parameter"),
            (["x"], 400, "invalid_type"),
        ],
    )
    def test_it_must_be_named_rightly(self, admin, path, team_id, status, code):
        assert admin.refused("POST", path, json={"team_id": team_id}) == (status, code, "team_id")

    def test_the_audit_tells(self, admin):
        team = admin.post("/team/new", rpm_limit=5)["team_id"]
        admin.post("/team/update", team_id=team, rpm_limit=6)
        admin.post("/team/delete", team_ids=[team])
        told = [(entry.action, entry.kind, entry.by) for entry in admin.audit() if entry.id == team]
        assert told == [(action, "team", "admin") for action in ("revoke", "update", "create")]


class TestATeamIsRemoved:
    def test_with_its_keys(self, admin):
        team = admin.post("/team/new")["team_id"]
        key = admin.post("/key/generate", team_id=team)
        assert admin.post("/team/delete", team_ids=[team]) == {"deleted_teams": [team]}
        assert admin.chat(key["key"]).json()["error"]["code"] == "invalid_api_key"
        assert admin.refused("GET", "/team/info", params={"team_id": team})[:2] == (404, "team_not_found")
        assert admin.refused("GET", "/key/info", params={"key": key["token"]})[:2] == (404, "key_not_found")

    def test_all_or_none(self, admin):
        team = admin.post("/team/new")["team_id"]
        body = {"team_ids": [team, "nosuchteam"]}
        assert admin.refused("POST", "/team/delete", json=body)[:2] == (404, "team_not_found")
        assert admin.get("/team/info", team_id=team)["team_id"] == team

    @pytest.mark.parametrize("team_ids", [None, [], "x", [5]])
    def test_it_must_be_named_rightly(self, admin, team_ids):
        status, _, param = admin.refused("POST", "/team/delete", json={"team_ids": team_ids})
        assert (status, param) == (400, "team_ids")


@pytest.fixture(scope="module")
def teams(admin):
    """Four teams with aliases that no other has, the second one with two keys."""
    ids = [admin.post("/team/new", team_alias=f"Listed {n}", max_budget=9 - n)["team_id"] for n in range(4)]
    for _ in range(2):
        admin.post("/key/generate", team_id=ids[1])
    return ids


class TestTeamsAreListed:
    def test_one_with_its_keys(self, admin, teams):
        told = admin.get("/team/info", team_id=teams[1])
        assert told["team_info"]["team_alias"] == "Listed 1"
        assert {key["team_id"] for key in told["keys"]} == {teams[1]}
        assert (len(told["keys"]), told["team_memberships"]) == (2, [])

    def test_all_with_their_keys(self, admin, teams):
        of_team = {team["team_id"]: len(team["keys"]) for team in admin.get("/team/list")}
        assert [of_team[team] for team in teams] == [0, 2, 0, 0]

    def test_by_pages(self, admin, teams):
        told = admin.get("/v2/team/list", team_alias="listed", page=2, page_size=3)
        assert [team["team_id"] for team in told["teams"]] == teams[3:]
        assert [told[name] for name in ("total", "page", "page_size", "total_pages")] == [4, 2, 3, 2]

    @pytest.mark.parametrize(
        ("query", "order"),
        [
            ({}, [0, 1, 2, 3]),
            ({"sort_by": "max_budget"}, [3, 2, 1, 0]),
            ({"sort_by": "team_alias", "sort_order": "desc"}, [3, 2, 1, 0]),
            ({"status": "deleted"}, []),
            ({"user_id": "ada"}, []),
        ],
    )
    def test_in_order_and_filtered(self, admin, teams, query, order):
        told = admin.get("/v2/team/list", team_alias="LISTED", **query)
        assert [team["team_id"] for team in told["teams"]] == [teams[n] for n in order]

    def test_by_id_or_a_search(self, admin, teams):
        for query in (
            {"team_id": teams[2]},
            {"search": teams[2]},
            {"search": "listed 2"},
            {"search": teams[2][:-1], "search_team_id_match": "prefix"},
        ):
            assert [team["team_id"] for team in admin.get("/v2/team/list", **query)["teams"]] == [teams[2]]
        assert admin.get("/v2/team/list", search=teams[2][:-1])["teams"] == []

    def test_nobody_is_a_member_and_none_can_be_joined(self, admin, teams):
        assert admin.get("/team/list", user_id="ada") == []
        assert admin.get("/team/list", organization_id="o") == []
        assert admin.get("/team/available") == []
