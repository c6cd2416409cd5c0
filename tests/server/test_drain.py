"""The end: readiness fails first, running requests finish, the exit code is 0."""

from __future__ import annotations

import contextlib
import signal

import pytest

from tests.server.wire import Small, Wire, eventually, get, small

BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


def wait_until_closed(server: Small) -> None:
    eventually(lambda: not server.is_accepting())


def running(server: Small, path: str) -> Wire:
    """A request that the application has begun to work on."""
    wire = server.wire()
    before = server.calls("/hold")
    wire.send(get(path))
    server.until(lambda state: state["journal"].count("GET /hold") == before + 1)
    return wire


@BOTH
def test_an_idle_server_ends(number):
    with small() as server:
        server.process.send_signal(number)
        assert server.process.wait(20) == 0


def test_readiness_fails_first_while_requests_are_still_served():
    with small(drain_delay=600) as server:
        assert server.state()["ready"]
        with server.wire() as idle:
            assert idle.send(get("/one")).answer().status == 200
            server.process.send_signal(signal.SIGTERM)
            state = server.until(lambda state: not state["ready"])  # each over a new connection
            assert "drain" in state["journal"]
            answer = idle.send(get("/two")).answer()
            assert (answer.status, "connection" in answer.headers) == (200, False)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0


def test_running_requests_finish_and_idle_connections_are_closed(tmp_path):
    go = tmp_path / "go"
    with small(grace=600) as server, server.wire() as idle:
        idle.send(get("/one")).answer()
        stream = running(server, f"/hold?begun=1&until={go}")
        waiting = running(server, f"/hold?until={go}")
        ahead = running(server, f"/hold?until={go}").send(get("/ahead"))
        server.process.send_signal(signal.SIGTERM)
        wait_until_closed(server)
        assert idle.ends()
        go.touch()
        answer = stream.answer()
        assert (answer.body, answer.complete, "connection" in answer.headers) == (b"begundone", True, False)
        assert stream.ends()
        answer = waiting.answer()
        assert (answer.body, answer.headers["connection"]) == (b"done", "close")
        assert waiting.ends()
        assert ahead.answer().body == b"done"
        assert ahead.answer().headers["connection"] == "close"
        assert ahead.ends()
        assert server.process.wait(20) == 0


def test_a_request_on_its_way_while_the_server_stops_is_answered(tmp_path):
    with small(grace=600) as server:
        keeps_running = running(server, f"/hold?until={tmp_path}/go")
        with server.wire() as half:
            half.send(get("/one")).answer()
            half.send(get("/two")[:20])
            server.ask(get("/echo"))  # by now the part has been read
            server.process.send_signal(signal.SIGTERM)
            wait_until_closed(server)
            answer = half.send(get("/two")[20:]).answer()
            assert (answer.json()["path"], answer.headers["connection"]) == ("/two", "close")
        (tmp_path / "go").touch()
        assert keeps_running.answer().body == b"done"
        assert server.process.wait(20) == 0


def test_what_runs_longer_than_the_grace_is_cut():
    with small(grace=0.3) as server:
        stream, waiting = running(server, "/hold?begun=1"), running(server, "/hold")
        server.process.send_signal(signal.SIGTERM)
        answer = stream.answer()
        assert (answer.body, answer.complete) == (b"begun", False)
        answer = waiting.answer()
        assert answer.error == (503, "server_overloaded")
        assert answer.headers["retry-after"] == "1"
        assert server.process.wait(20) == 0


@BOTH
def test_a_second_signal_ends_it_at_once(number):
    with small(grace=600) as server:
        stream = running(server, "/hold?begun=1")
        server.process.send_signal(signal.SIGTERM)
        wait_until_closed(server)
        server.process.send_signal(number)
        assert server.process.wait(20) == 0
        assert not stream.answer().complete


def test_clients_that_open_connections_all_the_time_get_an_answer_or_none_at_all():
    """No connection that was accepted is answered with half an answer."""
    with small() as server:
        server.process.send_signal(signal.SIGTERM)
        while server.process.poll() is None:
            with contextlib.suppress(OSError), server.wire() as wire:
                wire.send(get("/echo"))
                while wire.more():
                    pass
                assert not wire.buffer or b"\r\n\r\n{" in wire.buffer
        assert server.process.wait(20) == 0
