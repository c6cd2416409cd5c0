"""Answers: framing, order, one write where one is enough, and clients that do not read."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time

import pytest

from tests.server.wire import get, post, request, small


class TestFraming:
    def test_an_answer_has_a_date_and_does_not_name_the_server(self, server):
        headers = server.ask(get("/echo")).headers
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", headers["date"])
        assert "server" not in headers

    def test_a_stream_is_chunked(self, server):
        answer = server.ask(get("/stream?parts=3"))
        assert (answer.headers["transfer-encoding"], answer.complete) == ("chunked", True)
        assert answer.body == b"000001111122222"

    def test_a_stream_to_http_1_0_ends_with_the_connection(self, server):
        answer = server.ask(get("/stream?parts=3", version="1.0"))
        assert "transfer-encoding" not in answer.headers
        assert answer.body == b"000001111122222"

    @pytest.mark.parametrize("path", ["/echo", "/stream"])
    def test_head_has_no_body(self, server, path):
        with server.wire() as wire:
            assert wire.send(get(path, method="HEAD")).answer(head=True).status == 200
            assert wire.send(get("/next")).answer().json()["path"] == "/next"

    def test_the_head_of_an_answer_does_not_wait_for_its_body(self, server):
        with server.wire() as wire:
            wire.send(get("/headers_then_wait"))
            assert b"x-early: 1" in wire.until(b"\r\n\r\n")

    def test_a_path_is_decoded_and_kept_as_it_was_sent(self, server):
        seen = server.ask(get("/a%2Fb%20c//d?x=%2F&y")).json()
        assert (seen["path"], seen["raw_path"], seen["query"]) == ("/a/b c//d", "/a%2Fb%20c//d", "x=%2F&y")

    def test_headers_come_in_their_order_with_names_in_lower_case(self, server):
        seen = server.ask(get("/echo", "X-B: 1", "x-a: \xfc", "X-B: 2")).json()
        assert seen["headers"] == [["host", "here"], ["x-b", "1"], ["x-a", "\xfc"], ["x-b", "2"]]

    def test_writes(self, server):
        """Head and body of an answer are one write, and so is each chunk: each write is a system call."""
        if shutil.which("strace") is None:
            pytest.skip("strace counts them")
        with (
            server.wire() as wire,
            subprocess.Popen(
                ["strace", "-f", "-e", "trace=write,writev,sendto,sendmsg", "-p", str(server.process.pid)],
                stderr=subprocess.PIPE,
                text=True,
            ) as strace,
        ):
            if "attached" not in strace.stderr.readline():
                strace.kill()
                pytest.skip("processes may not be traced here")
            wire.send(get("/echo")).answer()
            wire.send(get("/stream?parts=3")).answer()
            strace.send_signal(signal.SIGINT)
            written = [
                line for line in strace.communicate()[1].splitlines() if "HTTP/1.1" in line or r"\r\n" in line
            ]
        assert len(written) == 1 + 3 + 1, written


class TestOrder:
    def test_a_connection_serves_one_request_after_the_other(self, server):
        with server.wire() as wire:
            for number in range(5):
                assert wire.send(post("/echo", b"%d" % number)).answer().json()["body"] == str(number)

    def test_requests_sent_ahead_are_answered_in_their_order(self, server, tmp_path):
        with server.wire() as wire:
            wire.send(get(f"/hold?until={tmp_path}/go") + post("/echo", b"second") + get("/third"))
            server.until(lambda state: state["journal"][-1] == "GET /hold")
            (tmp_path / "go").touch()
            assert wire.answer().body == b"done"
            assert wire.answer().json()["body"] == "second"
            assert wire.answer().json()["path"] == "/third"

    def test_a_large_body_sent_ahead_waits_its_turn(self, server, tmp_path):
        sent = get(f"/hold?until={tmp_path}/go") + post("/echo", b"x" * 2_000_000)
        with server.wire() as wire:
            wire.socket.setblocking(False)
            first = wire.socket.send(sent)
            wire.socket.settimeout(20)
            (tmp_path / "go").touch()
            assert wire.send(sent[first:]).answer().body == b"done"
            assert len(wire.answer().json()["body"]) == 2_000_000

    def test_sixty_four_requests_may_be_sent_ahead_of_their_answers(self, server):
        with server.wire() as wire:
            wire.send(get("/echo") * 65)
            assert [wire.answer().status for _ in range(65)] == [200] * 65
            wire.send(get("/echo") * 70)
            statuses = []
            while not statuses or statuses[-1] == 200:
                statuses.append(wire.answer().status)
            assert statuses == [200] * 65 + [400]

    @pytest.mark.parametrize(
        "words", [("1.1", "Connection: close"), ("1.0",), ("1.0", "Connection: keep-alive")]
    )
    def test_a_connection_closes_when_it_was_asked_to(self, server, words):
        version, *headers = words
        with server.wire() as wire:
            assert (
                wire.send(get("/echo", *headers, version=version)).answer().headers["connection"] == "close"
            )
            assert wire.ends()


class TestSlowReaders:
    def test_what_is_not_read_is_not_produced(self, hasty):
        with hasty.wire() as wire:
            before = hasty.state()["flooded"]
            left = hasty.state()["journal"].count("http.disconnect")
            wire.send(get("/flood"))
            state = hasty.until(lambda state: state["journal"].count("http.disconnect") == left + 1)
            assert state["flooded"] - before < 30_000_000  # the kernel's buffers

    def test_a_slow_but_steady_reader_is_not_cut(self):
        """Ten pauses, each far shorter than the limit, together longer than it."""
        with small(write_seconds=1.5) as server, server.wire() as wire:
            wire.send(get("/stream?parts=400&size=65536"))
            for step in range(1, 11):
                while len(wire.buffer) < step * 2_500_000:
                    assert wire.more()
                time.sleep(0.2)
            answer = wire.answer()
            assert (answer.complete, len(answer.body)) == (True, 400 * 65536)


class TestFailingApplications:
    @pytest.mark.parametrize("how", ["", "returns", "long", "header"])
    def test_an_error_before_the_answer_is_told_without_a_detail(self, server, how):
        answer = server.ask(get(f"/fail?how={how}"))
        assert answer.error == (500, "internal_error")
        assert b"secret" not in answer.body

    def test_our_own_error_is_told_as_it_is(self, server):
        assert server.ask(get("/fail?how=neev")).error == (502, "upstream_error")

    @pytest.mark.parametrize("how", ["", "returns", "neev"])
    @pytest.mark.parametrize("version", ["1.0", "1.1"])
    def test_an_error_within_the_answer_breaks_it_off(self, server, how, version):
        with server.wire() as wire:
            wire.send(request("GET", f"/fail?begun=1&how={how}", version=version))
            if version == "1.1":
                answer = wire.answer()
                assert (answer.body, answer.complete) == (b"begun", False)
            else:  # only a reset tells that an answer without a length is not whole
                with pytest.raises(ConnectionResetError):
                    while wire.socket.recv(65536):
                        pass
