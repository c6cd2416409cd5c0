"""What the gateway itself does with a chunk, without sockets: cutting events, looking for usage and errors, the name.

The least of many runs, in microseconds of one core, so that other work on the machine hardly shows. Run:
`python -m benchmarks.chunk [--chunks 200]`.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from benchmarks.workload import MODEL, STREAM_EVENTS, STREAM_USAGE
from neev_provider.gateway.relay import EventRelay
from neev_provider.usage import StreamMeter

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS = 2000
SPACED = tuple(event.replace(b'":', b'": ') for event in STREAM_EVENTS)


def one_by_one(events: tuple[bytes, ...], chunks: int) -> list[bytes]:
    """Return a stream whose every read is an event."""
    return [events[number % len(events)] for number in range(chunks)]


def microseconds(model: str, reads: list[bytes], chunks: int) -> float:
    """Return what a chunk costs at best, the stream's estimate or usage included."""

    def run() -> None:
        meter = StreamMeter(100)
        relay = EventRelay(model, meter, shows_usage=False)
        for data in reads:
            relay.digest(data)
        relay.digest(STREAM_USAGE)
        meter.usage()

    return min(_seconds(run) for _ in range(max(20, RUNS * 20 // chunks))) / chunks * 1e6


def _seconds(run: Callable[[], None]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def main() -> None:
    """Measure, and print a line for each kind of stream."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chunk", description=__doc__)
    parser.add_argument("--chunks", type=int, default=200)
    chunks = parser.parse_args().chunks
    each = one_by_one(STREAM_EVENTS, chunks)
    joined = [b"".join(each[at : at + 10]) for at in range(0, chunks, 10)]
    halves = [part for event in each for part in (event[:100], event[100:])]
    for what, model, reads in (
        ("an event a read", MODEL, each),
        ("the same, under another name", "another-name", each),
        ("ten events a read", MODEL, joined),
        ("half an event a read", MODEL, halves),
        ("JSON with blanks, under another name", "another-name", one_by_one(SPACED, chunks)),
    ):
        print(f"{microseconds(model, reads, chunks):6.2f} us  {what}")


if __name__ == "__main__":
    main()
