"""`neev-gateway spend`: sums to the nano-USD, in every form; `spend replay` charges once."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from neev_provider.admission import Spent
from neev_provider.openapi.answers import SpendDaily, SpendSum

CALLS = [
    ("alice", Spent(prompt_tokens=10, completion_tokens=20, cost_nanos=1_000_000_001, model="big")),
    ("alice", Spent(prompt_tokens=1, completion_tokens=2, cost_nanos=3, model="small", estimated=True)),
    ("bob", Spent(prompt_tokens=5, completion_tokens=5, cost_nanos=7_000, model="small")),
    ("bob", Spent(cost_nanos=40, characters=400, model="voice")),
]


@pytest.fixture
def spent(neev, calls):
    """Keys `alice`, of the team `research`, and `bob`, and what they called; their ids."""
    neev("teams", "create", "research")
    alice = neev("keys", "create", "--alias", "alice", "--team", "research", "--json").json
    bob = neev("keys", "create", "--alias", "bob", "--json").json
    tokens = {"alice": alice["token"], "bob": bob["token"]}
    for name, cost in CALLS:
        calls.charge(tokens[name], cost)
    return {"alice": alice["id"], "bob": bob["id"]}


def rows(neev, *words):
    return neev("spend", *words, "--json").json["rows"]


class TestTheReport:
    def test_by_key_is_the_sum_of_each(self, neev, spent):
        found = rows(neev)
        assert [(row["key"], row["key_alias"], row["requests"], row["spend_nanos"]) for row in found] == [
            (spent["alice"], "alice", 2, 1_000_000_004),
            (spent["bob"], "bob", 2, 7_040),
        ]
        assert found[0]["spend"] == 1.000000004
        assert (found[0]["team_id"], found[1]["team_id"]) == ("research", None)
        assert found[0]["estimated_requests"] == 1
        assert found[1]["characters"] == 400

    @pytest.mark.parametrize("by", ["key", "team", "model", "day"])
    def test_has_the_fields_of_the_gateways_own_report(self, neev, spent, by):
        told = neev("spend", "--by", by, "--json").json
        assert list(told) == ["by", "start_date", "end_date", "rows", "total"]
        msgspec.convert(told, SpendDaily)
        named = {"key": ["key_alias", "team_id"], "team": ["team_alias"]}
        assert list(told["rows"][0]) == [by, *named.get(by, []), *told["total"]]
        assert set(told["total"]) == {each.name for each in msgspec.structs.fields(SpendSum)}

    def test_shows_what_has_no_team_as_that(self, neev, spent):
        assert "(no team)" in neev("spend", "--by", "team").out

    def test_shows_days_and_their_shares_in_a_narrow_window(self, neev, spent, monkeypatch):
        monkeypatch.setenv("COLUMNS", "90")
        lines = neev("spend", "--by", "day", "--since", "2d").out.splitlines()
        assert len(lines) == 5  # a heading, three days, the total
        assert f"{datetime.now(UTC):%Y-%m-%d}" in lines[3]
        assert "█" in lines[3]

    def test_by_team_model_and_day(self, neev, spent):
        assert [(row["team"], row["spend_nanos"]) for row in rows(neev, "--by", "team")] == [
            ("research", 1_000_000_004),
            (None, 7_040),
        ]
        assert [(row["model"], row["spend_nanos"]) for row in rows(neev, "--by", "model")] == [
            ("big", 1_000_000_001),
            ("small", 7_003),
            ("voice", 40),
        ]
        days = rows(neev, "--by", "day", "--since", "3d")
        today = datetime.now(UTC).date()
        assert [row["day"] for row in days] == [str(today - timedelta(days=n)) for n in (3, 2, 1, 0)]
        assert [row["spend_nanos"] for row in days] == [0, 0, 0, 1_000_007_044]

    def test_of_one_team_key_or_model(self, neev, spent):
        assert [row["key"] for row in rows(neev, "--team", "research")] == [spent["alice"]]
        assert [row["key"] for row in rows(neev, "--key", "bob")] == [spent["bob"]]
        assert [row["key"] for row in rows(neev, "--key", spent["alice"], "--model", "big")] == [
            spent["alice"]
        ]

    def test_of_a_key_is_found_by_its_token_and_a_key_nobody_has_is_told(self, neev, spent):
        token = neev("keys", "rotate", "bob", "-q").out.strip()
        assert [row["key"] for row in rows(neev, "--key", token)] == [spent["bob"]]
        done = neev("spend", "--key", "nobody")
        assert (done.code, done.err) == (1, "error: There is no key 'nobody'.\n")

    def test_of_a_key_that_is_gone_stays(self, neev, spent):
        neev("keys", "revoke", "bob", "--yes")
        assert [(row["key"], row["key_alias"]) for row in rows(neev)][1] == (spent["bob"], None)
        assert [row["spend_nanos"] for row in rows(neev, "--key", spent["bob"])] == [7_040]

    def test_is_csv_with_the_same_figures(self, neev, spent):
        found = list(csv.DictReader(io.StringIO(neev("spend", "--csv").out)))
        told = [
            {name: "" if value is None else str(value) for name, value in row.items()} for row in rows(neev)
        ]
        assert told == found

    def test_is_a_table_and_days_have_bars(self, neev, spent):
        shown = neev("spend").out
        assert "alice" in shown
        assert "$1.000007044" in shown
        days = neev("spend", "--by", "day", "--since", "1d").out.splitlines()
        assert days[2].count("█") == 30
        assert "█" not in days[1]

    def test_of_nothing_says_so(self, neev):
        assert neev("spend", "--since", "2d").out.startswith("Nothing was spent since ")

    @pytest.mark.parametrize("since", ["yesterday", "0d", "1y", "2026-13-01", "9999-01-01"])
    def test_refuses_a_time_that_is_none(self, neev, since):
        done = neev("spend", "--since", since)
        assert done.code == 1
        assert done.err.startswith("error: '--since' ")


class TestReplay:
    def line(self, key_id: str, number: int) -> str:
        tag = key_id.partition("_")[0]
        return json.dumps({
            "process": "p", "number": number, "tag": tag, "lease": f"l{number}", "key_id": key_id,
            "at": int(datetime.now(UTC).timestamp() * 1000), "prompt_tokens": 3, "completion_tokens": 4,
            "cost_nanos": 500, "model": "m",
        })  # fmt: skip

    def test_charges_each_line_once(self, neev, tmp_path):
        key_id = neev("keys", "create", "--alias", "alice", "--json").json["id"]
        (tmp_path / "ledger").write_text("\n".join(self.line(key_id, number) for number in (1, 2)) + "\n\n")
        assert neev("spend", "replay", "ledger").out.startswith("2 charges made, $0.000001 in all")
        assert neev("spend", "replay", "ledger").out.startswith("0 charges made, $0.00 in all")
        assert neev("keys", "info", "alice", "--json").json["spend_nanos"] == 1000
        assert neev("spend", "--json").json["total"]["spend_nanos"] == 1000

    def test_leaves_out_what_is_no_charge_and_says_so(self, neev, tmp_path):
        key_id = neev("keys", "create", "--json").json["id"]
        (tmp_path / "ledger").write_text(f"error: other\n{self.line(key_id, 1)}\n{{}}\n")
        done = neev("spend", "replay", "ledger")
        assert done.code == 1
        assert done.out.startswith("1 charges made, $0.0000005 in all")
        assert done.err.count("was left out: not a settle") == 2

    def test_leaves_out_and_names_what_is_too_old_to_be_told(self, neev, tmp_path):
        key_id = neev("keys", "create", "--json").json["id"]
        line = json.loads(self.line(key_id, 1))
        (tmp_path / "ledger").write_text(
            json.dumps({**line, "at": line["at"] - 40 * 86_400_000, "sent": True})
        )
        done = neev("spend", "replay", "ledger")
        assert (done.code, done.out[:14]) == (1, "0 charges made")
        assert "line 1 of ledger was left out: too old" in done.err

    def test_needs_a_file(self, neev):
        done = neev("spend", "replay", "nowhere")
        assert (done.code, done.err.startswith("error: nowhere: cannot be read")) == (2, True)
