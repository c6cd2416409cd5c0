"""Retries as an upstream sees them: before the first byte only."""

from __future__ import annotations

import socket

import pytest

from neev_provider.errors import NeevError
from neev_provider.retry import RetryPolicy
from neev_provider.upstream import Timeouts
from neev_provider.wire import Pool

BODY = b'{"model":"m","messages":[]}'


class Seen:
    """Events, in order."""

    def __init__(self):
        self.events = []

    def on_attempt(self, deployment, error, seconds):
        assert seconds >= 0
        self.events.append(("attempt", deployment.name, error and error.code))

    def on_retry(self, deployment, error, delay):
        self.events.append(("retry", deployment.name, delay))

    def on_retry_denied(self, deployment, error):
        self.events.append(("denied", deployment.name, error.code))


async def failure_of(call) -> NeevError:
    with pytest.raises(NeevError) as caught:
        await call
    return caught.value


async def breaks(exchange):
    exchange.close()


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_an_answer_that_may_pass_is_asked_for_again(server, play, upstream, fake_time, status):
    server.play(play.error(status), play.completion())
    assert (await upstream.chat(server.deployment(), BODY)).status == 200
    assert [request.body for request in server.requests] == [BODY, BODY]
    assert fake_time.slept == [0.25]


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422, 302])
async def test_an_answer_that_will_not_pass_is_not(server, play, upstream, status):
    server.play(play.error(status))
    await failure_of(upstream.chat(server.deployment(), BODY))
    assert len(server.requests) == 1


async def test_a_connection_that_breaks_before_the_status_is_made_again(server, play, upstream):
    server.play(breaks, play.completion())
    assert (await upstream.chat(server.deployment(), BODY)).status == 200


async def test_a_host_that_cannot_be_reached_is_tried_again(server, upstream, fake_time, unused_tcp_port):
    deployment = server.deployment(base_url=f"http://127.0.0.1:{unused_tcp_port}")
    assert (await failure_of(upstream.chat(deployment, BODY))).code == "upstream_unavailable"
    assert fake_time.slept == [0.25, 0.5]


async def test_a_name_that_does_not_resolve_is_tried_again(server, play, make_upstream, fake_time):
    async def resolve(host):
        if not fake_time.slept:
            raise socket.gaierror("Temporary failure in name resolution")
        return "127.0.0.1"

    upstream = make_upstream(pool=Pool(resolve=resolve))
    server.play(play.completion())
    deployment = server.deployment(base_url=server.base_url.replace("127.0.0.1", "name.test"))
    assert (await upstream.chat(deployment, BODY)).status == 200


async def test_the_last_failure_is_the_one_that_is_raised(server, play, upstream):
    server.play(breaks, play.error(503), play.error(429, "third"))
    error = await failure_of(upstream.chat(server.deployment(), BODY))
    assert (error.upstream_status, error.message) == (429, "third")
    assert len(server.requests) == 3


async def test_500_is_asked_once_more(server, play, upstream):
    server.play(play.error(500))
    await failure_of(upstream.chat(server.deployment(), BODY))
    assert len(server.requests) == 2


async def test_retry_after_is_waited_for(server, play, upstream, fake_time):
    server.play(play.error(429, retry_after="3"), play.completion())
    await upstream.chat(server.deployment(), BODY)
    assert fake_time.slept == [3.25]


async def test_a_long_retry_after_is_passed_on_at_once(server, play, upstream, fake_time):
    server.play(play.error(429, retry_after="31"))
    error = await failure_of(upstream.chat(server.deployment(), BODY))
    assert (error.retry_after, fake_time.slept, len(server.requests)) == (31, [], 1)


async def test_a_wait_beyond_the_total_is_not_begun(server, play, upstream, fake_time):
    server.play(play.error(429, retry_after="3"))
    timeouts = Timeouts(total=3.2)
    error = await failure_of(upstream.chat(server.deployment(), BODY, timeouts=timeouts))
    assert (error.retry_after, fake_time.slept, len(server.requests)) == (3, [], 1)


async def test_nothing_is_asked_for_again_after_the_status(server, play, upstream):
    async def cut(exchange):
        await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{")
        exchange.close()

    async def cut_stream(exchange):
        await exchange.send(play.head() + play.chunks(play.EVENT, end=False))
        exchange.close()

    server.play(cut, cut_stream)
    await failure_of(upstream.chat(server.deployment(), BODY))
    async with await upstream.open_stream(server.deployment(), lambda _: BODY) as stream:
        with pytest.raises(NeevError):
            async for _ in stream:
                pass
    assert len(server.requests) == 2


async def test_a_timeout_is_not_tried_again(server, upstream, fast):
    server.play(lambda exchange: exchange.gone())
    await failure_of(upstream.chat(server.deployment(), BODY, timeouts=fast))
    assert len(server.requests) == 1


async def test_streams_speech_and_models_are_retried_too(server, play, upstream):
    deployment = server.deployment()
    server.play(play.error(503), play.stream(play.DONE))
    await (await upstream.open_stream(deployment, lambda _: BODY)).aclose()
    server.requests.clear()
    server.play(play.error(503), play.http(200, b"ID3", "audio/mpeg"))
    await (await upstream.open_speech(deployment, BODY)).aclose()
    server.requests.clear()
    server.play(play.error(503), play.http(200, {"data": []}))
    assert await upstream.models(deployment) == []


async def test_a_storm_is_stopped_by_the_budget(server, play, make_upstream):
    upstream = make_upstream(retry=RetryPolicy(budget_floor=3), clock=lambda: 0.0)
    server.play(play.error(503))
    for _ in range(20):
        await failure_of(upstream.chat(server.deployment(), BODY))
    assert len(server.requests) == 20 + 3 + 2  # calls, floor, a tenth of the calls


async def test_one_host_s_storm_leaves_another_host_its_budget(server, play, make_upstream):
    upstream = make_upstream(retry=RetryPolicy(budget_floor=2), clock=lambda: 0.0)
    server.play(play.error(503))
    for _ in range(3):
        await failure_of(upstream.chat(server.deployment(), BODY))
    server.requests.clear()
    await failure_of(upstream.chat(server.deployment(base_url=server.address + "/other"), BODY))
    assert len(server.requests) == 3


async def test_events_tell_what_happened(server, play, make_upstream):
    seen = Seen()
    upstream = make_upstream(
        events=seen, retry=RetryPolicy(budget_floor=1, budget_ratio=0), clock=lambda: 0.0
    )
    server.play(play.error(503), play.completion(), play.error(429))
    await upstream.chat(server.deployment(), BODY)
    await failure_of(upstream.chat(server.deployment(), BODY))
    assert seen.events == [
        ("attempt", "test", "upstream_error"),
        ("retry", "test", 0.25),
        ("attempt", "test", None),
        ("attempt", "test", "upstream_rate_limited"),
        ("denied", "test", "upstream_rate_limited"),
    ]
