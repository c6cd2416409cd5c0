"""Whom the admin routes refuse, and what; strangers and key holders learn nothing from them."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.admin.conftest import Admin
from tests.gateway.conftest import own_config
from tests.proxy.serving import serving

POSTS = (
    "/key/generate", "/key/update", "/key/delete", "/key/block", "/key/unblock", "/key/regenerate", "/v2/key/info",
    "/key/kabc/regenerate", "/team/new", "/team/update", "/team/delete", "/team/block", "/team/unblock",
)  # fmt: skip
GETS = (
    "/key/info", "/key/list", "/team/info", "/team/list", "/v2/team/list", "/team/available", "/spend/keys",
    "/spend/logs", "/spend/daily", "/global/spend/report",
)  # fmt: skip
ROUTES = [("POST", path) for path in POSTS] + [("GET", path) for path in GETS]
OWN = "sk-" + "c0nfig" * 6
HUGE = "a number that no JSON writer writes"
UNKNOWN = "sk-neev-kabcdefghijkmn." + "A" * 43


class TestWhoMayCall:
    @pytest.mark.parametrize(("method", "path"), ROUTES)
    @pytest.mark.parametrize("key", [None, "nonsense", UNKNOWN])
    def test_nobody_without_a_key(self, admin, method, path, key):
        assert admin.refused(method, path, key=key)[:2] == (401, "invalid_api_key")

    @pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route[1] != "/key/info"])
    def test_no_virtual_key(self, admin, holder, method, path):
        answer = admin.send(method, path, key=holder)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["type"]) == (403, "admin_only", "permission_error")

    @pytest.fixture(scope="class")
    @classmethod
    def holder(cls, admin):
        return admin.post("/key/generate")["key"]

    def test_a_body_is_not_read_before(self, admin, holder):
        for key, status in ((None, 401), (holder, 403)):
            answer = admin.send("POST", "/key/generate", key=key, data=b"{" * 1000)
            assert answer.status_code == status

    def test_no_blocked_key_not_even_about_itself(self, admin):
        made = admin.post("/key/generate", blocked=True)
        assert admin.refused("GET", "/key/info", key=made["key"])[:2] == (401, "key_blocked")


class TestPaths:
    @pytest.mark.parametrize(("method", "path"), ROUTES)
    def test_another_method_is_a_405(self, admin, method, path):
        other = "GET" if method == "POST" else "DELETE"
        assert admin.refused(other, path)[:2] == (405, "method_not_allowed")

    @pytest.mark.parametrize(
        "path", [path for path in GETS if path in {"/key/list", "/team/list", "/spend/keys"}]
    )
    def test_head_is_a_get_without_its_body(self, admin, path):
        answer = admin.send("HEAD", path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert int(answer.headers["content-length"]) > 0

    @pytest.mark.parametrize(
        "path",
        [
            "/key", "/key/", "/key/generate/", "//key/generate", "/key//generate", "/key/%67enerate", "/KEY/generate",
            "/key/../key/generate", "/key/./generate", "/key/generate;x", "/key/generate%2f", "/v1/key/generate",
            "/key/a/b/regenerate", "/key/a%2fb/regenerate", "/key//regenerate", "/key/%2e%2e/regenerate",
            "/user/new", "/key/bulk_update", "/global/spend/reset",
        ],
    )  # fmt: skip
    def test_what_is_not_exactly_a_route_is_a_404(self, admin, path):
        import http.client

        host = admin.served.root_url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=20)  # sends the path as it is
        try:
            connection.request("POST", path, headers={"Authorization": f"Bearer {admin.served.key}"})
            answer = connection.getresponse()
            error = json.loads(answer.read())["error"]
        finally:
            connection.close()
        assert (answer.status, error["code"]) == (404, "unknown_url")


class TestFields:
    @pytest.mark.parametrize(
        ("fields", "code", "param"),
        [
            ({"rpm_limit": "5"}, "invalid_value", "rpm_limit"),
            ({"rpm_limit": 0}, "invalid_value", "rpm_limit"),
            ({"rpm_limit": 1.5}, "invalid_value", "rpm_limit"),
            ({"rpm_limit": True}, "invalid_value", "rpm_limit"),
            ({"tpm_limit": 10**30}, "invalid_value", "tpm_limit"),
            ({"max_parallel_requests": -1}, "invalid_value", "max_parallel_requests"),
            ({"max_budget": -1}, "invalid_value", "max_budget"),
            ({"max_budget": True}, "invalid_value", "max_budget"),
            ({"max_budget": "1_0"}, "invalid_value", "max_budget"),
            ({"max_budget": "NaN"}, "invalid_value", "max_budget"),
            ({"max_budget": "1" * 40}, "invalid_value", "max_budget"),
            ({"max_budget": 10**12}, "invalid_value", "max_budget"),
            ({"max_budget": [1]}, "invalid_value", "max_budget"),
            ({"budget_duration": "monthly"}, "invalid_value", "budget_duration"),
            ({"budget_duration": 30}, "invalid_value", "budget_duration"),
            ({"duration": "tomorrow"}, "invalid_value", "duration"),
            ({"duration": "11000d"}, "invalid_value", "duration"),
            ({"duration": 5}, "invalid_value", "duration"),
            ({"duration": ["1d"]}, "invalid_value", "duration"),
            ({"models": "house"}, "invalid_value", "models"),
            ({"models": [1]}, "invalid_value", "models"),
            ({"models": [["*"]]}, "invalid_value", "models"),
            ({"metadata": "x"}, "invalid_value", "metadata"),
            ({"metadata": {"x": HUGE}}, "invalid_value", "metadata"),
            ({"metadata": {"x": "x" * 20_000}}, "invalid_value", "metadata"),
            ({"blocked": "yes"}, "invalid_value", "blocked"),
            ({"key_alias": ""}, "invalid_value", "key_alias"),
            ({"key_alias": "a\nb"}, "invalid_value", "key_alias"),
            ({"key_alias": 5}, "invalid_value", "key_alias"),
            ({"team_id": 5}, "invalid_type", "team_id"),
            ({"team_id": "nosuchteam"}, "team_not_found", "team_id"),
            ({"team_id": "{x}"}, "team_not_found", "team_id"),
            ({"team_id": "t" * 600}, "invalid_value", "team_id"),
            ({"alias": "x"}, "unsupported_parameter", "alias"),
            ({"expires": "2030-01-01"}, "unsupported_parameter", "expires"),
            ({"x" * 100: 1}, "unsupported_parameter", "x" * 60 + "…"),
        ],
    )  # fmt: skip
    def test_a_wrong_one_is_named(self, admin, fields, code, param):
        body = json.dumps(fields).replace(json.dumps(HUGE), "1e999")
        answer = admin.send("POST", "/key/generate", data=body, headers={"Content-Type": "application/json"})
        error = answer.json()["error"]
        assert answer.status_code == (404 if code == "team_not_found" else 400)
        assert (error["code"], error["param"]) == (code, param)
        if code != "team_not_found":
            assert f"'{param}'" in error["message"]

    def test_a_number_without_a_fraction_is_whole_however_it_is_written(self, admin):
        assert admin.post("/key/generate", rpm_limit=60.0)["rpm_limit"] == 60

    @pytest.mark.parametrize("written", ["0.0000000001", "1.0000000000000000000000000000000000001", "1e999999999",
                                         "1e-999999999", "123456789012345678901234567890.1"])  # fmt: skip
    def test_money_that_is_none_is_refused(self, admin, written):
        body = f'{{"max_budget": {written}}}'
        words = {"data": body, "headers": {"Content-Type": "application/json"}}
        assert admin.refused("POST", "/key/generate", **words) == (400, "invalid_value", "max_budget")

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("aliases", {"a": "b"}), ("config", {"a": 1}), ("permissions", {"a": True}), ("user_id", "ada"),
            ("budget_id", "b"), ("tags", ["a"]), ("guardrails", ["g"]), ("soft_budget", 1.0), ("soft_budget", 0),
            ("tpd_limit", 0), ("key", "sk-mine"), ("spend", 1.5), ("key_type", "management"), ("auto_rotate", True),
            ("model_max_budget", {"house": {"budget_limit": 1}}), ("allowed_routes", ["/x"]),
        ],
    )  # fmt: skip
    def test_what_would_be_of_no_effect_is_refused(self, admin, field, value):
        assert admin.refused("POST", "/key/generate", json={field: value}) == (
            400,
            "unsupported_parameter",
            field,
        )

    def test_spend_cannot_be_set_back(self, admin):
        body = {"key": admin.post("/key/generate")["token"], "spend": 0}
        assert admin.refused("POST", "/key/update", json=body) == (400, "unsupported_parameter", "spend")

    def test_an_alias_that_is_taken_is_refused_by_its_field(self, admin):
        admin.post("/key/generate", key_alias="taken")
        body = {"key_alias": "taken"}
        assert admin.refused("POST", "/key/generate", json=body) == (400, "invalid_value", "key_alias")

    @pytest.mark.parametrize(
        ("path", "body", "code", "param"),
        [
            ("/key/update", {}, "missing_required_parameter", "key"),
            ("/key/update", {"key": 5}, "invalid_type", "key"),
            ("/key/update", {"key": "knothere"}, "key_not_found", "key"),
            ("/key/update", {"key": UNKNOWN}, "key_not_found", "key"),
            ("/key/update", {"key": "0" * 64}, "key_not_found", "key"),
            ("/key/update", {"key": "../../x"}, "key_not_found", "key"),
            ("/key/update", {"key": "a" * 600}, "invalid_value", "key"),
            ("/key/block", {}, "missing_required_parameter", "key"),
            ("/key/block", {"key": "knothere", "x": 1}, "unsupported_parameter", "x"),
            ("/key/unblock", {"key": "knothere"}, "key_not_found", "key"),
            ("/key/regenerate", {}, "missing_required_parameter", "key"),
            ("/key/knothere/regenerate", {}, "key_not_found", "key"),
            ("/key/delete", {}, "missing_required_parameter", "keys"),
            ("/key/delete", {"keys": []}, "missing_required_parameter", "keys"),
            ("/key/delete", {"keys": "kabc"}, "invalid_type", "keys"),
            ("/key/delete", {"keys": [5]}, "invalid_type", "keys"),
            ("/key/delete", {"keys": ["k"] * 1001}, "invalid_value", "keys"),
            ("/key/delete", {"keys": ["k"], "all": True}, "unsupported_parameter", "all"),
            ("/v2/key/info", {"keys": ["knothere"]}, "key_not_found", "keys"),
        ],
    )
    def test_a_key_must_be_named_rightly(self, admin, path, body, code, param):
        status = 404 if code == "key_not_found" else 400
        assert admin.refused("POST", path, json=body) == (status, code, param)

    @pytest.mark.parametrize(
        ("path", "query", "param"),
        [
            ("/key/info", "", "key"),
            ("/key/info", "key=a&key=b", "key"),
            ("/key/info", "hash=a", "hash"),
            ("/key/list", "page=0", "page"),
            ("/key/list", "page=1e3", "page"),
            ("/key/list", "page=" + "9" * 50, "page"),
            ("/key/list", "page=%C2%B2", "page"),
            ("/key/list", "size=101", "size"),
            ("/key/list", "sort_by=secret", "sort_by"),
            ("/key/list", "sort_order=up", "sort_order"),
            ("/key/list", "status=any", "status"),
            ("/key/list", "return_full_object=maybe", "return_full_object"),
            ("/key/list", "include_team_keys=2", "include_team_keys"),
            ("/key/list", "owner=x", "owner"),
            ("/key/list", "&".join(f"a{n}=1" for n in range(200)), None),
            ("/team/info", "", "team_id"),
            ("/v2/team/list", "page_size=0", "page_size"),
            ("/v2/team/list", "status=blocked", "status"),
            ("/team/available", "x=1", "x"),
        ],
    )
    def test_a_wrong_query_is_a_400(self, admin, path, query, param):
        status, _, named = admin.refused("GET", f"{path}?{query}")
        assert (status, named) == (400, param)


class TestBodies:
    @pytest.mark.parametrize(
        ("body", "code"),
        [
            (b"{", "invalid_json"),
            (b'{"max_budget": 1,}', "invalid_json"),
            (b'{"metadata": {"x": nope}}', "invalid_json"),
            (b'{"key_alias": "\xff"}', "invalid_json"),
            (b"[]", "invalid_type"),
            (b'"x"', "invalid_type"),
            (b"null", "invalid_type"),
            (b'{"metadata": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json"),
        ],
    )
    def test_one_that_is_no_json_object_is_refused(self, admin, body, code):
        words = {"data": body, "headers": {"Content-Type": "application/json"}}
        assert admin.refused("POST", "/key/generate", **words) == (400, code, None)

    def test_one_that_is_too_large_is_refused(self, admin):
        words = {"data": b" " * 10_000_001, "headers": {"Content-Type": "application/json"}}
        assert admin.refused("POST", "/key/generate", **words)[:2] == (413, "request_too_large")

    def test_a_form_is_refused(self, admin):
        assert admin.refused("POST", "/key/generate", data={"rpm_limit": "5"})[:2] == (
            415,
            "unsupported_media_type",
        )


class TestAnswers:
    @pytest.mark.parametrize(
        ("method", "path"), [("POST", "/key/generate"), ("GET", "/key/list"), ("GET", "/key/info")]
    )
    def test_no_cache_keeps_one(self, admin, method, path):
        for key in ("master", None):
            assert admin.send(method, path, key=key).headers["cache-control"] == "no-store"

    def test_the_log_shows_no_secret_of_a_path(self, admin):
        made = admin.post("/key/generate")
        secret = made["key"].partition(".")[2]
        for path in (f"/key/{made['key']}/regenerate", f"/key/info?key={made['key']}", f"/{made['key']}"):
            answer = admin.send("POST" if "regenerate" in path else "GET", path)
            assert answer.status_code in {200, 404}
        assert secret not in admin.served.log()


@pytest.fixture(scope="module")
def without_store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("no-store")
    file = own_config(folder)
    document = yaml.safe_load(file.read_text())
    document.setdefault("neev", {})["keys"] = [{"alias": "own", "key": "os.environ/OWN_KEY"}]
    file.write_text(yaml.safe_dump(document))
    words = ("--no-litellm", "--engine", "echo", "--store", "none")
    environ = {"OWN_KEY": OWN}
    with serving(folder, *words, "--upstream", "emulator", config=file, environ=environ) as running:
        yield Admin(running)


class TestWithoutAStore:
    @pytest.mark.parametrize(
        ("method", "path"), [("POST", "/key/generate"), ("GET", "/key/list"), ("POST", "/team/new"),
                             ("GET", "/spend/keys"), ("GET", "/key/info")]
    )  # fmt: skip
    def test_the_operator_is_told_why_there_are_no_keys(self, without_store, method, path):
        answer = without_store.send(method, path)
        assert answer.status_code == 400
        assert "need a store" in answer.json()["error"]["message"]

    def test_a_stranger_is_not(self, without_store):
        assert without_store.refused("POST", "/key/generate", key="x")[:2] == (401, "invalid_api_key")

    def test_a_key_of_the_configuration_reads_about_itself_only(self, without_store):
        for query in ({}, {"key": OWN}, {"key": "own"}):
            told = without_store.send("GET", "/key/info", key=OWN, params=query).json()
            assert (told["key"], told["info"]["key_alias"]) == ("own", "own")
            assert OWN not in json.dumps(told)
        words = {"key": OWN, "params": {"key": "other"}}
        assert without_store.refused("GET", "/key/info", **words) == (403, "admin_only", None)
        assert without_store.refused("GET", "/key/list", key=OWN) == (403, "admin_only", None)
