"""Whatever is sent to the admin routes, the answer is a 200 or a 4xx in the one shape, never a fault of ours."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neev_provider.gateway.admin_words import KEY_WORDS, TEAM_WORDS
from tests.admin.test_refusals import GETS, POSTS

OWN = ["key", "keys", "key_aliases", "team_id", "team_ids", "grace_period"]
FIELDS = sorted(
    {*KEY_WORDS.attributes, *KEY_WORDS.refused, *TEAM_WORDS.attributes, *TEAM_WORDS.refused, *OWN}
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.decimals().map(str)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
)
BODIES = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3)
QUERY = [
    "key",
    "team_id",
    "page",
    "size",
    "key_alias",
    "since",
    "by",
    "start_date",
    "end_date",
    "api_key",
    "group_by",
]
MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def check(answer) -> None:
    assert answer.status_code == 200 or 400 <= answer.status_code < 500, answer.text
    if answer.status_code != 200:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@MANY
@given(path=st.sampled_from(POSTS), body=BODIES)
def test_any_fields(admin, path, body):
    check(admin.send("POST", path, data=json.dumps(body), headers={"Content-Type": "application/json"}))


@MANY
@given(
    path=st.sampled_from(GETS),
    query=st.dictionaries(
        st.sampled_from(QUERY), st.text(st.characters(codec="utf-8"), max_size=20), max_size=3
    ),
)
def test_any_query(admin, path, query):
    check(admin.send("GET", path, params=query))


@pytest.mark.parametrize(
    "body",
    [
        b'{"metadata": ' + b'{"x": ' * 900 + b"1" + b"}" * 900 + b"}",
        b'{"metadata": {"x": "\\ud800"}}',
        b'{"key_alias": "\\ud800"}',
        b'{"models": ["\\udfff"]}',
        b'{"metadata": {"\\ud800": 1}}',
        b'{"rpm_limit": ' + b"9" * 10_000 + b"}",
        b'{"max_budget": ' + b"9" * 10_000 + b"}",
        b'{"max_budget": "' + b"9" * 1_000_000 + b'"}',
        b'{"max_budget": 0.' + b"1" * 1_000_000 + b"}",
        b'{"metadata": {"x": ' + b"9" * 10_000 + b"}}",
    ],
    ids=range(10),
)
def test_any_extreme(admin, body):
    check(admin.send("POST", "/key/generate", data=body, headers={"Content-Type": "application/json"}))
