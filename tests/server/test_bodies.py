"""Bodies: handed over as the application asks for them, and not kept when it does not."""

from __future__ import annotations

import contextlib
import socket

import pytest

from tests.server.wire import get, post, request

EXPECT = "Expect: 100-continue"


class TestFlow:
    @pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_000])
    @pytest.mark.parametrize("chunked", [False, True])
    def test_a_body_arrives_whole(self, server, size, chunked):
        body = bytes(range(65, 90)) * (size // 25 + 1)
        body = body[:size]
        sent = post("/echo", body)
        if chunked:
            parts = [body[start : start + 70_001] for start in range(0, size, 70_001)]
            framed = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
            sent = request("POST", "/echo", "Transfer-Encoding: chunked") + framed + b"0\r\n\r\n"
        assert server.ask(sent).json()["body"].encode() == body

    @pytest.mark.parametrize("ahead", [b"", get("/leave")], ids=["it runs", "it waits for another one"])
    def test_a_body_that_nobody_reads_stays_with_the_client(self, server, ahead):
        with server.wire() as wire:
            wire.send(ahead + request("POST", "/hold", "Content-Length: 90000000"))
            wire.socket.settimeout(1)
            sent = 0
            with contextlib.suppress(TimeoutError):
                while sent < 90_000_000:
                    sent += wire.socket.send(b"x" * 1_000_000)
        assert sent < 30_000_000  # the kernel's buffers

    @pytest.mark.parametrize("ahead", [b"", get("/next")], ids=["after one request", "after two"])
    def test_a_client_that_leaves_is_noticed(self, server, ahead):
        left = server.state()["journal"].count("http.disconnect")
        with server.wire() as wire:
            wire.send(post("/leave", b"abc") + ahead)
            server.until(lambda state: state["journal"][-1] == "POST /leave")
        server.until(lambda state: state["journal"].count("http.disconnect") == left + 1)


class TestAnswersBeforeTheBody:
    def test_the_answer_is_received_and_the_connection_closed(self, server):
        with server.wire() as wire:
            wire.send(request("POST", "/reject", "Content-Length: 500000") + b"x" * 1000)
            answer = wire.answer()
            assert (answer.status, answer.headers["connection"]) == (401, "close")
            wire.send(b"x" * 499_000)  # goes on sending, as clients do
            wire.socket.shutdown(socket.SHUT_WR)
            assert wire.ends()

    def test_even_by_a_client_that_sends_all_of_it_first(self, server):
        with server.wire() as wire:
            wire.send(request("POST", "/reject", "Content-Length: 30000000"))
            for _ in range(30):
                wire.send(b"x" * 1_000_000)
            assert wire.answer().status == 401

    def test_a_client_that_never_stops_sending_is_closed(self, server):
        with server.wire() as wire:
            wire.send(request("POST", "/reject", "Content-Length: 900000000"))
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                for _ in range(900):
                    wire.send(b"x" * 1_000_000)

    def test_a_body_that_has_arrived_does_not_cost_the_connection(self, server):
        with server.wire() as wire:
            answer = wire.send(post("/reject", b"abc")).answer()
            assert (answer.status, "connection" in answer.headers) == (401, False)
            assert wire.send(get("/next")).answer().json()["path"] == "/next"


class TestExpectContinue:
    def test_the_client_is_told_to_continue_when_the_body_is_wanted(self, server):
        with server.wire() as wire:
            wire.send(request("POST", "/echo", "Content-Length: 3", EXPECT))
            assert wire.answer().status == 100
            assert wire.send(b"abc").answer().json()["body"] == "abc"

    def test_it_is_not_when_the_request_is_refused_at_once(self, server):
        with server.wire() as wire:
            answer = wire.send(request("POST", "/reject", "Content-Length: 3", EXPECT)).answer()
            assert (answer.status, answer.headers["connection"]) == (401, "close")

    def test_nor_when_the_body_is_there_already(self, server):
        with server.wire() as wire:
            assert wire.send(post("/echo", b"abc", EXPECT)).answer().json()["body"] == "abc"

    def test_nor_in_http_1_0(self, server):
        with server.wire() as wire:
            wire.send(request("POST", "/echo", "Content-Length: 3", EXPECT, version="1.0"))
            server.until(lambda state: state["journal"][-1] == "POST /echo")
            assert wire.send(b"abc").answer().status == 200
