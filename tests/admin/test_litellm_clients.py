"""LiteLLM's own tools against the admin routes: its Python management client and its command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner
from litellm.proxy.client import Client
from litellm.proxy.client.cli import cli
from litellm.proxy.client.exceptions import UnauthorizedError

from tests.admin.conftest import Admin


@pytest.fixture(scope="module")
def client(admin):
    return Client(admin.served.root_url, admin.served.key)


class TestTheKeysClient:
    def test_generates_a_key_that_works(self, admin, client):
        team = admin.post("/team/new")["team_id"]
        made = client.keys.generate(
            models=["house"], aliases={}, duration="24h", key_alias="by the client", team_id=team, config={}
        )
        assert admin.chat(made["key"]).status_code == 200
        assert (made["models"], made["team_id"], made["key_alias"]) == (["house"], team, "by the client")

    def test_tells_about_it(self, admin, client):
        made = client.keys.generate(key_alias="to be told")
        for name in (made["key"], made["token"]):
            assert client.keys.info(name)["info"]["key_alias"] == "to be told"

    def test_lists(self, admin, client):
        team = admin.post("/team/new")["team_id"]
        ids = [client.keys.generate(team_id=team, key_alias=f"{team} {n}")["token"] for n in range(3)]
        told = client.keys.list(page=1, size=2, team_id=team, return_full_object=True, include_team_keys=True)
        assert (told["total_count"], told["total_pages"], len(told["keys"])) == (3, 2, 2)
        assert client.keys.list(key_alias=f"{team} 1")["keys"] == [ids[1]]
        assert client.keys.list(key_hash=ids[2])["keys"] == [ids[2]]
        assert client.keys.list(user_id="ada", organization_id="o")["keys"] == []

    def test_updates(self, client):
        made = client.keys.generate(key_alias="before")
        told = client.keys.update(made["key"], models=["house"], duration="1h", key_alias="after")
        assert (told["models"], told["key_alias"]) == (["house"], "after")

    def test_deletes(self, admin, client):
        keys = [client.keys.generate(key_alias=f"deleted by the client {n}") for n in range(3)]
        client.keys.delete(keys=[keys[0]["key"], keys[1]["token"]])
        client.keys.delete(key_aliases=["deleted by the client 2"])
        assert [admin.chat(key["key"]).status_code for key in keys] == [401] * 3

    def test_is_told_what_cannot_be_kept(self, client):
        with pytest.raises(requests.HTTPError) as caught:
            client.keys.generate(user_id="ada")
        assert caught.value.response.json()["error"]["param"] == "user_id"

    def test_is_told_that_its_key_is_wrong(self, admin):
        stranger = Client(admin.served.root_url, "sk-wrong")
        for call in (stranger.keys.list, stranger.keys.generate, lambda: stranger.keys.info("x")):
            with pytest.raises(UnauthorizedError):
                call()


class TestTheTeamsClient:
    def test_lists(self, admin, client):
        made = admin.post("/team/new", team_alias="Seen by the client", models=["house"])
        team = next(team for team in client.teams.list() if team["team_id"] == made["team_id"])
        assert (team["team_alias"], team["models"]) == ("Seen by the client", ["house"])
        assert client.teams.list(user_id="ada") == []
        assert client.teams.get_available() == []

    def test_lists_by_pages(self, admin, client):
        made = admin.post("/team/new", team_alias="Paged by the client")["team_id"]
        told = client.teams.list_v2(team_alias="paged by", sort_by="created_at", sort_order="desc")
        assert ([team["team_id"] for team in told["teams"]], told["total"]) == ([made], 1)
        assert client.teams.list_v2(team_id=made, page=2, page_size=1)["teams"] == []

    def test_is_told_that_its_key_is_wrong(self, admin):
        stranger = Client(admin.served.root_url, "sk-wrong")
        for call in (stranger.teams.list, stranger.teams.list_v2, stranger.teams.get_available):
            with pytest.raises(UnauthorizedError):
                call()


class TestTheHTTPClient:
    def test_reaches_every_other_route(self, client):
        team = client.http.request("POST", "/team/new", json={"max_budget": 0.3})
        assert team["max_budget_nanos"] == 300_000_000
        key = client.http.request("POST", "/key/generate", json={"team_id": team["team_id"]})
        client.http.request("POST", "/key/block", json={"key": key["key"]})
        anew = client.http.request("POST", f"/key/{key['key']}/regenerate", json={"grace_period": "1h"})
        assert anew["blocked"] is True
        assert client.http.request("POST", "/team/delete", json={"team_ids": [team["team_id"]]})


@pytest.fixture
def lite(admin: Admin, tmp_path: Path):
    """Run the command line's own code; importing it for each command would take seconds."""

    def run(*words: str, key: str | None = None) -> tuple[int, str]:
        env = {"LITELLM_PROXY_URL": admin.served.root_url, "LITELLM_PROXY_API_KEY": key or admin.served.key}
        env |= {"HOME": str(tmp_path), "COLUMNS": "300"}
        done = CliRunner().invoke(cli, words, env=env)
        return done.exit_code, done.output

    return run


class TestTheCommandsForKeys:
    def test_generate(self, admin, lite):
        words = ("--models", "house,gpt-oss-20b", "--duration", "24h", "--key-alias", "by the command")
        code, output = lite("keys", "generate", *words, "--aliases", "{}", "--config", "{}")
        made = json.loads(output)
        assert code == 0
        assert (made["models"], made["key_alias"]) == (["gpt-oss-20b", "house"], "by the command")
        assert admin.chat(made["key"]).status_code == 200

    @pytest.mark.parametrize(
        ("words", "field"), [(("--spend", "100"), "spend"), (("--user-id", "ada"), "user_id"),
                             (("--aliases", '{"a": "b"}'), "aliases"), (("--budget-id", "b"), "budget_id")]
    )  # fmt: skip
    def test_generate_with_what_cannot_be_kept(self, lite, words, field):
        code, output = lite("keys", "generate", *words)
        assert code == 1
        assert "HTTP 400" in output
        assert f'"param": "{field}"' in output

    def test_list(self, admin, lite):
        team = admin.post("/team/new")["team_id"]
        key_id = admin.post("/key/generate", key_alias=f"listed of {team}", team_id=team)["token"]
        code, output = lite("keys", "list", "--team-id", team)
        assert code == 0
        assert "Showing 1 keys out of 1" in output
        assert all(text in output for text in (key_id, f"listed of {team}", "0.0"))
        code, output = lite(
            "keys", "list", "--key-alias", f"listed of {team}", "--format", "json", "--size", "5"
        )
        assert [key["token"] for key in json.loads(output)["keys"]] == [key_id]

    def test_delete(self, admin, lite):
        keys = [admin.post("/key/generate", key_alias=f"deleted by command {n}") for n in range(2)]
        assert lite("keys", "delete", "--keys", keys[0]["key"])[0] == 0
        assert lite("keys", "delete", "--key-aliases", "deleted by command 1")[0] == 0
        assert [admin.chat(key["key"]).status_code for key in keys] == [401] * 2
        code, output = lite("keys", "delete", "--keys", keys[0]["key"])
        assert (code, "HTTP 404" in output) == (1, True)

    def test_import(self, admin, lite):
        words = ("--source-base-url", admin.served.root_url, "--source-api-key", admin.served.key)
        code, output = lite("keys", "import", *words, "--dry-run")
        assert (code, "Keys that would be imported" in output) == (0, True)
        code, output = lite("keys", "import", *words, "--created-since", "2100-01-01")
        assert (code, "to 0 keys" in output) == (0, True)


class TestTheCommandsForTeams:
    def test_list_and_available(self, admin, lite):
        made = admin.post("/team/new", team_alias="Seen by the command", max_budget=7.5)["team_id"]
        code, output = lite("teams", "list")
        assert code == 0
        assert all(text in output for text in (made, "Seen by the command", "$7.5"))
        assert lite("teams", "available") == (0, "No available teams to join.\n")

    def test_assign_key_is_for_the_operator(self, admin, lite):
        team = admin.post("/team/new")["team_id"]
        code, output = lite("teams", "assign-key", "--team-id", team, key=admin.post("/key/generate")["key"])
        assert (code, "admin_only" in output) == (1, True)

    def test_with_a_wrong_key(self, lite):
        assert lite("teams", "list", key="sk-wrong")[0] == 1


def test_the_installed_command_makes_and_lists_keys(admin, tmp_path):
    environ = {name: os.environ[name] for name in os.environ if name.startswith("LITELLM_LOCAL_")}
    environ |= {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "COLUMNS": "300",
        "LITELLM_PROXY_URL": admin.served.root_url,
        "LITELLM_PROXY_API_KEY": admin.served.key,
    }
    command = Path(sys.executable).with_name("litellm-proxy")

    def run(*words: str) -> str:
        done = subprocess.run([command, *words], env=environ, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    made = json.loads(run("keys", "generate", "--key-alias", "by the installed command"))
    assert admin.chat(made["key"]).status_code == 200
    assert made["token"] in run("keys", "list", "--key-alias", "by the installed command")
