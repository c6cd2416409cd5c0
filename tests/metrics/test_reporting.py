"""The way from the processes to the sums, over a real socket: every update counts once, whatever breaks."""

from __future__ import annotations

import asyncio
import os
import stat

import pytest

from neev_provider.errors import ConfigError
from neev_provider.metrics import families, reporting
from neev_provider.metrics.messages import Delta, Hello, Update, frame, read_frame
from neev_provider.metrics.receiver import Receiver
from neev_provider.metrics.recorder import Recorder


def retries(sums) -> dict[str, float]:
    return {labels[0]: amount for labels, amount in sums.counters(families.UPSTREAM_RETRIES).items()}


def update(number: int, amount: int = 1) -> Update:
    return Update(number, Delta({"neev_upstream_retries_total": [(("m",), amount)]}))


class TestUpdates:
    async def test_each_report_adds_what_came_since_the_one_before(self, line, sums, recorder):
        reporter = line.reporter(recorder)
        for _ in range(3):
            recorder.add(families.UPSTREAM_RETRIES, ("m",))
            await reporter.report()
        assert retries(sums) == {"m": 3}

    async def test_a_process_that_starts_anew_counts_on(self, line, sums):
        for _ in range(2):
            recorder = Recorder()
            reporter = line.reporter(recorder)
            recorder.add(families.UPSTREAM_RETRIES, ("m",), 2)
            await reporter.report()
            await reporter.close()
        assert retries(sums) == {"m": 4}

    async def test_an_update_that_comes_twice_counts_once(self, line, sums):
        for _ in range(2):
            reader, writer = await asyncio.open_unix_connection(str(line.path))
            writer.write(frame(Hello("gateway-0", "same")) + frame(update(1)))
            assert await read_frame(reader, int) == 1
            writer.close()
        assert retries(sums) == {"m": 1}

    async def test_the_same_number_of_another_instance_counts(self, line, sums):
        for instance in ("one", "another"):
            reader, writer = await asyncio.open_unix_connection(str(line.path))
            writer.write(frame(Hello("gateway-0", instance)) + frame(update(1)))
            await read_frame(reader, int)
            writer.close()
        assert retries(sums) == {"m": 2}

    async def test_while_nobody_listens_counts_are_kept_and_sent_later(self, line, sums, recorder):
        reporter = line.reporter(recorder)
        await line.close()
        for _ in range(3):
            recorder.add(families.UPSTREAM_RETRIES, ("m",))
            await reporter.report()
        assert retries(sums) == {}
        await line.open()
        await reporter.report()
        assert retries(sums) == {"m": 3}

    async def test_an_update_whose_answer_was_lost_is_sent_again_and_counts_once(self, tmp_path, sums):
        path = tmp_path / "s"
        receiver = Receiver(path, sums)
        answers = []

        async def deaf(reader, writer) -> None:
            """Take the update and hang up instead of answering."""
            hello, given = await read_frame(reader, Hello), await read_frame(reader, Update)
            receiver._take(hello.process, hello.instance, given)
            answers.append(given.number)
            writer.close()

        recorder = Recorder()
        server = await asyncio.start_unix_server(deaf, str(path))
        async with reporting_to(path, recorder) as reporter:
            recorder.add(families.UPSTREAM_RETRIES, ("m",))
            await reporter.report()
            assert answers == [1]
            server.close()
            await server.wait_closed()
            path.unlink()
            async with receiver:
                recorder.add(families.UPSTREAM_RETRIES, ("m",))
                await reporter.report()
        assert retries(sums) == {"m": 2}

    async def test_an_update_that_is_refused_again_and_again_is_given_up_and_counted_as_lost(
        self, tmp_path, sums, recorder
    ):
        path = tmp_path / "s"

        async def refusing(reader, writer) -> None:
            await read_frame(reader, Hello)
            await read_frame(reader, Update)
            writer.close()

        server = await asyncio.start_unix_server(refusing, str(path))
        async with reporting_to(path, recorder) as reporter:
            recorder.add(families.UPSTREAM_RETRIES, ("m",))
            for _ in range(5):
                await reporter.report()
            server.close()
            await server.wait_closed()
            path.unlink()
            async with Receiver(path, sums):
                await reporter.report()
                assert sums.counters(families.LOST_UPDATES) == {(): 1}
                assert retries(sums) == {}

    async def test_the_last_counts_are_sent_at_the_end(self, line, sums):
        async with reporting(str(line.path), "gateway-0") as recorder:
            recorder.add(families.UPSTREAM_RETRIES, ("m",), 7)
        assert retries(sums) == {"m": 7}

    async def test_counts_come_by_themselves_and_so_does_the_loops_lag(self, line, sums):
        async with reporting(str(line.path), "gateway-0") as recorder:
            recorder.add(families.UPSTREAM_RETRIES, ("m",))
            await line.until(lambda: retries(sums) == {"m": 1})
            await line.until(lambda: ("gateway-0",) in sums.histograms(families.LOOP_LAG))

    async def test_without_a_socket_nothing_is_counted(self):
        async with reporting(None, "gateway-0") as recorder:
            assert recorder is None


class TestGauges:
    async def test_they_come_and_go_with_their_process(self, line, sums, recorder):
        recorder.watch(families.PENDING_SETTLES, (), lambda: 4)
        reporter = line.reporter(recorder)
        await reporter.report()
        assert sums.gauges(families.PENDING_SETTLES) == {("gateway-0",): 4}
        await reporter.close()
        await line.until(lambda: sums.gauges(families.PENDING_SETTLES) == {})

    async def test_they_are_there_again_after_the_receiver_was_away(self, line, sums, recorder):
        recorder.watch(families.PENDING_SETTLES, (), lambda: 4)
        reporter = line.reporter(recorder)
        await reporter.report()
        await line.close()
        await line.open()
        recorder.add(families.UPSTREAM_RETRIES, ("m",))
        await reporter.report()  # finds the connection broken
        await reporter.report()
        assert sums.gauges(families.PENDING_SETTLES) == {("gateway-0",): 4}

    async def test_two_processes_of_one_name_are_told_apart(self, line, sums):
        for _ in range(2):
            recorder = Recorder()
            recorder.watch(families.PENDING_SETTLES, (), lambda: 1)
            await line.reporter(recorder, "litellm").report()
        assert sums.gauges(families.PENDING_SETTLES) == {("litellm",): 1, ("litellm-2",): 1}


class TestTheSocket:
    async def test_only_its_user_may_open_it(self, line):
        assert stat.S_IMODE(os.stat(line.path).st_mode) == 0o600

    async def test_it_is_gone_with_its_receiver(self, line):
        await line.close()
        assert not line.path.exists()

    async def test_one_that_a_killed_process_left_behind_is_replaced(self, tmp_path, sums, recorder):
        import socket

        path = tmp_path / "s"
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
        async with Receiver(path, sums):
            async with reporting_to(path, recorder) as reporter:
                recorder.add(families.UPSTREAM_RETRIES, ("m",))
                await reporter.report()
        assert retries(sums) == {"m": 1}

    async def test_one_that_another_process_has_is_left_to_it(self, line, sums):
        with pytest.raises(ConfigError, match="another process"):
            async with Receiver(line.path, sums):
                pass
        assert line.path.exists()

    async def test_a_file_is_not_overwritten(self, tmp_path, sums):
        path = tmp_path / "precious"
        path.write_text("x")
        with pytest.raises(ConfigError, match="a file of another kind"):
            async with Receiver(path, sums):
                pass
        assert path.read_text() == "x"

    async def test_a_path_that_the_kernel_cannot_take_is_named(self, tmp_path, sums):
        with pytest.raises(ConfigError, match="too long"):
            async with Receiver(tmp_path / ("x" * 120), sums):
                pass

    @pytest.mark.parametrize(
        "sent",
        [
            b"GET / HTTP/1.1\r\n\r\n",
            b"\xff\xff\xff\xff",
            frame(["../evil", "x"]),
            frame(["gateway-0", "x"]) + frame(["not", "an", "update"]),
            frame(["gateway-0", "x"]) + frame([1, [{"neev_requests_total": "x"}, {}, {}], None]),
        ],
    )
    async def test_what_is_no_report_ends_its_connection_and_nothing_else(
        self, line, sums, recorder, caplog, sent
    ):
        reader, writer = await asyncio.open_unix_connection(str(line.path))
        writer.write(sent)
        writer.write_eof()
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
        recorder.add(families.UPSTREAM_RETRIES, ("m",))
        await line.reporter(recorder).report()
        assert retries(sums) == {"m": 1}


def reporting_to(path, recorder: Recorder):
    from contextlib import asynccontextmanager

    from neev_provider.metrics.reporter import Reporter

    @asynccontextmanager
    async def opened():
        reporter = Reporter(recorder, str(path), "gateway-0")
        yield reporter
        await reporter.close()

    return opened()
