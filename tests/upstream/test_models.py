"""Upstream's list of models."""

from __future__ import annotations

import pytest

from neev_provider.errors import NeevError
from neev_provider.upstream import NO_RETRIES


@pytest.fixture
def upstream(make_upstream):
    return make_upstream(retry=NO_RETRIES)


async def failure_of(call) -> NeevError:
    with pytest.raises(NeevError) as caught:
        await call
    return caught.value


async def test_is_fetched_with_our_key(server, play, upstream):
    entry = {"id": "glm-4-7", "object": "model", "created": 1700000000, "owned_by": "Zhipu AI"}
    server.play(play.http(200, {"object": "list", "data": [entry | {"more": 1}]}))
    assert await upstream.models(server.deployment()) == [entry]
    (request,) = server.requests
    assert (request.method, request.path, request.body) == ("GET", "/v1/models", b"")
    assert request.headers["authorization"].startswith("Bearer sk-nc-")
    assert "content-type" not in request.headers


async def test_odd_entries_are_mended_or_left_out(server, play, upstream):
    data = [
        {"id": "a", "created": None, "owned_by": None},
        {"id": "b", "created": "yesterday", "owned_by": 5},
        {"id": "c", "created": -1},
        {"id": "d", "created": True},
        {"id": ""},
        {"id": None},
        {},
        None,
        "e",
        {"id": "a", "created": 7},
    ]
    server.play(play.http(200, {"data": data}))
    models = await upstream.models(server.deployment())
    assert models == [{"id": x, "object": "model", "created": 0, "owned_by": ""} for x in "abcd"]


@pytest.mark.parametrize(
    "body", [{}, {"data": None}, {"data": {}}, [], "x", b"<html>", b"", b'{"data": ["\\ud800"]}']
)
async def test_that_is_none_is_a_bad_response(server, play, upstream, body):
    server.play(play.http(200, body))
    assert (await failure_of(upstream.models(server.deployment()))).code == "upstream_bad_response"


async def test_error_with_status_200_is_that_error(server, play, upstream):
    server.play(play.http(200, {"error": {"message": "slow down", "code": 429}}))
    assert (await failure_of(upstream.models(server.deployment()))).code == "upstream_rate_limited"


async def test_refused_account_is_not_the_clients_401(server, play, upstream):
    server.play(play.error(401))
    error = await failure_of(upstream.models(server.deployment()))
    assert (error.status, error.code) == (502, "upstream_auth_error")
