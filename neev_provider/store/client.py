"""The store: finds the server that holds a name, runs scripts there in one round trip, and bounds every call.

One server, the primary that Sentinels name, or the nodes of a cluster. Called by admission; `node.py` keeps the
connections.
"""

from __future__ import annotations

import asyncio
import binascii
import hashlib
import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import hiredis

from neev_provider.errors import ServerError
from neev_provider.store.address import Endpoint, parse_address
from neev_provider.store.connection import Connection
from neev_provider.store.node import Node, Timing, UnknownOutcomeError, unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from neev_provider.store.address import Address
    from neev_provider.store.connection import Word

__all__ = ["Script", "Store", "slot_of"]

_LOG: Final = logging.getLogger("neev_provider.store")

# What a server answers while it cannot serve: it starts, is being replaced, has no room, or is in a long script.
_AWAY: Final = frozenset(
    {"LOADING", "READONLY", "CLUSTERDOWN", "MASTERDOWN", "BUSY", "OOM", "MISCONF", "NOREPLICAS"}
)
_REFUSED: Final = frozenset({"NOAUTH", "NOPERM", "WRONGPASS"})
_ELSEWHERE: Final = frozenset({"MOVED", "ASK", "TRYAGAIN"})
_CALLS: Final = 4  # one after the other, at most, while a cluster points elsewhere
_SLOTS: Final = 16_384  # of a cluster
_SHORT_WAIT: Final = 0.01  # seconds, while a cluster moves a slot


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script.

    Attributes:
        source: its text.
        sha: by which the server knows it.
    """

    source: str
    sha: str

    @classmethod
    def of(cls, source: str) -> Self:
        """Return the script of a text."""
        return cls(source, hashlib.sha1(source.encode()).hexdigest())  # noqa: S324 - Redis names scripts so


class Store:
    """A store; `async with` closes it.

    Args:
        address: where it is.
        timing: bounds of its calls.
    """

    def __init__(self, address: Address, timing: Timing | None = None) -> None:
        self.address: Final = address
        self.timing: Final = timing or Timing()
        self._nodes: Final[dict[Endpoint, Node]] = {}
        self._told_at = -math.inf
        self._slots: list[Endpoint] = []  # of a cluster: by slot
        self._primaries: list[Endpoint] = []  # of a cluster, as it was last read
        self._past_epochs = 0  # of nodes that are no part of the cluster any more
        self._leaving: Final[set[asyncio.Task[None]]] = set()
        self._reading: asyncio.Task[list[Endpoint]] | None = None
        self._only = None if address.kind == "cluster" else self._make_only()

    @classmethod
    def from_url(cls, url: str, *, timing: Timing | None = None, source: str = "store") -> Self:
        """Return the store of a URL; connects at the first call.

        Raises:
            ConfigError: the URL cannot be read.
        """
        return cls(parse_address(url, source=source), timing)

    def __repr__(self) -> str:
        return f"Store({self.address.kind} {self.address})"

    @property
    def is_open(self) -> bool:
        """Whether calls may get through; False while the circuit of a single server is broken."""
        return self._only is None or not self._only.is_open

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to every server that has been asked, and is still a part of the store."""
        nodes = [self._only] if self._only is not None else self._nodes.values()
        return all(node.is_connected for node in nodes)

    @property
    def epoch(self) -> int:
        """A number that rises with every new connection: behind it may be a server that has forgotten something."""
        nodes = [self._only] if self._only is not None else self._nodes.values()
        return self._past_epochs + sum(node.epoch for node in nodes)

    async def call(self, name: str, *words: Word) -> Any:
        """Send one command to the server that holds `name`.

        Raises:
            ServerError: `store_unavailable`: away, or slower than the bound; whether it was carried out is not
                known. `internal_error`: refused.
        """
        only = self._only
        try:
            if only is not None:
                return await only.call(*words)
            return await self._call_cluster(slot_of(name), words)
        except hiredis.ReplyError as error:
            raise self._refusal(error) from None

    async def run(self, script: Script, names: Sequence[str], args: Sequence[Word]) -> Any:
        """Run a script where its names are; one round trip, or two if the server does not know it yet.

        Args:
            script: what to run.
            names: the Redis names it touches; all in one slot.
            args: its arguments.

        Raises:
            ServerError: as `call`.
        """
        only = self._only
        try:
            if only is not None:
                return await only.call("EVALSHA", script.sha, len(names), *names, *args)
            slot = slot_of(names[0])
            return await self._call_cluster(slot, ("EVALSHA", script.sha, len(names), *names, *args))
        except hiredis.ReplyError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise self._refusal(error) from None
        return await self.call(names[0], "EVAL", script.source, len(names), *names, *args)

    async def each_node(self, *words: Word) -> dict[str, Any]:
        """Send one command to every primary; return the replies by server.

        Raises:
            ServerError: as `call`.
        """
        try:
            if self._only is not None:
                return {self._only.name: await self._only.call(*words)}
            if not self._slots:
                await self._read_slots()
            nodes = [self._node(endpoint) for endpoint in self._primaries]
            return {node.name: await node.call(*words) for node in nodes}
        except hiredis.ReplyError as error:
            raise self._refusal(error) from None

    async def close(self) -> None:
        """End all connections."""
        tasks = [*self._leaving, *([] if self._reading is None else [self._reading])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._only is not None:
            await self._only.close()
        for node in self._nodes.values():
            await node.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _refusal(self, error: hiredis.ReplyError) -> ServerError:
        """Return what a caller is told of a refusal; the server's own words go to the log."""
        word = str(error).partition(" ")[0]
        if word in _AWAY or word in _REFUSED:
            if self._only is not None and word in {"READONLY", *_REFUSED}:
                self._only.drop()  # after a failover the primary is another
            self._tell(error)
            return unavailable(self.timing.probe)
        _LOG.error("the store refuses a command: %s", error)
        return ServerError("internal_error", "The gateway's store refused a command.")

    def _tell(self, error: hiredis.ReplyError) -> None:
        """Log why the store cannot serve, once a second at most: every call of a busy gateway is told so."""
        now = time.monotonic()
        if now - self._told_at >= self.timing.probe:
            self._told_at = now
            _LOG.warning("the store cannot serve: %s", error)

    # One server

    def _make_only(self) -> Node:
        return Node(str(self.address), self.timing, self._connect_only)

    async def _connect_only(self) -> Connection:
        if self.address.kind == "single":
            return await self._connect(self.address.endpoints[0])
        return await self._connect(await self._primary())

    async def _connect(self, endpoint: Endpoint) -> Connection:
        address = self.address
        return await Connection.open(
            endpoint,
            seconds=self.timing.call,
            tls=address.tls,
            username=address.username,
            password=address.password,
            db=address.db,
        )

    async def _primary(self) -> Endpoint:
        """Ask the Sentinels in turn.

        Raises:
            ConnectionError: none knows.
        """
        address = self.address
        for endpoint in address.endpoints:
            sentinel = None
            try:
                sentinel = await Connection.open(
                    endpoint,
                    seconds=self.timing.call,
                    tls=address.tls,
                    username=address.sentinel_username,
                    password=address.sentinel_password,
                )
                found = await sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", address.service)
            except (OSError, hiredis.ReplyError) as error:
                _LOG.warning("the Sentinel %s cannot be asked: %s", endpoint, error)
                continue
            finally:
                if sentinel is not None:
                    sentinel.close()
            if found:
                host, port = found
                return Endpoint(host.decode(), int(port))
        raise ConnectionError(f"no Sentinel knows '{address.service}'")

    # A cluster

    def _node(self, endpoint: Endpoint) -> Node:
        node = self._nodes.get(endpoint)
        if node is None:
            node = Node(str(endpoint), self.timing, lambda: self._connect(endpoint))
            self._nodes[endpoint] = node
        return node

    async def _call_cluster(self, slot: int, words: Sequence[Word]) -> Any:
        """Ask the node of a slot, and follow where the cluster points.

        Raises:
            hiredis.ReplyError: refused.
            ServerError: away.
        """
        try:
            # Every call of a node has its own bound, which forgives a process that was slow itself.
            async with asyncio.timeout(self.timing.call * _CALLS):
                return await self._follow(slot, words)
        except TimeoutError:
            raise unavailable(self.timing.probe, UnknownOutcomeError) from None

    async def _follow(self, slot: int, words: Sequence[Word]) -> Any:
        slots = self._slots or await self._read_slots()
        endpoint, asking = slots[slot], False
        while True:
            try:
                return await self._node(endpoint).call(*words, asking=asking)
            except ServerError:
                # A replica may have taken its place: look before the next call.
                self._slots = []
                raise
            except hiredis.ReplyError as error:
                word, *rest = str(error).split()
                if word not in _ELSEWHERE:
                    raise
                asking = word == "ASK"
                if word == "TRYAGAIN":
                    await asyncio.sleep(_SHORT_WAIT)
                    continue
                host, _, port = rest[1].rpartition(":")
                endpoint = Endpoint(host or endpoint.host, int(port))
                if word == "MOVED":
                    await self._read_slots()

    async def _read_slots(self) -> list[Endpoint]:
        """Learn, and return, which node has which slot; all who want to know at once share one reading.

        Raises:
            ServerError: no node answers.
        """
        if self._reading is None:
            self._reading = asyncio.create_task(self._ask_for_slots())
            self._reading.add_done_callback(self._has_read)
        slots = await asyncio.shield(self._reading)
        if not slots:
            raise unavailable(self.timing.probe)
        return slots

    def _has_read(self, _reading: asyncio.Task[list[Endpoint]]) -> None:
        self._reading = None

    async def _ask_for_slots(self) -> list[Endpoint]:
        """Return the node of each slot; nothing if no node tells."""
        for endpoint in dict.fromkeys([*self._nodes, *self.address.endpoints]):
            try:
                found = await self._node(endpoint).call("CLUSTER", "SLOTS")
            except (ServerError, hiredis.ReplyError):
                continue
            slots = [endpoint] * _SLOTS
            uncovered = _SLOTS
            primaries: dict[Endpoint, None] = {}  # in their order
            for first, last, primary, *_ in found:
                host = primary[0].decode() if primary[0] else endpoint.host
                one, number = Endpoint(host, primary[1]), last - first + 1
                slots[first : last + 1] = [one] * number
                primaries[one] = None
                uncovered -= number
            if uncovered:
                primaries[endpoint] = None
            self._slots, self._primaries = slots, list(primaries)
            self._let_go()
            return slots
        return []

    def _let_go(self) -> None:
        """Forget nodes that hold nothing any more: one that is gone for good would be looked for again and again."""
        for endpoint in self._nodes.keys() - self._primaries:
            node = self._nodes.pop(endpoint)
            self._past_epochs += node.epoch
            task = asyncio.create_task(self._close_later(node))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _close_later(self, node: Node) -> None:
        """Close a node when nobody can wait for its answer any more."""
        try:
            await asyncio.sleep(self.timing.call * _CALLS)
        finally:
            await node.close()


def slot_of(name: str) -> int:
    """Return a name's slot in a cluster: CRC16 (XMODEM) of what stands in its first braces, or else of all of it.

    Source: Redis Cluster specification, "Key distribution model" and "Hash tags".
    """
    _, brace, rest = name.partition("{")
    tag, closed, _ = rest.partition("}")
    counts = tag if brace and closed and tag else name
    return binascii.crc_hqx(counts.encode(), 0) % _SLOTS
