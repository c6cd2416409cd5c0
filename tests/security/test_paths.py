"""Paths that try to be read twice."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from tests.server.wire import Wire, get

IDS = {
    "traversal": "../../etc/passwd",
    "encoded traversal": "..%2f..%2fetc%2fpasswd",
    "encoded dots": "%2e%2e/%2e%2e/key/list",
    "double encoding": "%252e%252e%252fkey%252flist",
    "overlong UTF-8": "%c0%ae%c0%ae%c0%af",
    "backslashes": "..%5c..%5cx",
    "an encoded NUL": "house%00",
    "an encoded NUL and more": "house%00.json",
    "encoded line ends": "house%0d%0aX-Injected:%20yes",
    "an escape sequence": "%1b%5b2Jhouse",
    "no UTF-8": "%ff%fe",
    "a lone surrogate": "%ed%a0%80",
    "half an escape": "%",
    "no escape": "%zz",
    "5,000 characters": "x" * 5000,
    "5,000 encoded characters": "%41" * 5000,
    "a template": "${jndi:ldap:%2f%2fx}",
    "a quote": "%22%7D,%7B%22a%22",
    "markup": "%3Cscript%3E",
    "parameters": "house;admin=true",
    "a slash at the end": "house/",
    "slashes before": "//house",
    "another case": "HOUSE",
    "a wildcard": "*",
    "a full-width letter": "%EF%BD%88ouse",
    "a blank at the end": "house%20",
}
ROUTES = {
    "an admin route behind a public one": "/healthz/../key/list",
    "an admin route, encoded": "/%6bey/list",
    "an admin route behind the API": "/v1/../key/list",
    "an admin route behind a model": "/v1/models/..%2f..%2fkey/list",
    "an admin route with parameters": "/key/list;x",
    "an admin route in upper case": "/KEY/LIST",
    "an admin route behind slashes": "//key/list",
    "an admin route with a backslash": "/key%5clist",
    "an admin route with NUL": "/key/list%00",
    "LiteLLM's own": "/v1/../config/yaml",
    "LiteLLM's health": "/health",
    "LiteLLM's page": "/ui/",
    "LiteLLM's document": "/docs",
    "files": "/../../../../etc/passwd",
    "an environment": "/proc/self/environ",
    "metrics": "/metrics",
}


def ask(admin, target: str, key: str):
    with Wire(urlsplit(admin.served.root_url).port) as wire:
        answer = wire.send(get(target, f"Authorization: Bearer {key}")).answer()
        assert wire.send(get("/healthz")).answer().json() == {"status": "ok"}
        return answer


@pytest.mark.parametrize("name", IDS.values(), ids=IDS)
def test_a_models_id_is_matched_exactly_or_not_at_all(admin, holder, name):
    answer = ask(admin, f"/v1/models/{name}", holder)
    assert answer.error == (404, "model_not_found")
    assert len(answer.body) < 600
    assert "x-injected" not in answer.headers
    assert "\x1b" not in answer.body.decode()


def test_an_id_that_is_encoded_is_the_same_id(admin, holder):
    assert ask(admin, "/v1/models/%68ouse", holder).json()["id"] == "house"


@pytest.mark.parametrize("target", ROUTES.values(), ids=ROUTES)
def test_no_other_way_leads_to_a_route(admin, target):
    answer = ask(admin, target, admin.served.key)
    assert answer.status == 404
    assert answer.error[1] in {"unknown_url", "model_not_found"}


def test_the_log_takes_none_of_it_for_its_own(admin, holder):
    for name in IDS.values():
        ask(admin, f"/v1/models/{name}", holder)
    lines = admin.served.log().split("\n")
    assert max(map(len, lines)) < 1500
    assert not [line for line in lines if line.startswith("X-Injected")]
    assert "\x1b" not in "".join(lines)
    assert "\0" not in "".join(lines)
