"""Who is refused learns nothing: not which keys there are, nor which models, nor what else was wrong, nor by the time it takes."""

from __future__ import annotations

import asyncio
import hmac
import inspect
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from neev_provider.admission import Principal
from neev_provider.admission import virtual as virtual_module
from neev_provider.admission.keys import Keys
from neev_provider.admission.rules import AdmissionSettings
from neev_provider.admission.static import StaticKeys
from neev_provider.admission.virtual import VirtualKeys
from neev_provider.errors import RequestError
from neev_provider.store import Store
from tests.admin.test_refusals import ROUTES

CHAT, SPEECH = "/v1/chat/completions", "/v1/audio/speech"
# `connection` tells whether the body had come when the head was refused, not what was refused.
OWN = {"date", "x-request-id", "connection"}
MESSAGES = [{"role": "user", "content": "x"}]


def wrong_secret(token: str) -> str:
    """A token of the same key with another secret, of the same form."""
    return token[:-1] + ("A" if token[-1] != "A" else "B")


async def _expired(url: str) -> str:
    async with Store.from_url(url) as store:
        soon = datetime.now(UTC) + timedelta(seconds=0.5)
        made = await Keys(store).create_key({"expires": soon}, by="test")
    await asyncio.sleep(0.6)
    return made.token


@pytest.fixture(scope="module")
def wrong(admin) -> dict[str, str]:
    """Keys that nobody holds, for every reason that there is."""
    good, blocked, revoked = (admin.post("/key/generate")["key"] for _ in range(3))
    admin.post("/key/block", key=blocked)
    admin.post("/key/delete", keys=[revoked])
    team = admin.post("/team/new")["team_id"]
    of_team = admin.post("/key/generate", team_id=team)["key"]
    admin.post("/team/block", team_id=team)
    expired = asyncio.run(_expired(admin.store_url()))
    rotated = admin.post("/key/generate")["key"]
    admin.post("/key/regenerate", key=rotated)
    master = admin.served.key
    return {
        "unknown": "sk-neev-kabcdefghijkmn." + "A" * 43,
        "of an unknown team": "sk-neev-tabcdef_abcdefgh." + "A" * 43,
        "a good one's id, another secret": wrong_secret(good),
        "a good one's id, all of the secret wrong": good.partition(".")[0] + "." + "A" * 43,
        "a blocked one's id, another secret": wrong_secret(blocked),
        "an expired one's id, another secret": wrong_secret(expired),
        "a blocked team's id, another secret": wrong_secret(of_team),
        "revoked": revoked,
        "rotated away": rotated,
        "half of a good one": good[: len(good) // 2],
        "a good one and more": good + "A",
        "a good one in capitals": good.upper(),
        "almost the master key": master[:-1] + ("A" if master[-1] != "A" else "B"),
        "the master key and more": master + "A",
        "no form at all": "nonsense",
        "another maker's": "sk-proj-" + "a" * 40,
        "the emulator's": "sk-nc-emulator",
    }


def told(answer) -> tuple:
    headers = {name.lower(): value for name, value in answer.headers.items() if name.lower() not in OWN}
    return answer.status_code, headers, answer.text


class TestEnumeration:
    @pytest.mark.parametrize(
        ("method", "path"),
        [("POST", CHAT), ("POST", SPEECH), ("GET", "/v1/models"), ("GET", "/v1/models/house"), *ROUTES[::4]],
    )
    def test_every_wrong_key_gets_the_same_answer_byte_for_byte(self, admin, wrong, method, path):
        body = {"model": "house", "messages": MESSAGES, "voice": "alloy", "input": "x"}
        words = {"json": body} if method == "POST" else {}
        answers = {name: told(admin.send(method, path, key=key, **words)) for name, key in wrong.items()}
        first = answers["unknown"]
        assert (first[0], json.loads(first[2])["error"]["code"]) == (401, "invalid_api_key")
        assert {name: answer for name, answer in answers.items() if answer != first} == {}

    @pytest.mark.parametrize("body", [{}, {"model": "nope"}, {"model": "house", "api_base": "x"}, [], "x"])
    def test_whatever_else_is_wrong_with_the_request(self, admin, wrong, body):
        for path in (CHAT, SPEECH, "/key/generate"):
            answers = {told(admin.send("POST", path, key=key, json=body))[2] for key in wrong.values()}
            assert len(answers) == 1
            assert json.loads(answers.pop())["error"]["code"] == "invalid_api_key"

    def test_a_model_that_one_may_not_call_is_not_listed_nor_told_of(self, admin):
        key = admin.post("/key/generate", models=["house"])["key"]
        hidden, absent = (
            told(admin.send("GET", f"/v1/models/{name}", key=key)) for name in ("hasty", "nasty")
        )
        assert hidden[0] == absent[0] == 404
        assert hidden[2].replace("hasty", "nasty") == absent[2]

    def test_a_holder_cannot_tell_whether_another_key_is_there(self, admin, wrong):
        mine = admin.post("/key/generate")["key"]
        there = admin.post("/key/generate")
        names = [there["key"], there["token"], *wrong.values(), "kabcdefghijkmn", "0" * 64]
        answers = {told(admin.send("GET", "/key/info", key=mine, params={"key": name}))[2] for name in names}
        assert len(answers) == 1
        assert json.loads(answers.pop())["error"]["code"] == "admin_only"


class TestAdminRoutes:
    @pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route[1] != "/key/info"])
    def test_a_holder_is_refused_the_same_way_whatever_is_asked(self, admin, holder, method, path):
        bodies = (
            ({}, {"key": holder}, {"team_id": "x"}, {"max_budget": 10**6}) if method == "POST" else (None,)
        )
        answers = {told(admin.send(method, path, key=holder, json=body))[2] for body in bodies}
        assert len(answers) == 1
        assert json.loads(answers.pop())["error"]["code"] == "admin_only"

    def test_a_holder_cannot_raise_its_own_limits(self, admin):
        made = admin.post("/key/generate", max_budget=1, rpm_limit=5)
        for body in ({"key": made["key"], "max_budget": 1000}, {"key": made["token"], "rpm_limit": None}):
            assert admin.refused("POST", "/key/update", key=made["key"], json=body)[:2] == (403, "admin_only")
        entry = admin.get("/key/info", key=made["token"])["info"]
        assert (entry["max_budget"], entry["rpm_limit"]) == (1, 5)

    @pytest.mark.parametrize(
        "headers",
        [{"x-litellm-api-key": "{}"}, {"x-master-key": "{}"}, {"cookie": "token={}"}, {"x-goog-api-key": "{}"},
         {"authorization": "Basic {}"}, {"proxy-authorization": "Bearer {}"}, {"x-forwarded-user": "admin"}],
    )  # fmt: skip
    def test_no_other_header_makes_an_operator(self, admin, headers):
        given = {name: value.format(admin.served.key) for name, value in headers.items()}
        assert admin.refused("GET", "/key/list", key=None, headers=given)[:2] == (401, "invalid_api_key")

    def test_nor_does_a_query(self, admin):
        for name in ("key", "api_key", "token", "master_key"):
            path = f"/key/list?{name}={admin.served.key}"
            assert admin.refused("GET", path, key=None)[:2] == (401, "invalid_api_key")


MASTER = "sk-" + "m" * 40


class TestComparison:
    """By structure, not by a clock: what is compared are digests, and the steps are the same whatever they have in common."""

    WRONG = ("X" + MASTER[1:], MASTER[:-1] + "X", "X" * len(MASTER), MASTER[:20] + "X" + MASTER[21:])

    @staticmethod
    def steps(check, token: str) -> list[tuple[str, int]]:
        """Return the lines of our own code that a check runs."""
        lines: list[tuple[str, int]] = []

        def trace(frame, event, _):
            if "neev_provider" not in frame.f_code.co_filename:
                return None
            lines.append((frame.f_code.co_name, frame.f_lineno))
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            with pytest.raises(RequestError):
                check(token)
        finally:
            sys.settrace(before)
        return lines

    def test_a_wrong_master_key_takes_the_same_steps_wherever_it_is_wrong(self):
        access = VirtualKeys(Store.from_url("redis://127.0.0.1:1"), AdmissionSettings(), master_key=MASTER)
        access.check_form(MASTER)
        taken = [self.steps(access.check_form, token) for token in self.WRONG]
        assert len(taken[0]) > 5
        assert all(steps == taken[0] for steps in taken)

    def test_so_does_a_wrong_key_of_the_configuration_whatever_its_length(self):
        keys = {MASTER: Principal("a"), "sk-" + "n" * 40: Principal("b")}
        access = StaticKeys(keys)
        access.check_form(MASTER)
        taken = [
            self.steps(access.check_form, token)
            for token in (*self.WRONG, "X", MASTER + "X", "sk-" + "n" * 39)
        ]
        assert len(taken[0]) > 5
        assert all(steps == taken[0] for steps in taken)

    def test_what_is_compared_is_a_digest_and_by_hmac(self):
        for compared in (VirtualKeys._is_master, StaticKeys._holder):
            source = inspect.getsource(compared)
            assert "hmac.compare_digest(" in source
            assert "digest_of(token)" in source
            assert " == " not in source
        assert virtual_module.hmac is hmac

    def test_the_store_is_given_digests_of_one_length_which_its_scripts_compare_as_wholes(self):
        """Lua keeps each text once: equality is one comparison of addresses. A script that walks them would differ."""
        folder = Path(virtual_module.__file__).parent / "lua"
        compared = [
            line.strip()
            for file in folder.glob("*.lua")
            for line in file.read_text().splitlines()
            if ("SECRET]" in line or "digest" in line) and "==" in line
        ]
        assert compared == [
            "if digest == key[SECRET] or (digest == key[OLD_SECRET] and key[OLD_UNTIL] and now < key[OLD_UNTIL]) then",
            "if digest == older[i] and now < older[i + 1] then",
        ]
