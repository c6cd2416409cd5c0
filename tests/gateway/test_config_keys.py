"""Keys that stand in the configuration, beside the master key."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from neev_provider.config import load_config
from neev_provider.errors import ConfigError
from tests.gateway.conftest import own_config
from tests.proxy.serving import ROOT, serving

TOKEN = "sk-" + "c0nfig" * 6
ENVIRON = {"NEEV_API_KEY": "sk-nc-x", "LITELLM_MASTER_KEY": "sk-" + "m" * 40, "CI_KEY": TOKEN}


def with_keys(folder, keys: str):
    file = own_config(folder)
    text = file.read_text()
    assert "\nneev:\n" in text
    file.write_text(text.replace("\nneev:\n", f"\nneev:\n  keys: {keys}\n", 1))
    return file


@pytest.mark.parametrize("store", ["embedded", "none"])
def test_such_a_key_may_call_and_is_named_in_the_log(tmp_path, store):
    file = with_keys(tmp_path, "[{alias: ci, key: os.environ/CI_KEY}]")
    words = ("--no-litellm", "--engine", "echo", "--store", store)
    with serving(tmp_path, *words, config=file, environ={"CI_KEY": TOKEN}) as running:
        body = json.dumps({"model": "house", "messages": [{"role": "user", "content": "x"}]}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        with urllib.request.urlopen(
            urllib.request.Request(running.root_url + "/v1/chat/completions", data=body, headers=headers)
        ) as response:
            assert response.status == 200
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(
                urllib.request.Request(
                    running.root_url + "/v1/models", headers={"Authorization": f"Bearer {TOKEN}x"}
                )
            )
        with caught.value as error:
            assert error.code == 401
        assert running.stop() == 0
        assert '"key_id":"ci"' in running.log()
        assert TOKEN not in running.log()


@pytest.mark.parametrize(
    ("keys", "place", "problem"),
    [
        ("[{alias: ci, key: sk-short}]", "neev.keys[0].key", "is too weak"),
        ("[{alias: ci, key: os.environ/CI_KEY}, {alias: ci2, key: os.environ/CI_KEY}]", "neev.keys[1]", "stands twice"),
        ("[{alias: 'a b', key: os.environ/CI_KEY}]", "neev.keys[0].alias", "must be"),
        ("[{key: os.environ/CI_KEY}]", "neev.keys", "alias"),
        ("[{alias: ci, key: os.environ/NO_KEY}]", "neev.keys[0].key", "refers to NO_KEY, which is not set"),
    ],
)  # fmt: skip
def test_a_wrong_one_stops_the_start_and_is_not_shown(tmp_path, keys, place, problem):
    with pytest.raises(ConfigError) as caught:
        load_config(with_keys(tmp_path, keys), ENVIRON)
    assert place in str(caught.value)
    assert problem in str(caught.value)
    assert "sk-short" not in str(caught.value)


def test_an_unknown_name_of_our_section_is_an_error(tmp_path):
    file = tmp_path / "proxy_config.yaml"
    file.write_text(
        (ROOT / "proxy_config.yaml").read_text().replace("\nneev:\n", "\nneev:\n  fastpath: true\n", 1)
    )
    with pytest.raises(ConfigError, match="fastpath"):
        load_config(file, ENVIRON)
