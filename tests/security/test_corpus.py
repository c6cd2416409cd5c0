"""What the fuzzer found worth keeping, replayed; `make fuzz` looks for more."""

from __future__ import annotations

import pytest

from tests.proxy.serving import ROOT
from tests.security.fuzzing.seeds import SEEDS
from tests.security.fuzzing.targets import TARGETS

CORPUS = ROOT / "tests" / "security" / "corpus"


@pytest.mark.parametrize("name", TARGETS)
def test_all_that_was_found_still_holds(name):
    kept = [file.read_bytes() for file in sorted((CORPUS / name).iterdir())]
    assert len(kept) > 20
    for data in (*SEEDS[name], *kept):
        try:
            TARGETS[name](data)
        except Exception as error:
            pytest.fail(f"{type(error).__name__}: {error} on {data!r}")


def test_the_corpus_stays_small():
    assert sum(file.stat().st_size for file in CORPUS.rglob("*") if file.is_file()) < 500_000


class TestWhatWasFound:
    """Each a bug once; the corpus may lose them when it is minimised anew."""

    @pytest.mark.parametrize("end", [b"\n\n", b"\r\r", b"\r\n\r\n", b"\n\r\n", b"\r\r\n", b"\n\r"])
    def test_an_event_that_has_its_end_gets_no_other(self, end):
        TARGETS["sse"](b"\1\1\1data: x" + end)

    def test_blanks_after_a_value_are_no_part_of_it(self):
        head = b"POST /a HTTP/1.1\r\nHost: a \r\nContent-Length:3 \t\r\nExpect: 100-continue \r\n\r\nabc"
        TARGETS["http"](head)
