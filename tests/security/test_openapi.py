"""The OpenAPI document: what it says is what the gateway does, and nothing that it says is left out."""

from __future__ import annotations

import json
import subprocess

import pytest
import requests
from msgspec.structs import fields

from neev_provider import __version__
from neev_provider.errors import ERRORS
from neev_provider.gateway import admin_keys, admin_spend, admin_teams
from neev_provider.gateway.admin import find_admin
from neev_provider.gateway.admin_words import KEY_WORDS, TEAM_WORDS
from neev_provider.openapi import admin as routes
from neev_provider.openapi import document, encoded
from tests.admin.conftest import Admin
from tests.admin.test_refusals import ROUTES
from tests.faults.house import running
from tests.proxy.serving import ROOT

SCHEMATHESIS = ROOT / ".venv-security" / "bin" / "st"
PARAMETERS = {
    "/key/list": admin_keys.KEY_LIST_PARAMETERS,
    "/team/list": admin_teams.TEAM_LIST_PARAMETERS,
    "/v2/team/list": admin_teams.TEAM_PAGE_PARAMETERS,
    "/spend/logs": admin_spend.LOG_PARAMETERS - {"user_id", "request_id"},  # refused
    "/spend/daily": admin_spend.DAILY_PARAMETERS,
    "/global/spend/report": admin_spend.REPORT_PARAMETERS - {"internal_user_id", "customer_id"},  # refused
}


@pytest.fixture(scope="module")
def admin(tmp_path_factory):
    """A gateway of its own: every list that is asked for is checked entry by entry, and others make many keys."""
    with running(tmp_path_factory.mktemp("openapi"), workers=1) as served:
        yield Admin(served)


class TestDocument:
    def test_the_one_in_the_repository_is_current(self):
        """`make openapi` writes it anew."""
        assert (ROOT / "docs" / "openapi.json").read_bytes() == encoded(__version__)

    def test_the_gateway_serves_it_without_a_key(self, admin):
        answer = admin.send("GET", "/openapi.json", key=None)
        assert answer.status_code == 200
        assert answer.json() == document(__version__)

    def test_it_names_no_host_and_no_key_of_this_gateway(self, admin):
        text = admin.send("GET", "/openapi.json", key=None).text
        for secret in (admin.served.key, admin.served.emulator_url, "127.0.0.1", str(ROOT)):
            assert secret not in text

    def test_every_reference_leads_somewhere(self):
        told = document(__version__)

        def references(node):
            if isinstance(node, dict):
                yield from [node["$ref"]] if isinstance(node.get("$ref"), str) else []
                for inner in node.values():
                    yield from references(inner)
            elif isinstance(node, list):
                for inner in node:
                    yield from references(inner)

        found = set(references(told))
        assert len(found) > 30
        for reference in found:
            _, part, kind, name = reference.split("/")
            assert name in told[part][kind], reference

    def test_every_error_is_in_it(self):
        schemas = document(__version__)["components"]["schemas"]
        for code, shape in ERRORS.items():
            error = schemas[f"Error{shape.status}"]["properties"]["error"]["properties"]
            assert code in error["code"]["enum"]
            assert shape.type in error["type"]["enum"]


class TestAdminRoutes:
    def test_all_of_them_are_in_it(self):
        told = {(route.method.upper(), path) for path, route in routes.ADMIN.items()}
        assert {(method, path.replace("{key}", "kabc")) for method, path in told} == set(ROUTES)
        for method, path in told:
            assert method in find_admin(path.replace("{key}", "kabc"))

    @pytest.mark.parametrize("path", PARAMETERS)
    def test_all_parameters_are(self, path):
        assert set(routes.ADMIN[path].query) == PARAMETERS[path]

    @pytest.mark.parametrize(
        ("body", "words"), [(routes.NewKey, KEY_WORDS), (routes.NewTeam, TEAM_WORDS)], ids=["key", "team"]
    )
    def test_all_attributes_are(self, body, words):
        assert {field.name for field in fields(body)} - {"team_id"} == set(words.attributes)


def with_names_from(admin) -> dict:
    """Return the document with names that exist, so that requests get past the look-up."""
    told = document(__version__)
    schemas = told["components"]["schemas"]
    schemas["ChatBody"]["properties"]["model"] = {"enum": ["house"]}
    schemas["SpeechBody"]["properties"]["model"] = {"enum": ["tts-1"]}
    key, team = admin.post("/key/generate")["token"], admin.post("/team/new")["team_id"]
    for name in ("KeyUpdate", "KeyRegeneration", "KeyName"):
        schemas[name]["properties"]["key"] = {"enum": [key]}
    for name in ("TeamUpdate", "TeamName"):
        schemas[name]["properties"]["team_id"] = {"enum": [team]}
    return told


class TestConformance:
    def test_schemathesis_finds_no_answer_that_it_does_not_allow(self, admin, tmp_path):
        """The same requests each time."""
        file = tmp_path / "openapi.json"
        file.write_text(json.dumps(with_names_from(admin)))
        words = (
            *("run", str(file), "--url", admin.served.root_url),
            *("-H", f"Authorization: Bearer {admin.served.key}", "--generation-deterministic"),
            *("--phases", "examples,coverage,fuzzing", "-n", "5", "--no-shrink", "--no-color"),
        )
        command = [str(SCHEMATHESIS), "--config-file", str(ROOT / "tests/security/schemathesis.toml"), *words]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
        assert run.returncode == 0, run.stdout[-6000:] + run.stderr
        operations = sum(len(path) for path in document(__version__)["paths"].values())
        assert f"Tested: {operations}" in run.stdout

    @pytest.mark.parametrize(
        "path", ["/v1/chat/completions", "/v1/models", "/key/list", "/healthz", "/openapi.json"]
    )
    def test_a_405_says_what_is_allowed(self, admin, path):
        answer = requests.request("TRACE", admin.served.root_url + path, timeout=10)
        assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
        assert answer.headers["allow"] in {"POST", "GET, HEAD"}
