"""The same request gets the same answer, whichever way it takes."""

from __future__ import annotations

import pytest

from tests.differential.answers import aspects
from tests.differential.corpus import CORPUS, Case


def test_the_corpus_is_large_and_every_case_has_a_name_of_its_own():
    assert len(CORPUS) >= 150
    assert len({case.name for case in CORPUS}) == len(CORPUS)


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
def test_both_ways_answer_alike(fast_answers, litellm_answers, case: Case):
    fast = aspects(case, fast_answers[case.name])
    litellm = aspects(case, litellm_answers[case.name])
    differing = {name for name in fast.keys() | litellm.keys() if fast.get(name) != litellm.get(name)}
    if "status" in case.known:
        differing &= {"status"}
    shown = {name: (fast.get(name), litellm.get(name)) for name in differing}
    body = litellm_answers[case.name].body
    assert differing <= case.known.keys(), f"fast path, LiteLLM path: {shown}\n{body[:600]}"


def test_most_of_it_is_the_same_in_every_aspect():
    assert sum(not case.known for case in CORPUS) >= 190


def test_the_answers_took_the_ways_that_they_were_to_take(fast_answers, litellm_answers):
    name = "plain, whole"
    assert fast_answers[name].headers["x-neev-path"] == "fast"
    assert litellm_answers[name].headers["x-neev-path"] == "litellm"
    assert "x-litellm-call-id" in litellm_answers[name].headers
