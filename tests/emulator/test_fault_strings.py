"""The language of fault strings: what it takes, and what it says when it does not."""

from __future__ import annotations

import pytest

from neev_provider.emulator.fault_book import FaultBook
from neev_provider.emulator.faults import FAULTS, HEALTHY, Faults, FaultSyntaxError, parse_faults


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("status=503", Faults(status=503)),
        ("status=429,retry-after=2", Faults(status=429, retry_after=2.0)),
        (" status = 500 ; shape = html ; ", Faults(status=500, shape="html")),
        ("retry-after=0.5", Faults(status=429, retry_after=0.5)),
        ("shape=empty", Faults(status=500, shape="empty")),
        ("think", Faults(think="closed")),
        ("think=unclosed", Faults(think="unclosed")),
        ("cut-after=0,id=a,times=2", Faults(cut_after=0, id="a", times=2)),
        ("no-usage,no-done,split-bytes", Faults(no_usage=True, no_done=True, split_bytes=True)),
        ("none", HEALTHY),
    ],
)
def test_faults_are_read(text, expected):
    assert parse_faults(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("statsu=503", "unknown fault 'statsu'; did you mean 'status'?"),
        ("status", "fault 'status' needs a value: status=CODE"),
        ("status=99", "fault 'status' must be a whole number from 200 to 599, not '99'"),
        ("status=abc", "fault 'status' must be a whole number from 200 to 599, not 'abc'"),
        ("status=500,status=502", "fault 'status' is given twice"),
        ("stall=5", "fault 'stall' takes no value"),
        ("slow-first-byte=901", "fault 'slow-first-byte' must be seconds from 0 to 900, not '901'"),
        (
            "shape=xml",
            "fault 'shape' must be one of openai, string, flat, reason, html, empty, not 'xml'",
        ),
        ("times=2", "'times=2' names no fault; write for example status=503, or none"),
        ("", "'' names no fault; write for example status=503, or none"),
        ("=5", "unknown fault ''; known are " + ", ".join(kind.name for kind in FAULTS)),
    ],
)
def test_wrong_faults_are_told_what_is_wrong(text, message):
    with pytest.raises(FaultSyntaxError) as raised:
        parse_faults(text)
    assert str(raised.value) == message


def test_every_row_of_the_table_can_be_written():
    values = {"CODE": "503", "SECONDS": "1", "N": "1", "NAME": "x"}
    for kind in FAULTS:
        if kind.scope == "selection":
            continue
        text = (
            f"{kind.name}={values.get(kind.metavar, kind.metavar.split('|')[-1])}"
            if kind.metavar
            else kind.name
        )
        assert parse_faults(text) != HEALTHY, kind.name


def test_times_ends_a_fault_and_counts_by_id():
    book = FaultBook()
    assert [book.choose("stall,times=2", None).stall for _ in range(3)] == [True, True, False]
    assert book.choose("stall,times=1,id=x", None).stall
    assert not book.choose("reset,times=1,id=x", None).reset
    book.clear()
    assert book.choose("reset,times=1,id=x", None).reset


def test_a_request_s_own_fault_wins_over_its_model_s_and_that_over_everyone_s():
    book = FaultBook("status=500")
    book.put("status=501", model="m")
    assert book.choose(None, "other").status == 500
    assert book.choose(None, "m").status == 501
    assert book.choose("status=502", "m").status == 502
    assert book.choose("none", "m") is HEALTHY


def test_a_process_wide_fault_can_end():
    book = FaultBook()
    book.put("stall", times=1)
    assert [book.choose(None, None).stall for _ in range(2)] == [True, False]
