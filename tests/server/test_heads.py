"""The size and the pace of a request's head."""

from __future__ import annotations

import contextlib
import socket

import pytest

from tests.server.wire import get, post, request

LIMIT = 32_768


def sized(size: int) -> bytes:
    """A request whose target and headers take `size` bytes."""
    return get("/sized", "X: " + "x" * (size - len("/sized") - len("Hosthere") - 4 - len("X") - 4))


class TestSize:
    def test_the_limit_itself_is_possible(self, server):
        assert server.ask(sized(LIMIT)).status == 200

    @pytest.mark.parametrize(
        "piece", [1 << 20, 20_000, 1_000], ids=["at once", "in two parts", "in many parts"]
    )
    def test_a_byte_more_is_not(self, server, piece):
        before = server.calls("/sized")
        sent = sized(LIMIT + 1)
        with server.wire() as wire:
            wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for start in range(0, len(sent), piece):
                wire.send(sent[start : start + piece])
            answer = wire.answer()
            assert answer.error == (431, "headers_too_large")
            assert answer.headers["connection"] == "close"
            assert wire.ends()
        assert server.calls("/sized") == before

    def test_a_huge_target_is_too_large_as_well(self, server):
        assert server.ask(get("/" + "x" * 100_000)).error == (431, "headers_too_large")

    def test_two_hundred_headers_are_possible_and_one_more_is_not(self, server):
        assert server.ask(get("/many", *["X: y"] * 199)).status == 200
        assert server.ask(get("/many", *["X: y"] * 200)).error == (431, "headers_too_large")

    @pytest.mark.parametrize("start", [b"X: ", b"X", b""], ids=["a value", "a name", "many headers"])
    def test_headers_without_an_end_take_up_no_memory(self, server, start):
        before = server.state()["resident"]
        with server.wire() as wire:
            wire.send(b"GET / HTTP/1.1\r\nHost: here\r\n" + start)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for _ in range(400):
                    wire.send((b"x" if start else b"X: y\r\n") * 100_000)
        assert server.state()["resident"] - before < 20_000_000

    def test_nor_does_a_trailer_without_an_end(self, server):
        before = server.state()["resident"]
        with server.wire() as wire:
            wire.send(request("POST", "/echo", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\nX: ")
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for _ in range(400):
                    wire.send(b"x" * 100_000)
        assert server.state()["resident"] - before < 20_000_000

    def test_a_trailer_that_is_too_large_is_refused(self, server):
        with server.wire() as wire:
            wire.send(request("POST", "/trailer", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n")
            server.until(lambda state: state["journal"][-1] == "POST /trailer")
            for _ in range(5):
                wire.send(b"X: " + b"x" * 10_000 + b"\r\n")
            assert wire.answer().error == (431, "headers_too_large")

    def test_a_large_body_before_the_next_head_does_not_count(self, server):
        with server.wire() as wire:
            wire.send(post("/echo", b"x" * 100_000) + sized(LIMIT)[:20_000])
            assert wire.answer().status == 200
            assert wire.send(sized(LIMIT)[20_000:]).answer().status == 200

    def test_small_chunks_are_no_head(self, server):
        body = b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n"
        answer = server.ask(request("POST", "/echo", "Transfer-Encoding: chunked") + body)
        assert len(answer.json()["body"]) == 20_000


class TestPace:
    def test_a_connection_without_a_request_is_closed_without_a_word(self, hasty):
        with hasty.wire() as wire:
            assert wire.ends()

    @pytest.mark.parametrize("sent", [b"G", b"GET / HTTP/1.1\r\n", get("/slow")[:-2]])
    def test_a_head_that_does_not_arrive_in_time_is_told_so(self, hasty, sent):
        with hasty.wire() as wire:
            answer = wire.send(sent).answer()
            assert answer.error == (408, "request_timeout")
            assert answer.headers["connection"] == "close"
            assert wire.ends()

    def test_a_byte_now_and_then_does_not_gain_time(self, hasty):
        with hasty.wire() as wire:
            wire.socket.settimeout(0.05)
            for byte in b"GET /" + b"x" * 1000:
                wire.send(bytes([byte]))
                with contextlib.suppress(TimeoutError):
                    wire.more()
                if wire.buffer:
                    break
            wire.socket.settimeout(20)
            assert wire.answer().error == (408, "request_timeout")

    def test_the_second_request_of_a_connection_has_its_own_time(self, hasty):
        with hasty.wire() as wire:
            assert wire.send(get("/one") + b"GET /two").answer().status == 200
            assert wire.answer().error == (408, "request_timeout")

    def test_an_idle_connection_is_closed_without_a_word(self, hasty):
        with hasty.wire() as wire:
            assert wire.send(get("/one")).answer().status == 200
            assert wire.ends()

    def test_blank_lines_do_not_keep_a_connection(self, hasty):
        with hasty.wire() as wire:
            wire.socket.settimeout(0.05)
            ended = False
            for _ in range(400):
                with contextlib.suppress(TimeoutError, BrokenPipeError):
                    wire.send(b"\r\n")
                    ended = not wire.more()
                if ended or wire.buffer:
                    break
            assert ended or b" 408 " in wire.buffer

    def test_a_running_request_may_take_longer_than_all_of_these(self, hasty, tmp_path):
        with hasty.wire() as wire:
            wire.send(get(f"/hold?until={tmp_path}/go"))
            with hasty.wire() as other:  # as long as a limit lasts
                assert other.ends()
            (tmp_path / "go").touch()
            assert wire.answer().body == b"done"
