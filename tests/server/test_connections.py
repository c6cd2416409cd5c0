"""How many connections are served, and what happens when there are more, or no files left for them."""

from __future__ import annotations

import contextlib
import socket
import time

from neev_provider.gateway.server import listen
from tests.server.wire import Wire, eventually, get, post, small


class TestTheLimit:
    def test_one_more_is_told_so_and_closed(self):
        with small(max_connections=2) as server, server.wire() as one, server.wire() as two:
            one.send(get("/stream")).answer()
            two.send(get("/hold"))
            with server.wire() as three:
                answer = three.send(post("/three", b"abc")).answer()
                assert answer.error == (503, "server_overloaded")
                assert (answer.headers["retry-after"], answer.headers["connection"]) == ("1", "close")
                assert three.ends()
            journal = one.send(get("/state")).answer().json()["journal"]
            assert "GET /hold" in journal
            assert "POST /three" not in journal

    def test_idle_connections_make_room(self):
        with small(max_connections=2) as server, server.wire() as idle, server.wire() as busy:
            idle.send(get("/one")).answer()
            busy.send(get("/hold"))
            assert eventually(lambda: server.ask(get("/three")).status == 200)
            assert idle.ends()
            assert "GET /hold" in server.state()["journal"]

    def test_far_more_are_closed_without_a_word(self):
        with small(max_connections=1) as server:
            wires = [server.wire() for _ in range(300)]
            assert any(wire.ends() for wire in wires[290:])
            for wire in wires:
                wire.socket.close()
            server.until(lambda state: True)


class TestOpenFiles:
    def test_the_process_may_open_as_many_as_the_system_allows(self):
        with small(files=4096) as server:
            assert server.state()["files"] == [4096, 4096]

    def test_there_are_two_for_each_connection(self):
        with small(files=388) as server, server.wire() as one, server.wire() as two:
            assert one.send(get("/one")).answer().status == 200
            assert two.send(get("/two")).answer().status == 200
            assert server.ask(get("/three")).error == (503, "server_overloaded")

    def free(self, server) -> dict:
        """The state, as soon as the server has a file and a connection to tell it."""

        def look() -> dict | None:
            with server.wire() as wire, contextlib.suppress(OSError):
                if wire.send(get("/state")).more() and (answer := wire.answer()).status == 200:
                    return answer.json()
            return None

        return eventually(look)

    def test_when_none_is_left_the_process_neither_ends_nor_spins(self):
        with small(files=64) as server:
            before, started = self.free(server)["cpu"], time.monotonic()
            wires = [server.wire() for _ in range(100)]
            for _ in range(3):  # what was accepted is served, at once or as soon as another one has gone
                wires[0].send(get("/during")).answer()
            with contextlib.suppress(TimeoutError):
                wires[-1].socket.settimeout(1)
                wires[-1].more()
            for wire in wires:
                wire.socket.close()
            assert self.free(server)["cpu"] - before < (time.monotonic() - started) / 2 + 0.3


class TestSockets:
    def test_small_answers_are_not_held_back(self, server):
        """Nagle's algorithm is off: 40 requests would else take a delayed acknowledgement, 40 ms, each."""
        with server.wire() as wire:
            began = time.monotonic()
            for _ in range(40):
                wire.send(get("/stream?parts=3")).answer()
            assert time.monotonic() - began < 40 * 0.04

    def test_two_processes_share_a_port(self):
        with listen("127.0.0.1", 0) as one:
            with listen("127.0.0.1", one.getsockname()[1]) as other:
                assert one.getsockname() == other.getsockname()

    def test_ipv6_is_an_address_as_well(self):
        if not socket.has_ipv6:
            return
        with listen("::1", 0) as listener:
            assert listener.family is socket.AF_INET6
            with socket.create_connection(listener.getsockname()[:2]):
                pass


def test_a_wire_without_a_server_is_refused():
    """What the tests take for not accepting any more."""
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    try:
        Wire(port)
    except ConnectionRefusedError:
        return
    raise AssertionError


def test_a_connection_that_has_ended_is_forgotten_without_the_garbage_collector():
    with small() as server:
        before = server.ask(get("/connections")).json()
        for _ in range(20):
            with server.wire() as wire:
                assert wire.send(get("/one")).answer().status == 200
                assert wire.send(get("/two")).answer().status == 200
        # The last calls' connections, which the small application itself holds.
        assert eventually(lambda: server.ask(get("/connections")).json() <= before + 2)
