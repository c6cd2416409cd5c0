"""The control routes: faults for everybody, what really happened, the last requests."""

from __future__ import annotations

import json

import pytest

from neev_provider import Catalog
from neev_provider.emulator.app import create_app
from neev_provider.emulator.echo import EchoEngine
from neev_provider.emulator.faults import FAULTS
from neev_provider.emulator.stats import key_label


async def put(call, emulator, **body):
    return await call.send(emulator, "PUT", "/_emulator/faults", json=body)


async def test_a_fault_for_everybody_and_its_end(call, emulator):
    assert (await put(call, emulator, fault="status=503")).body == {
        "faults": [{"fault": "status=503", "model": None, "remaining": None}]
    }
    assert (await call.chat(emulator)).status == 503
    assert (await call.chat(emulator, fault="none")).status == 200
    assert (await call.send(emulator, "DELETE", "/_emulator/faults")).status == 204
    assert (await call.chat(emulator)).status == 200


async def test_a_fault_for_one_model_a_number_of_times(call, emulator):
    await put(call, emulator, fault="status=503", model="kimi-k3", times=1)
    assert (await call.chat(emulator)).status == 200
    assert [(await call.chat(emulator, model="kimi-k3")).status for _ in range(2)] == [503, 200]
    rules = (await call.get(emulator, "/_emulator/faults")).body["faults"]
    assert rules == [{"fault": "status=503", "model": "kimi-k3", "remaining": 0}]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"fault": "bogus"}, "fault"),
        ({"fault": 5}, "fault"),
        ({}, "fault"),
        ({"fault": "stall", "times": 0}, "times"),
        ({"fault": "stall", "model": 5}, "model"),
        ({"fault": "stall", "time": 5}, "time"),
    ],
)
async def test_a_wrong_fault_changes_nothing(call, emulator, body, param):
    answer = await put(call, emulator, **body)
    assert (answer.status, answer.body["error"]["param"]) == (400, param)
    assert (await call.get(emulator, "/_emulator/faults")).body == {"faults": []}


async def test_the_overview_lists_every_fault(call, emulator):
    about = (await call.get(emulator, "/_emulator")).body
    assert (about["engine"], about["quirks"]) == ("echo", "none")
    assert [row["fault"] for row in about["known_faults"]] == [kind.usage for kind in FAULTS]


async def test_stats_over_http_are_those_of_the_helper_and_can_be_cleared(call, emulator):
    await call.chat(emulator, "a b")
    assert (await call.get(emulator, "/_emulator/stats")).body == emulator.stats()
    assert (await call.send(emulator, "DELETE", "/_emulator/stats")).status == 204
    assert emulator.stats()["total"]["requests"] == 0
    assert emulator.requests() == []


async def test_the_last_requests_show_all_but_secrets(call, emulator):
    await call.chat(emulator, "a b", fault="no-usage")
    (request,) = (await call.get(emulator, "/_emulator/requests")).body["requests"]
    assert request["path"] == "/v1/chat/completions"
    assert request["body"]["messages"][0]["content"] == "a b"
    assert request["headers"]["x-neev-fault"] == "no-usage"
    assert request["key"] == key_label(emulator.api_key)
    assert (request["status"], request["ending"], request["fault"]) == (200, "complete", "no-usage")
    assert emulator.api_key not in json.dumps(request)


async def test_only_the_last_200_requests_are_kept_and_large_bodies_are_not(call, emulator):
    await call.chat(emulator, "x" * 100_000)
    assert 100_000 < emulator.requests()[-1]["body"]["omitted_bytes"] < 100_200
    for _ in range(200):
        await call.get(emulator, "/v1/models")
    kept = emulator.requests()
    assert len(kept) == 200
    assert {request["path"] for request in kept} == {"/v1/models"}


async def test_what_is_not_json_is_kept_as_text(call, emulator):
    await call.send(emulator, "POST", "/v1/chat/completions", data=b"{broken")
    assert emulator.requests()[-1]["body"] == "{broken"


async def test_unknown_control_routes_are_404(call, emulator):
    assert (await call.get(emulator, "/_emulator/nothing")).status == 404
    assert (await call.send(emulator, "POST", "/_emulator/stats")).status == 404


async def test_one_delete_forgets_everything(call, emulator):
    emulator.set_fault("status=503")
    await call.chat(emulator)
    assert (await call.send(emulator, "DELETE", "/_emulator")).status == 204
    assert (await call.get(emulator, "/_emulator/faults")).body == {"faults": []}
    assert emulator.requests() == []


@pytest.mark.parametrize(
    ("client", "status"),
    [
        (("127.0.0.1", 1), 200),
        (("127.8.8.8", 1), 200),
        (("::1", 1), 200),
        (("::ffff:127.0.0.1", 1), 200),
        (None, 200),
        (("10.0.0.7", 1), 403),
        (("::ffff:10.0.0.7", 1), 403),
        (("testclient", 1), 403),
    ],
)
async def test_control_routes_answer_to_this_machine_only(client, status):
    app = create_app(EchoEngine(), catalog=Catalog.load())
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/_emulator/stats", "headers": [], "client": client}
    await app(scope, receive, send)
    assert sent[0]["status"] == status
