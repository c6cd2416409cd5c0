"""A streamed chat call: its opening, its bytes, its end."""

from __future__ import annotations

import asyncio
import gc
import zlib

import pytest
import uvloop

from neev_provider.errors import NeevError
from neev_provider.sse import EventSplitter
from neev_provider.upstream import NO_RETRIES, Deployment, Timeouts, Upstream
from neev_provider.usage import StreamMeter

BODY = b'{"model":"m","messages":[],"stream":true}'


def build(include_usage: bool) -> bytes:
    return BODY[:-1] + b',"stream_options":{"include_usage":true}}' if include_usage else BODY


@pytest.fixture
def upstream(make_upstream):
    return make_upstream(retry=NO_RETRIES)


async def failure_of(call) -> NeevError:
    with pytest.raises(NeevError) as caught:
        await call
    return caught.value


async def read_to_failure(stream) -> tuple[list[bytes], NeevError]:
    reads = []
    with pytest.raises(NeevError) as caught:
        async for data in stream:
            reads.append(data)
    return reads, caught.value


class TestOpening:
    async def test_waits_for_the_status_and_not_for_the_first_event(self, server, play, upstream):
        go_on = asyncio.Event()

        async def slow(exchange):
            await exchange.send(play.head(x_trace="abc"))
            await go_on.wait()
            await exchange.send(play.chunks(play.EVENT, play.DONE))

        server.play(slow)
        async with await upstream.open_stream(server.deployment(), build) as stream:
            assert stream.headers["x-trace"] == "abc"
            go_on.set()
            assert b"".join([data async for data in stream]) == play.EVENT + play.DONE

    @pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
    async def test_raises_what_upstream_refuses(self, server, play, upstream, status):
        server.play(play.error(status, param="messages"))
        assert (await failure_of(upstream.open_stream(server.deployment(), build))).upstream_status == status

    @pytest.mark.parametrize("media", ["text/event-stream", "Text/Event-Stream; charset=utf-8", None])
    async def test_takes_events(self, server, play, upstream, media):
        server.play(play.head(media) + play.chunks(play.DONE))
        async with await upstream.open_stream(server.deployment(), build) as stream:
            assert [data async for data in stream] == [play.DONE]

    @pytest.mark.parametrize(
        ("media", "body"),
        [
            ("application/json", b'{"choices": []}'),
            ("application/json", b""),
            ("text/html", b"<html>"),
            ("text/plain", b"data: {}\n\n"),
        ],
    )
    async def test_refuses_all_else(self, server, play, upstream, media, body):
        server.play(play.http(200, body, media))
        error = await failure_of(upstream.open_stream(server.deployment(), build))
        assert (error.status, error.code) == (502, "upstream_bad_response")
        assert error.message == "The model provider did not answer with a stream."

    async def test_raises_an_error_that_came_with_status_200(self, server, play, upstream):
        server.play(play.http(200, {"error": {"message": "slow down", "code": 429}}))
        assert (
            await failure_of(upstream.open_stream(server.deployment(), build))
        ).code == "upstream_rate_limited"


class TestAskingForUsage:
    async def test_is_always_done(self, server, play, upstream):
        server.play(play.stream(play.DONE))
        async with await upstream.open_stream(server.deployment(), build) as stream:
            assert stream.asks_usage
        assert server.requests[0].body == build(True)

    @pytest.mark.parametrize("status", [400, 422])
    async def test_and_refused_is_done_without_and_remembered(self, server, play, upstream, status):
        server.play(play.error(status, "unknown field stream_options"), play.stream(play.DONE))
        for _ in range(2):
            async with await upstream.open_stream(server.deployment(), build, model="m") as stream:
                assert not stream.asks_usage
        assert [request.body for request in server.requests] == [build(True), build(False), build(False)]

    async def test_refusal_is_remembered_by_model_and_host_for_an_hour(
        self, server, play, upstream, fake_time
    ):
        server.play(play.error(400), play.stream(play.DONE))
        await (await upstream.open_stream(server.deployment(), build, model="m")).aclose()
        for deployment, model in (
            (server.deployment(), "other"),
            (server.deployment(base_url=server.address + "/other"), "m"),
        ):
            async with await upstream.open_stream(deployment, build, model=model) as stream:
                assert stream.asks_usage
        fake_time.now += 3599
        async with await upstream.open_stream(server.deployment(), build, model="m") as stream:
            assert not stream.asks_usage
        fake_time.now += 2
        async with await upstream.open_stream(server.deployment(), build, model="m") as stream:
            assert stream.asks_usage

    async def test_a_request_that_is_bad_either_way_gives_the_first_error(self, server, play, upstream):
        server.play(play.error(400, "first"), play.error(500, "second"), play.stream(play.DONE))
        assert (await failure_of(upstream.open_stream(server.deployment(), build))).message == "first"
        async with await upstream.open_stream(server.deployment(), build) as stream:
            assert stream.asks_usage

    @pytest.mark.parametrize(
        "about",
        [
            {"param": "messages[0].content"},
            {"param": "temperature"},
            {"code": "context_length_exceeded"},
            {"message": "The model `m` does not exist"},
        ],
    )
    async def test_is_not_given_up_for_a_refusal_about_something_else(self, server, play, upstream, about):
        server.play(play.error(400, **about))
        await failure_of(upstream.open_stream(server.deployment(), build))
        assert len(server.requests) == 1


class TestBytes:
    async def test_come_read_by_read_as_upstream_wrote_them(self, server, play, upstream):
        step = asyncio.Queue()

        async def stepwise(exchange):
            await exchange.send(play.head())
            while (part := await step.get()) is not None:
                await exchange.send(play.chunks(part, end=False))
            await exchange.send(play.chunks())

        server.play(stepwise)
        async with await upstream.open_stream(server.deployment(), build) as stream:
            for part in (play.EVENT, play.EVENT[:9], play.EVENT[9:] * 2, play.DONE):
                step.put_nowait(part)
                assert await stream.read() == part
            step.put_nowait(None)
            assert await stream.read() == b""
            assert await stream.read() == b""

    async def test_may_be_compressed_against_our_wish(self, server, play, upstream):
        packer = zlib.compressobj(wbits=31)
        parts = [packer.compress(play.EVENT) + packer.flush(zlib.Z_SYNC_FLUSH), packer.flush()]
        server.play(play.head(content_encoding="gzip") + play.chunks(*parts))
        async with await upstream.open_stream(server.deployment(), build) as stream:
            assert b"".join([data async for data in stream]) == play.EVENT

    async def test_end_without_done_can_be_told_from_a_complete_stream(self, server, play, upstream):
        server.play(play.stream(play.EVENT, play.DONE), play.stream(play.EVENT))
        for complete in (True, False):
            splitter, meter = EventSplitter(), StreamMeter(0)
            async with await upstream.open_stream(server.deployment(), build) as stream:
                async for data in stream:
                    for event in splitter.feed(data):
                        meter.observe(event)
            assert meter.done is complete


class TestBreakingOff:
    @pytest.mark.parametrize("way", ["close", "reset"])
    async def test_in_the_middle_is_a_bad_response(self, server, play, upstream, way):
        async def cut(exchange):
            await exchange.send(play.head() + play.chunks(play.EVENT, end=False))
            await asyncio.sleep(0.01)  # a reset would overtake the bytes
            getattr(exchange, way)()

        server.play(cut)
        stream = await upstream.open_stream(server.deployment(), build)
        reads, error = await read_to_failure(stream)
        assert reads == [play.EVENT]
        assert (error.status, error.code) == (502, "upstream_bad_response")
        assert error.message == "The model provider's answer broke off before its end."
        with pytest.raises(NeevError):
            await stream.read()

    async def test_by_malformed_chunks_is_a_bad_response(self, server, play, upstream):
        async def malformed(exchange):
            await exchange.send(play.head() + play.chunks(play.EVENT, end=False))
            await asyncio.sleep(0.01)
            await exchange.send(b"ZZ\r\n")
            await exchange.gone()

        server.play(malformed)
        stream = await upstream.open_stream(server.deployment(), build)
        assert (await read_to_failure(stream))[1].code == "upstream_bad_response"
        await server.all_closed()

    async def test_by_silence_is_a_timeout(self, server, play, upstream):
        async def stalls(exchange):
            await exchange.send(play.head() + play.chunks(play.EVENT, end=False))
            await exchange.gone()

        server.play(stalls)
        stream = await upstream.open_stream(server.deployment(), build, timeouts=Timeouts(idle=0.1))
        reads, error = await read_to_failure(stream)
        assert reads == [play.EVENT]
        assert (error.status, error.code) == (504, "upstream_timeout")
        assert error.message == "The model provider stopped sending."
        await server.all_closed()

    async def test_by_taking_too_long_in_all_is_a_timeout(self, server, play, upstream):
        async def trickles(exchange):
            await exchange.send(play.head())
            try:
                while True:
                    await exchange.send(play.chunks(play.EVENT, end=False))
                    await asyncio.sleep(0.02)
            except ConnectionError:
                exchange.close()

        server.play(trickles)
        stream = await upstream.open_stream(
            server.deployment(), build, timeouts=Timeouts(idle=0.1, total=0.3)
        )
        reads, error = await read_to_failure(stream)
        assert len(reads) > 5
        assert error.message == "The model provider did not finish its answer in time."
        await server.all_closed()

    async def test_while_nobody_reads_is_raised_by_the_next_read(self, server, play, upstream):
        async def endless(exchange):
            await exchange.send(play.head() + play.chunks(play.EVENT, end=False))
            await exchange.gone()

        server.play(endless)
        stream = await upstream.open_stream(server.deployment(), build, timeouts=Timeouts(total=0.1))
        assert await stream.read() == play.EVENT
        await server.all_closed()
        assert (await failure_of(stream.read())).code == "upstream_timeout"

    async def test_is_not_what_a_slow_reader_does(self, server, play, upstream):
        more = asyncio.Event()

        async def waits(exchange):
            await exchange.send(play.head() + play.chunks(play.EVENT, end=False))
            await more.wait()
            await exchange.send(play.chunks(play.DONE))

        server.play(waits)
        async with await upstream.open_stream(
            server.deployment(), build, timeouts=Timeouts(idle=0.05)
        ) as stream:
            assert await stream.read() == play.EVENT
            await asyncio.sleep(0.15)  # the reader's own time, three times the idle time
            more.set()
            assert await stream.read() == play.DONE


class TestStopping:
    @pytest.fixture
    def endless(self, server, play):
        async def endless(exchange):
            await exchange.send(play.head())
            try:
                while True:
                    await exchange.send(play.chunks(play.EVENT, end=False))
                    await asyncio.sleep(0)
            except ConnectionError:
                exchange.close()

        server.play(endless)

    async def test_early_closes_upstream_s_socket_within_a_second(self, server, upstream, endless):
        async with await upstream.open_stream(server.deployment(), build) as stream:
            assert await stream.read()
        await server.all_closed(seconds=1)

    async def test_twice_is_harmless_and_reading_on_gives_nothing(self, server, upstream, endless):
        stream = await upstream.open_stream(server.deployment(), build)
        await stream.aclose()
        await stream.aclose()
        assert [data async for data in stream] == []

    async def test_by_cancelling_a_waiting_reader(self, server, play, upstream):
        async def stalls(exchange):
            await exchange.send(play.head())
            await exchange.gone()

        server.play(stalls)
        stream = await upstream.open_stream(server.deployment(), build)
        reader = asyncio.create_task(stream.read())
        await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await server.all_closed()

    async def test_200_streams_leaves_no_connection_task_or_timer(self, server, upstream, endless):
        before = asyncio.all_tasks()

        async def start_and_stop():
            async with await upstream.open_stream(server.deployment(), build) as stream:
                await stream.read()

        await asyncio.gather(*(start_and_stop() for _ in range(200)))
        await server.all_closed(seconds=5)
        assert server.connections == 200
        listening = {task for task in asyncio.all_tasks() if "ScriptedUpstream" in repr(task)}
        assert asyncio.all_tasks() - before - listening == set()
        assert upstream._pool.busy == 0
        timers = [handle for handle in asyncio.get_running_loop()._scheduled if not handle.cancelled()]
        assert [handle for handle in timers if "BodyReader._look" in repr(handle)] == []

    async def test_by_forgetting_is_ended_by_its_time_limit(self, server, play, upstream):
        async def stalls(exchange):
            await exchange.send(play.head() + play.chunks(play.EVENT, end=False))
            await exchange.gone()

        server.play(stalls)
        stream = await upstream.open_stream(server.deployment(), build, timeouts=Timeouts(total=0.1))
        await stream.read()
        del stream
        gc.collect()
        await server.all_closed()

    async def test_by_closing_the_client_fails_it_within_seconds(self, server, play, upstream):
        async def stalls(exchange):
            await exchange.send(play.head() + play.chunks(play.EVENT, end=False))
            await exchange.gone()

        server.play(stalls)
        waiting, idle = [await upstream.open_stream(server.deployment(), build) for _ in range(2)]
        await waiting.read()
        reader = asyncio.create_task(waiting.read())
        await asyncio.sleep(0)
        await upstream.close()
        await server.all_closed()
        async with asyncio.timeout(3):
            assert (await failure_of(reader)).code == "upstream_bad_response"
            assert (await read_to_failure(idle))[1].code == "upstream_bad_response"


class TestFinishing:
    async def test_after_done_keeps_the_connection(self, server, play, upstream):
        async def ends_later(exchange):
            await exchange.send(play.head() + play.chunks(play.DONE, end=False))
            await asyncio.sleep(0.01)
            await exchange.send(play.chunks())

        server.play(ends_later)
        for _ in range(2):
            stream = await upstream.open_stream(server.deployment(), build)
            assert await stream.read() == play.DONE
            await stream.finish()
        assert server.connections == 1

    async def test_does_not_wait_for_a_body_that_never_ends(self, server, play, upstream):
        async def never_ends(exchange):
            await exchange.send(play.head() + play.chunks(play.DONE, end=False))
            await exchange.gone()

        server.play(never_ends)
        stream = await upstream.open_stream(server.deployment(), build)
        assert await stream.read() == play.DONE
        await stream.finish(grace=0.05)
        await server.all_closed()

    async def test_does_not_read_a_long_rest_nor_mind_a_cut(self, server, play, upstream):
        async def goes_on(exchange):
            await exchange.send(play.head() + play.chunks(play.DONE, end=False))
            try:
                while True:
                    await exchange.send(play.chunks(b"x" * 4096, end=False))
            except ConnectionError:
                exchange.close()

        async def cut(exchange):
            await exchange.send(play.head() + play.chunks(play.DONE, end=False))
            exchange.close()

        server.play(goes_on, cut)
        for _ in range(2):
            stream = await upstream.open_stream(server.deployment(), build)
            await stream.read()
            async with asyncio.timeout(2):
                await stream.finish(grace=60)
        await server.all_closed()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_relay_and_abort_on_either_loop(run, play):
    """The same on the loop of a script and on the gateway's."""

    async def scenario():
        gone = asyncio.Event()

        async def serve(reader, writer):
            try:
                while True:
                    await reader.readuntil(b"\r\n\r\n" + BODY)
                    writer.write(play.head() + play.chunks(play.EVENT, play.DONE))
                    await reader.readuntil(b"\r\n\r\n" + BODY)
                    writer.write(play.head() + play.chunks(play.EVENT, end=False))
                    await reader.read()
                    return
            finally:
                writer.close()
                gone.set()

        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        deployment = Deployment("d", f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", "sk-nc-1")
        async with Upstream() as upstream:
            async with await upstream.open_stream(deployment, lambda _: BODY) as stream:
                assert b"".join([data async for data in stream]) == play.EVENT + play.DONE
            async with await upstream.open_stream(
                deployment, lambda _: BODY, timeouts=Timeouts(idle=0.05)
            ) as stream:
                assert await stream.read() == play.EVENT
                assert (await failure_of(stream.read())).code == "upstream_timeout"
            async with asyncio.timeout(1):
                await gone.wait()
        listener.close()
        await listener.wait_closed()

    run(scenario())
