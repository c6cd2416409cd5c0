"""Every field that LiteLLM's admin routes know is known here: kept, or refused by name."""

from __future__ import annotations

import pytest
from litellm.proxy import _types as litellm_types

from neev_provider.gateway.admin_words import KEY_WORDS, TEAM_WORDS


@pytest.mark.parametrize(
    ("name", "words", "own"),
    [
        ("GenerateKeyRequest", KEY_WORDS, {"team_id"}),
        ("UpdateKeyRequest", KEY_WORDS, {"key", "team_id"}),
        ("RegenerateKeyRequest", KEY_WORDS, {"key", "team_id", "grace_period"}),
        ("NewTeamRequest", TEAM_WORDS, {"team_id"}),
        ("UpdateTeamRequest", TEAM_WORDS, {"team_id"}),
    ],
)
def test_no_field_of_litellms_is_unknown(name, words, own):
    theirs = set(getattr(litellm_types, name).model_fields)
    assert theirs - words.attributes.keys() - words.refused - own == set()


def test_none_is_both_kept_and_refused():
    for words in (KEY_WORDS, TEAM_WORDS):
        assert not words.attributes.keys() & words.refused
