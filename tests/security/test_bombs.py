"""Bodies that are small to send and dear to read, on every route that takes JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.admin.test_refusals import POSTS

CHAT, SPEECH = "/v1/chat/completions", "/v1/audio/speech"
HUGE = 9_900_000  # bytes; a body may have ten million
DEEP = 4_900_000


def field(name: str, value: bytes) -> bytes:
    return (
        b'{"model":"house","messages":[{"role":"user","content":"x"}],"'
        + name.encode()
        + b'":'
        + value
        + b"}"
    )


BOMBS = {
    "deep arrays": field("metadata", b"[" * DEEP + b"]" * DEEP),
    "deep objects": b'{"a":' * 1_600_000 + b"1" + b"}" * 1_600_000,
    "arrays without an end": b"[" * HUGE,
    "an integer of ten million digits": field("max_tokens", b"9" * HUGE),
    "a fraction of ten million digits": field("max_budget", b"0." + b"9" * HUGE),
    "an exponent": field("temperature", b"1e" + b"9" * 1000),
    "an exponent for money": b'{"max_budget":1e999999999}',
    "a negative exponent for money": b'{"max_budget":1e-999999999}',
    "a string of ten million characters": field("key_alias", b'"' + b"x" * HUGE + b'"'),
    "a key of ten million characters": b'{"' + b"x" * HUGE + b'":1}',
    "200,000 keys": b"{" + b",".join(b'"%x":1' % n for n in range(200_000)) + b"}",
    "one key half a million times": b"{" + b",".join([b'"key":1'] * 500_000) + b"}",
    "a model twice": b'{"model":"house","model":"nope","messages":[{"role":"user","content":"x"}]}',
    "a million nulls": field("messages", b"[" + b"null," * 1_900_000 + b"null]"),
    "ten million escapes": field("stop", b'"' + b"\\u0041" * 1_600_000 + b'"'),
    "a lone surrogate": b'{"model":"\\ud800","key":"\\udfff","team_id":"\\ud800","messages":[],"voice":"\\ud800"}',
    "NaN": b'{"model":"house","temperature":NaN,"max_budget":NaN,"rpm_limit":Infinity}',
    "no UTF-8": b'{"model":"\xff\xfe","key":"\xff"}',
    "UTF-16": '{"model":"house"}'.encode("utf-16"),
    "NUL": b"\0" * 1_000_000,
    "blanks": b" " * HUGE,
}
MOST_MEMORY = 400_000_000  # bytes that reading ten million may take for a while


def worker_of(admin) -> int:
    (worker,) = [
        pid
        for pid in admin.served.descendants()
        if b"neev_provider.gateway.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return worker


def peak(pid: int) -> int:
    """Return the most memory that a process ever had, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@pytest.mark.parametrize("bomb", BOMBS)
def test_every_route_bears_it_and_answers_in_a_few_words(admin, holder, bomb):
    worker = worker_of(admin)
    before = peak(worker)
    for path in (CHAT, SPEECH, *POSTS):
        key = holder if path in {CHAT, SPEECH} else admin.served.key
        headers = {"Content-Type": "application/json"}
        answer = admin.send("POST", path, key=key, data=BOMBS[bomb], headers=headers)
        assert answer.status_code == 200 or 400 <= answer.status_code < 500, (path, answer.text[:500])
        assert len(answer.content) < 1500, (path, len(answer.content))
        if answer.status_code != 200:  # a long number in a field that nobody judges is none of ours
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert worker_of(admin) == worker
    assert peak(worker) - before < MOST_MEMORY


REFUSED = [
    bomb
    for bomb in BOMBS
    if bomb.startswith(("deep", "arrays", "a million", "200,000", "NaN", "a lone", "no UTF", "UTF", "NUL"))
]


@pytest.mark.parametrize("bomb", REFUSED)
def test_what_is_no_request_goes_no_further(admin, holder, bomb):
    headers = {"Content-Type": "application/json"}
    assert admin.send("POST", CHAT, key=holder, data=BOMBS[bomb], headers=headers).status_code == 400


def test_a_stranger_pays_with_his_own_time(admin):
    """Nothing of a body is read for who has no key."""
    for path in (CHAT, SPEECH, *POSTS):
        assert admin.send("POST", path, key=None, data=BOMBS["deep arrays"]).status_code == 401


def test_of_a_key_that_comes_twice_all_readers_take_the_last(admin, holder):
    messages = b'"messages":[{"role":"user","content":"one"}],"messages":[{"role":"user","content":"two"}]'
    body = b'{"model":"nope","model":"house",' + messages + b"}"
    answer = admin.send("POST", CHAT, key=holder, data=body, headers={"Content-Type": "application/json"})
    assert answer.json()["choices"][0]["message"]["content"] == "two"
