"""`/spend/...`: what keys, teams and models did cost, told over HTTP to the nano-USD."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

MODEL = "gpt-oss-120b"
COST = 5 * 100 + 10 * 500  # nano-USD of a call of 5 prompt and 10 produced tokens: gpt-oss-120b's price


@pytest.fixture(scope="module")
def spent(admin) -> dict[str, Any]:
    """Two keys of a team and one without, with 1, 2 and 4 calls; returns when the reports know of all."""
    team = admin.post("/team/new", team_alias="Spenders")["team_id"]
    keys = [admin.post("/key/generate", team_id=team, key_alias=f"spender {n}") for n in range(2)]
    keys.append(admin.post("/key/generate", key_alias="spender 2"))
    for key, calls in zip(keys, (1, 2, 4), strict=True):
        for _ in range(calls):
            assert admin.chat(key["key"], tokens=10, prompt=5).status_code == 200
    ids = [key["token"] for key in keys]
    deadline = time.monotonic() + 20
    while [by_key(admin).get(key_id, 0) for key_id in ids] != [COST, 2 * COST, 4 * COST]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return {"team": team, "keys": ids, "tokens": [key["key"] for key in keys]}


def by_key(admin) -> dict[str, int]:
    return {row["key"]: row["spend_nanos"] for row in admin.get("/spend/daily", by="key")["rows"]}


def today() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}"


def dates(days: int = 1) -> dict[str, str]:
    now = datetime.now(UTC)  # a test over midnight sees both days
    return {"start_date": f"{now - timedelta(days=days):%Y-%m-%d}", "end_date": f"{now:%Y-%m-%d}"}


class TestByOurOwnWords:
    def test_by_key_with_its_name_the_dearest_first(self, admin, spent):
        rows = [
            row
            for row in admin.get("/spend/daily", by="key", since="1d")["rows"]
            if row["key"] in spent["keys"]
        ]
        assert [row["key"] for row in rows] == spent["keys"][::-1]
        assert [row["key_alias"] for row in rows] == ["spender 2", "spender 1", "spender 0"]
        assert [row["team_id"] for row in rows] == [None, spent["team"], spent["team"]]
        assert rows[0] == {
            "key": spent["keys"][2], "key_alias": "spender 2", "team_id": None, "requests": 4, "prompt_tokens": 20,
            "completion_tokens": 40, "characters": 0, "estimated_requests": 0, "spend": 4 * COST / 10**9,
            "spend_nanos": 4 * COST,
        }  # fmt: skip

    def test_by_team(self, admin, spent):
        rows = {row["team"]: row for row in admin.get("/spend/daily", by="team")["rows"]}
        assert rows[spent["team"]]["spend_nanos"] == 3 * COST
        assert rows[spent["team"]]["team_alias"] == "Spenders"
        assert rows[None]["spend_nanos"] >= 4 * COST

    def test_by_model(self, admin, spent):
        told = admin.get("/spend/daily", by="model", team_id=spent["team"])
        assert [(row["model"], row["requests"]) for row in told["rows"]] == [(MODEL, 3)]
        assert told["total"]["spend_nanos"] == 3 * COST

    def test_by_day_of_one_key(self, admin, spent):
        for name in (spent["keys"][2], spent["tokens"][2]):
            told = admin.get("/spend/daily", api_key=name)
            assert told["by"] == "day"
            assert sum(row["spend_nanos"] for row in told["rows"]) == told["total"]["spend_nanos"] == 4 * COST

    def test_of_no_such_key_or_team_there_is_none(self, admin, spent):
        for query in (
            {"api_key": "knothere"},
            {"team_id": "nosuchteam"},
            {"team_id": "{x}"},
            {"team_id": "a b"},
        ):
            assert admin.get("/spend/daily", **query)["rows"] == []

    def test_over_a_span_of_days(self, admin, spent):
        first = datetime.now(UTC) - timedelta(days=30)
        assert admin.get("/spend/daily")["start_date"] == f"{first:%Y-%m-%d}"
        told = admin.get("/spend/daily", start_date="2020-01-01", end_date="2020-12-31")
        assert (told["rows"], told["total"]["spend_nanos"]) == ([], 0)

    def test_of_a_key_that_is_gone_the_spend_stays(self, admin, spent):
        key = admin.post("/key/generate")
        assert admin.chat(key["key"], tokens=10, prompt=5).status_code == 200
        deadline = time.monotonic() + 20
        while by_key(admin).get(key["token"]) != COST:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        admin.post("/key/delete", keys=[key["token"]])
        assert by_key(admin)[key["token"]] == COST
        for name in (key["token"], key["key"]):
            assert admin.get("/spend/daily", api_key=name)["total"]["spend_nanos"] == COST


class TestByLiteLLMsWords:
    def test_keys_the_dearest_first(self, admin, spent):
        told = admin.get("/spend/keys")
        amounts = [key["spend_nanos"] for key in told]
        assert amounts == sorted(amounts, reverse=True)
        of_key = {key["token"]: key["spend"] for key in told}
        assert [of_key[key_id] for key_id in spent["keys"]] == [
            COST / 10**9,
            2 * COST / 10**9,
            4 * COST / 10**9,
        ]

    def test_logs_by_day(self, admin, spent):
        days = admin.get("/spend/logs", **dates(2))
        assert len(days) == 3
        assert [day["startTime"] for day in days] == sorted(day["startTime"] for day in days)
        for key_id, calls in zip(spent["keys"], (1, 2, 4), strict=True):
            assert sum(day.get(key_id, 0) for day in days) == pytest.approx(calls * COST / 10**9)
        of_model = sum(day["models"].get(MODEL, 0) for day in days)
        assert of_model == pytest.approx(sum(day["spend"] for day in days))
        assert sum(day["spend_nanos"] for day in days) >= 7 * COST

    def test_logs_of_one_key(self, admin, spent):
        days = admin.get("/spend/logs", api_key=spent["tokens"][1], **dates())
        assert sum(day["spend_nanos"] for day in days) == 2 * COST

    def test_a_report_by_team(self, admin, spent):
        days = admin.get("/global/spend/report", group_by="team", team_id=spent["team"], **dates())
        teams = [team for day in days for team in day["teams"]]
        assert {team["team_name"] for team in teams} == {"Spenders"}
        assert sum(team["total_spend_nanos"] for team in teams) == 3 * COST
        parts = [part for team in teams for part in team["metadata"]]
        assert {part["model"] for part in parts} == {MODEL}
        assert {part["api_key"] for part in parts} == set(spent["keys"][:2])
        assert sum(part["total_tokens"] for part in parts) == 3 * 15

    def test_a_report_by_key(self, admin, spent):
        rows = {
            row["api_key"]: row for row in admin.get("/global/spend/report", group_by="api_key", **dates())
        }
        assert rows[spent["keys"][2]] == {
            "api_key": spent["keys"][2], "total_cost": 4 * COST / 10**9, "total_cost_nanos": 4 * COST,
            "total_input_tokens": 20, "total_output_tokens": 40,
            "model_details": [{"model": MODEL, "total_cost": 4 * COST / 10**9, "total_cost_nanos": 4 * COST,
                               "total_input_tokens": 20, "total_output_tokens": 40}],
        }  # fmt: skip
        (row,) = admin.get("/global/spend/report", api_key=spent["keys"][0], **dates())
        assert row["total_cost_nanos"] == COST


class TestRefusals:
    @pytest.mark.parametrize(
        ("path", "query", "code", "param"),
        [
            ("/spend/daily", {"by": "user"}, "invalid_value", "by"),
            ("/spend/daily", {"since": "yesterday"}, "invalid_value", "since"),
            ("/spend/daily", {"since": "1mo"}, "invalid_value", "since"),
            ("/spend/daily", {"since": "400d"}, "invalid_value", "since"),
            ("/spend/daily", {"end_date": "yesterday"}, "missing_required_parameter", "start_date"),
            ("/spend/daily", {"since": "1d", "end_date": "2026-01-31"}, "invalid_value", "since"),
            ("/spend/daily", {"start_date": "2026-01-01"}, "missing_required_parameter", "end_date"),
            ("/spend/daily", {"api_key": "../x"}, "key_not_found", "api_key"),
            ("/spend/logs", {}, "missing_required_parameter", "start_date"),
            ("/spend/logs", {"start_date": "20260101"}, "invalid_value", "start_date"),
            ("/spend/logs", {"start_date": "2026-02-30"}, "invalid_value", "start_date"),
            (
                "/spend/logs",
                {"start_date": "2026-02-02", "end_date": "2026-02-01"},
                "invalid_value",
                "end_date",
            ),
            (
                "/spend/logs",
                {"start_date": "2020-01-01", "end_date": "2026-02-01"},
                "invalid_value",
                "end_date",
            ),
            (
                "/spend/logs",
                {"start_date": "9999-12-31", "end_date": "9999-12-30"},
                "invalid_value",
                "end_date",
            ),
            ("/spend/logs", {"user_id": "ada"}, "unsupported_parameter", "user_id"),
            ("/spend/logs", {"request_id": "x"}, "unsupported_parameter", "request_id"),
            ("/spend/logs", {"summarize": "false"}, "unsupported_parameter", "summarize"),
            ("/global/spend/report", {"group_by": "customer"}, "unsupported_parameter", "group_by"),
            ("/global/spend/report", {"group_by": "planet"}, "invalid_value", "group_by"),
            ("/global/spend/report", {"customer_id": "x"}, "unsupported_parameter", "customer_id"),
            ("/global/spend/report", {"internal_user_id": "x"}, "unsupported_parameter", "internal_user_id"),
        ],
    )
    def test_what_is_wrong_or_not_kept_is_named(self, admin, path, query, code, param):
        status = 404 if code == "key_not_found" else 400
        assert admin.refused("GET", path, params=query) == (status, code, param)

    def test_the_last_day_there_is_can_be_asked_for(self, admin):
        assert admin.get("/spend/daily", start_date="9999-12-31", end_date="9999-12-31")["rows"] == []
