"""A chat call: what is sent, what comes back, and every way in which it can fail."""

from __future__ import annotations

import asyncio
import gzip
import logging
import socket
import tracemalloc

import pytest

from neev_provider import __version__
from neev_provider.errors import NeevError
from neev_provider.upstream import NO_RETRIES, Timeouts, Upstream
from neev_provider.wire import Pool

BODY = b'{"model":"m","messages":[]}'
KEY = "sk-nc-0123456789abcdef"


async def failure_of(call) -> NeevError:
    with pytest.raises(NeevError) as caught:
        await call
    return caught.value


@pytest.fixture
def upstream(make_upstream):
    return make_upstream(retry=NO_RETRIES)


class TestAnswer:
    async def test_is_upstream_s_body_byte_for_byte(self, server, play, upstream):
        body = b'{ "choices" : [], "odd": 1.0e5 }\n'
        server.play(play.http(200, body, x_trace="abc"))
        response = await upstream.chat(server.deployment(), BODY)
        assert (response.status, response.body) == (200, body)
        assert response.headers["X-Trace"] == "abc"
        assert bytes(response.fields["odd"]) == b"1.0e5"

    async def test_may_be_chunked_and_compressed(self, server, play, upstream):
        body = b'{"choices": []}'
        packed = gzip.compress(body)
        server.play(
            play.head("application/json", content_encoding="gzip") + play.chunks(packed[:9], packed[9:])
        )
        assert (await upstream.chat(server.deployment(), BODY)).body == body

    async def test_may_take_many_reads(self, server, play, upstream):
        body = b'{"choices": ["' + b"x" * 3_000_000 + b'"]}'
        server.play(play.http(200, body))
        assert (await upstream.chat(server.deployment(), BODY)).body == body

    async def test_may_end_with_the_connection(self, server, upstream):
        async def until_close(exchange):
            await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{}")
            exchange.close()

        server.play(until_close)
        assert (await upstream.chat(server.deployment(), BODY)).body == b"{}"


class TestRequest:
    async def test_has_our_key_and_headers_and_the_body_as_given(self, server, play, upstream):
        server.play(play.completion())
        await upstream.chat(server.deployment(headers={"x-extra": "1"}), BODY)
        (request,) = server.requests
        assert (request.method, request.path, request.body) == ("POST", "/v1/chat/completions", BODY)
        assert request.headers == {
            "host": server.address.removeprefix("http://"),
            "authorization": f"Bearer {KEY}",
            "user-agent": f"neev-provider/{__version__}",
            "accept": "*/*",
            "accept-encoding": "identity",
            "content-type": "application/json",
            "content-length": str(len(BODY)),
            "x-extra": "1",
        }

    async def test_may_be_large(self, server, play, upstream):
        body = b'{"messages": ["' + b"x" * 5_000_000 + b'"]}'
        server.play(play.completion())
        await upstream.chat(server.deployment(), body)
        assert server.requests[0].body == body

    async def test_carries_no_cookie_of_an_earlier_answer(self, server, play, upstream):
        server.play(play.http(200, b"{}", set_cookie="session=1; Path=/"))
        # By name: cookies of bare addresses are dropped anyway.
        deployment = server.deployment(base_url=server.base_url.replace("127.0.0.1", "localhost"))
        for _ in range(2):
            await upstream.chat(deployment, BODY)
        assert "cookie" not in server.requests[1].headers

    async def test_ignores_proxies_and_netrc_of_the_environment(
        self, server, play, upstream, monkeypatch, tmp_path
    ):
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        server.play(play.completion())
        await upstream.chat(server.deployment(), BODY)
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"

    async def test_goes_out_on_the_connection_of_the_one_before(self, server, play, upstream):
        server.play(
            play.completion(), play.error(400), play.error(503), play.stream(play.DONE), play.completion()
        )
        deployment = server.deployment()
        await upstream.chat(deployment, BODY)
        for _ in range(2):
            await failure_of(upstream.chat(deployment, BODY))
        async with await upstream.open_stream(deployment, lambda _: BODY) as stream:
            assert [data async for data in stream]
        await upstream.chat(deployment, BODY)
        assert server.connections == 1


class TestErrorAnswers:
    @pytest.mark.parametrize(
        ("sent", "status", "code"),
        [
            (400, 400, "invalid_request"),
            (401, 502, "upstream_auth_error"),
            (402, 502, "upstream_auth_error"),
            (403, 502, "upstream_auth_error"),
            (404, 404, "model_not_found"),
            (413, 413, "request_too_large"),
            (429, 429, "upstream_rate_limited"),
            (500, 502, "upstream_error"),
            (503, 502, "upstream_error"),
            (201, 502, "upstream_bad_response"),
            (204, 502, "upstream_bad_response"),
            (206, 502, "upstream_bad_response"),
        ],
    )
    async def test_are_mapped_by_the_one_table(self, server, play, upstream, sent, status, code):
        server.play(play.http(sent) if sent == 204 else play.error(sent, "told you"))
        error = await failure_of(upstream.chat(server.deployment(), BODY))
        assert (error.status, error.code, error.upstream_status) == (status, code, sent)

    async def test_keep_retry_after(self, server, play, upstream):
        server.play(play.error(429, retry_after="7"))
        assert (await failure_of(upstream.chat(server.deployment(), BODY))).retry_after == 7

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_redirects_are_never_followed(self, server, play, upstream, status):
        server.play(play.http(status, location=f"{server.address}/elsewhere"))
        error = await failure_of(upstream.chat(server.deployment(), BODY))
        assert (error.status, error.code) == (502, "upstream_bad_response")
        assert len(server.requests) == 1

    async def test_a_refused_account_is_logged_loudly_without_the_key(self, server, play, upstream, caplog):
        server.play(play.error(401, f"bad key {KEY}"))
        error = await failure_of(upstream.chat(server.deployment(name="team-a"), BODY))
        (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert record.getMessage() == "deployment team-a: upstream refuses our account with status 401"
        assert KEY not in caplog.text + error.message

    async def test_a_huge_error_body_is_read_in_part_and_not_waited_for(self, server, play, upstream):
        async def endless(exchange):
            await exchange.send(
                b"HTTP/1.1 500 X\r\ncontent-type: text/html\r\ncontent-length: 999999999\r\n\r\n"
            )
            try:
                while True:
                    await exchange.send(b"x" * 65536)
            except ConnectionError:
                exchange.close()

        server.play(endless)
        assert (await failure_of(upstream.chat(server.deployment(), BODY))).upstream_status == 500
        await server.all_closed()

    async def test_an_error_body_that_stalls_or_is_cut_still_gives_its_status(
        self, server, play, upstream, fast
    ):
        async def stalls(exchange):
            await exchange.send(b"HTTP/1.1 400 X\r\ncontent-length: 99\r\n\r\n{")
            await exchange.gone()

        async def cuts(exchange):
            await exchange.send(b"HTTP/1.1 503 X\r\ncontent-length: 99\r\n\r\n{")
            exchange.close()

        server.play(stalls, cuts)
        for status in (400, 503):
            error = await failure_of(upstream.chat(server.deployment(), BODY, timeouts=fast))
            assert error.upstream_status == status

    async def test_an_answer_before_the_request_was_read_is_the_answer(self, server, play, upstream):
        # A server that refuses a large upload by its length.
        async def refuse(exchange):
            await exchange.send(play.error(413, connection="close"))
            await exchange.gone()
            exchange.close()

        server.play(refuse)
        server.reads_bodies = False
        error = await failure_of(upstream.chat(server.deployment(), b"x" * 20_000_000))
        assert error.upstream_status == 413


class TestUnusableAnswers:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html><body>Welcome to nginx</body></html>",
            b'{"choices": [',
            b"[]",
            b'"text"',
            b"null",
            b"{} trailing",
            b"[" * 100_000,
            b'{"a": ' * 100_000,
            b"\xff\xfe",
            b'{"error": "\\ud800"}',
            b'{"error": {"message": "\xff"}}',
        ],
        ids=lambda body: repr(body[:12]),
    )
    async def test_a_body_that_is_no_json_object(self, server, play, upstream, body):
        server.play(play.http(200, body))
        error = await failure_of(upstream.chat(server.deployment(), BODY))
        assert (error.status, error.code) == (502, "upstream_bad_response")
        assert error.message == "The model provider's answer is not a JSON object."

    async def test_an_error_object_with_status_200_is_that_error(self, server, play, upstream):
        server.play(play.http(200, {"error": {"message": "slow down", "code": 429}}))
        assert (await failure_of(upstream.chat(server.deployment(), BODY))).code == "upstream_rate_limited"

    async def test_a_null_error_beside_an_answer_is_none(self, server, play, upstream):
        server.play(play.http(200, {"choices": [], "error": None}))
        assert (await upstream.chat(server.deployment(), BODY)).status == 200

    async def test_a_body_that_is_cut(self, server, upstream):
        async def cut(exchange):
            await exchange.send(b'HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{"choices": [')
            exchange.close()

        async def reset(exchange):
            await exchange.send(b'HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{"choices": [')
            exchange.reset()

        server.play(cut, reset)
        for _ in range(2):
            error = await failure_of(upstream.chat(server.deployment(), BODY))
            assert (error.status, error.code) == (502, "upstream_bad_response")
            assert error.message == "The model provider's answer broke off before its end."

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n{}\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
            b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 20_000 + b"\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 2_000 + b"\r\n",
            b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
            b"HTTP/1.1 twohundred OK\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.2p1\r\n",
            b"\x16\x03\x01\x02\x00",
        ],
        ids=lambda answer: repr(answer[:40]),
    )
    async def test_malformed_http(self, server, upstream, answer):
        async def malformed(exchange):
            await exchange.send(answer)
            await exchange.gone()

        server.play(malformed)
        error = await failure_of(upstream.chat(server.deployment(), BODY))
        assert (error.status, error.code) == (502, "upstream_bad_response")
        await server.all_closed()

    async def test_a_compressed_body_that_is_cut(self, server, play, upstream):
        server.play(play.http(200, gzip.compress(b'{"choices": []}')[:20], content_encoding="gzip"))
        assert (await failure_of(upstream.chat(server.deployment(), BODY))).code == "upstream_bad_response"

    async def test_a_body_above_the_bound(self, server, play, make_upstream):
        upstream = make_upstream(retry=NO_RETRIES, max_body_bytes=1000)
        server.play(play.http(200, b'{"a": "' + b"x" * 2000 + b'"}'))
        error = await failure_of(upstream.chat(server.deployment(), BODY))
        assert error.message == "The model provider's answer is larger than 1000 bytes."
        assert error.code == "upstream_bad_response"

    async def test_a_gzip_bomb_does_not_fill_the_memory(self, server, play, make_upstream):
        upstream = make_upstream(retry=NO_RETRIES, max_body_bytes=1_000_000)
        bomb = gzip.compress(b"{" + b" " * 50_000_000)
        server.play(play.http(200, bomb, content_encoding="gzip"))
        tracemalloc.start()
        try:
            error = await failure_of(upstream.chat(server.deployment(), BODY))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert error.code == "upstream_bad_response"
        assert peak < 10_000_000
        await server.all_closed()


class TestUnreachable:
    async def test_nobody_listens(self, server, upstream, unused_tcp_port, caplog):
        deployment = server.deployment(base_url=f"http://127.0.0.1:{unused_tcp_port}")
        error = await failure_of(upstream.chat(deployment, BODY))
        assert (error.status, error.code) == (503, "upstream_unavailable")
        assert error.message == "The model provider cannot be reached."
        assert "deployment test: NoConnectionError" in caplog.text

    async def test_no_such_host(self, server, make_upstream):
        async def resolve(host):
            raise socket.gaierror("Name or service not known")

        upstream = make_upstream(retry=NO_RETRIES, pool=Pool(resolve=resolve))
        error = await failure_of(upstream.chat(server.deployment(base_url="http://nowhere.test"), BODY))
        assert (error.status, error.code) == (503, "upstream_unavailable")
        assert error.message == "The model provider's host name cannot be resolved."

    async def test_no_tls_there(self, server, upstream):
        server.greeting = b"HTTP/1.1 400 Bad Request\r\n\r\n"
        deployment = server.deployment(base_url=server.base_url.replace("http:", "https:"))
        error = await failure_of(upstream.chat(deployment, BODY))
        assert (error.status, error.code) == (503, "upstream_unavailable")
        assert error.message == "A secure connection to the model provider cannot be made."

    @pytest.mark.parametrize("way", ["close", "reset"])
    async def test_connection_breaks_before_the_status(self, server, upstream, way):
        async def breaks(exchange):
            getattr(exchange, way)()

        server.play(breaks)
        error = await failure_of(upstream.chat(server.deployment(), BODY))
        assert (error.status, error.code) == (503, "upstream_unavailable")
        assert error.message == "The model provider closed the connection before it answered."


class TestTooSlow:
    async def test_connecting(self, server, make_upstream, fast):
        async def resolve(host):
            await asyncio.Event().wait()

        upstream = make_upstream(retry=NO_RETRIES, pool=Pool(resolve=resolve))
        timeouts = Timeouts(connect=0.05, idle=1.0, total=2.0)
        error = await failure_of(
            upstream.chat(server.deployment(base_url="http://slow.test"), BODY, timeouts=timeouts)
        )
        assert (error.status, error.code) == (504, "upstream_timeout")
        assert error.message == "The model provider did not accept a connection in time."

    @pytest.mark.parametrize("timeouts", [Timeouts(idle=0.1), Timeouts(total=0.1)], ids=["idle", "total"])
    async def test_status(self, server, upstream, timeouts):
        server.play(lambda exchange: exchange.gone())
        async with asyncio.timeout(2):
            error = await failure_of(upstream.chat(server.deployment(), BODY, timeouts=timeouts))
        assert (error.status, error.code) == (504, "upstream_timeout")
        assert error.message == "The model provider did not answer in time."
        await server.all_closed()

    async def test_body(self, server, upstream, fast):
        async def stalls(exchange):
            await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{")
            await exchange.gone()

        server.play(stalls)
        error = await failure_of(upstream.chat(server.deployment(), BODY, timeouts=fast))
        assert (error.status, error.code) == (504, "upstream_timeout")
        assert error.message == "The model provider stopped sending."
        await server.all_closed()

    async def test_all_together(self, server, upstream, fast):
        async def trickles(exchange):
            await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n")
            try:
                while True:
                    await exchange.send(b" ")
                    await asyncio.sleep(0.02)
            except ConnectionError:
                exchange.close()

        server.play(trickles)
        error = await failure_of(upstream.chat(server.deployment(), BODY, timeouts=fast))
        assert (error.status, error.code) == (504, "upstream_timeout")
        assert error.message == "The model provider did not finish its answer in time."
        await server.all_closed()


class TestCancelling:
    @pytest.mark.parametrize(
        "begin", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{"], ids=["status", "body"]
    )
    async def test_a_call_closes_its_connection_and_passes_through(self, server, upstream, begin):
        async def stalls(exchange):
            await exchange.send(begin)
            await exchange.gone()

        server.play(stalls)
        task = asyncio.create_task(upstream.chat(server.deployment(), BODY))
        await server.until(lambda: server.requests)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.all_closed()


class TestLifetime:
    async def test_close_closes_idle_connections_and_can_be_repeated(self, server, play):
        server.play(play.completion())
        async with Upstream() as upstream:
            await upstream.chat(server.deployment(), BODY)
        await upstream.close()
        await server.all_closed()
        with pytest.raises(RuntimeError, match="closed"):
            await upstream.chat(server.deployment(), BODY)

    async def test_close_without_any_call(self):
        await Upstream().close()
        pool = Pool()
        await Upstream(pool=pool).close()
        assert pool.closed

    async def test_secrets_are_in_no_message_and_no_log(
        self, server, play, upstream, caplog, unused_tcp_port
    ):
        caplog.set_level(0)
        server.play(
            play.error(500, f"Authorization: Bearer {KEY}"),
            b"HTTP/1.1 200 OK\r\nx" + KEY.encode() + b"\r\n\r\n",
        )
        deployment = server.deployment(headers={"x-secret": "hunter2"})
        elsewhere = server.deployment(
            base_url=f"http://127.0.0.1:{unused_tcp_port}", headers={"x-secret": "hunter2"}
        )
        for target in (deployment, elsewhere):
            error = await failure_of(upstream.chat(target, BODY))
            assert KEY not in error.message + caplog.text
            assert "hunter2" not in error.message + caplog.text
            assert "127.0.0.1" not in error.message
            assert error.__cause__ is None
