"""The pipelined connection against a server of our own that answers what a test tells it to, and against Valkey."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl

import hiredis
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from neev_provider.errors import ServerError
from neev_provider.store import Store
from neev_provider.store.address import Endpoint
from neev_provider.store.connection import CallTimeoutError, Connection
from neev_provider.store.node import Timing
from tests.store.servers import server


@pytest.fixture(scope="module")
def valkey(tmp_path_factory):
    running = server(tmp_path_factory.mktemp("valkey"), password="a secret/word@")
    yield running
    running.stop()


@pytest.fixture
async def scripted():
    """A server that accepts the greeting and then sends the pieces that a test puts into its queue."""
    pieces: asyncio.Queue[bytes] = asyncio.Queue()
    writers = []

    async def serve(reader, writer):
        writers.append(writer)
        await reader.readuntil(b"neev-gateway\r\n")
        writer.write(b"+OK\r\n")
        while piece := await pieces.get():
            writer.write(piece)
            await writer.drain()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    connection = await Connection.open(
        Endpoint("127.0.0.1", listener.sockets[0].getsockname()[1]), seconds=0.3
    )
    yield connection, pieces
    connection.close()
    pieces.put_nowait(b"")
    for writer in writers:
        writer.close()
    listener.close()


class TestReplies:
    async def test_split_at_every_byte(self, scripted):
        connection, pieces = scripted
        calls = [connection.call("ANY") for _ in range(3)]
        for byte in b"$5\r\nhello\r\n*2\r\n:1\r\n$-1\r\n+OK\r\n":
            pieces.put_nowait(bytes([byte]))
        assert await asyncio.gather(*calls) == [b"hello", [1, None], b"OK"]

    async def test_several_in_one_piece_and_an_error_among_them(self, scripted):
        connection, pieces = scripted
        calls = [connection.call("ANY") for _ in range(3)]
        pieces.put_nowait(b":1\r\n-ERR no\r\n:3\r\n")
        first, error, third = await asyncio.gather(*calls, return_exceptions=True)
        assert (first, third) == (1, 3)
        assert isinstance(error, hiredis.ReplyError)

    async def test_of_a_caller_that_left_are_nobody_elses(self, scripted):
        connection, pieces = scripted
        left, stayed = connection.call("ANY"), connection.call("ANY")
        left.cancel()
        pieces.put_nowait(b":1\r\n:2\r\n")
        assert await stayed == 2

    async def test_that_are_none_end_the_connection(self, scripted):
        connection, pieces = scripted
        call = connection.call("ANY")
        pieces.put_nowait(b"HTTP/1.1 400 Bad Request\r\n")
        with pytest.raises(ConnectionError, match="not a reply"):
            await call
        assert connection.gone

    async def test_that_nobody_asked_for_end_the_connection(self, scripted):
        connection, pieces = scripted
        pieces.put_nowait(b":1\r\n:2\r\n")
        with pytest.raises(ConnectionError):
            await connection.call("ANY")
            await connection.call("ANY")
            await asyncio.sleep(0)
            await connection.call("ANY")

    async def test_that_are_late_end_the_connection_and_all_calls_on_it(self, scripted):
        connection, _ = scripted
        outcomes = await asyncio.gather(*(connection.call("ANY") for _ in range(5)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [CallTimeoutError] * 5
        assert connection.gone
        with pytest.raises(CallTimeoutError):
            await connection.call("ANY")


class TestLoggingIn:
    async def test_with_a_password_and_a_database(self, valkey):
        async with Store.from_url(f"redis://:a%20secret%2Fword%40@127.0.0.1:{valkey.port}/3") as store:
            await store.call("x", "SET", "x", "1")
            assert b"db=3" in await store.call("x", "CLIENT", "INFO")

    async def test_with_a_user(self, valkey):
        valkey.client().execute_command("ACL SETUSER", "gate", "on", ">pass", "~*", "+@all")
        async with Store.from_url(f"redis://gate:pass@127.0.0.1:{valkey.port}") as store:
            assert await store.call("x", "ACL", "WHOAMI") == b"gate"

    async def test_over_a_socket(self, valkey):
        async with Store.from_url(f"unix://:a%20secret%2Fword%40@{valkey.socket}?db=1") as store:
            assert await store.call("x", "PING") == b"PONG"

    async def test_with_a_wrong_password_says_so_without_it(self, valkey, caplog):
        async with Store.from_url(f"redis://:wrong-word@127.0.0.1:{valkey.port}") as store:
            with pytest.raises(ServerError) as refused:
                await store.call("x", "PING")
        assert refused.value.code == "store_unavailable"
        assert "WRONGPASS" in caplog.text
        assert "wrong-word" not in caplog.text + repr(store) + repr(store.address) + str(refused.value)


class TestTLS:
    @pytest.fixture
    async def terminated(self, valkey, tmp_path):
        """A real TLS listener before the real Valkey: the embedded build has no TLS of its own."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        pem = tmp_path / "cert.pem"
        pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        formats = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        (tmp_path / "key.pem").write_bytes(key.private_bytes(*formats))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(pem, tmp_path / "key.pem")
        tasks = set()

        async def pump(reader, writer):
            while data := await reader.read(65536):
                writer.write(data)
            writer.close()

        async def serve(reader, writer):
            there, back = await asyncio.open_connection("127.0.0.1", valkey.port)
            tasks.add(asyncio.current_task())
            await asyncio.gather(pump(reader, back), pump(there, writer), return_exceptions=True)

        listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        yield listener.sockets[0].getsockname()[1], pem
        listener.close()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def test_checks_the_server_by_the_given_authority(self, terminated):
        port, pem = terminated
        url = f"rediss://:a%20secret%2Fword%40@localhost:{port}?ssl_ca_certs={pem}"
        async with Store.from_url(url, timing=Timing(call=5)) as store:
            assert await store.call("x", "PING") == b"PONG"

    async def test_refuses_a_server_that_it_does_not_know(self, terminated):
        port, _ = terminated
        async with Store.from_url(f"rediss://:x@localhost:{port}", timing=Timing(call=5)) as store:
            with pytest.raises(ServerError):
                await store.call("x", "PING")
