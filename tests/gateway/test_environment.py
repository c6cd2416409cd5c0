"""What `serve` gives its processes: one master key for the gateway and for LiteLLM, wherever it stands."""

from __future__ import annotations

import pytest

from neev_provider.errors import ConfigError
from neev_provider.gateway.environment import MASTER_KEY_VARIABLE, prepare
from neev_provider.gateway.options import Flags
from tests.proxy.serving import ROOT

OWN, OTHER, WRITTEN = ("sk-" + letter * 40 for letter in "abc")
SHIPPED = "master_key: os.environ/LITELLM_MASTER_KEY"


@pytest.fixture
def prepared(tmp_path):
    """Prepares with this `master_key` in the shipped configuration, and these variables."""
    shipped = (ROOT / "proxy_config.yaml").read_text()
    assert SHIPPED in shipped
    config = tmp_path / "proxy_config.yaml"

    def run(written: str, **environ: str):
        config.write_text(shipped.replace(SHIPPED, f"master_key: {written}"))
        return prepare(Flags(config=config, state=tmp_path / "state"), environ)

    return run


@pytest.mark.parametrize("environ", [{}, {MASTER_KEY_VARIABLE: OWN}], ids=["alone", "beside the usual one"])
def test_a_variable_of_another_name_holds_the_key(prepared, environ, tmp_path):
    found = prepared("os.environ/TEAM_KEY", TEAM_KEY=OTHER, **environ)
    assert found.variables[MASTER_KEY_VARIABLE] == found.variables["TEAM_KEY"] == OTHER
    assert (found.own_key, found.key_variable) == (False, "TEAM_KEY")
    assert not (tmp_path / "state").exists()


def test_the_files_own_key_goes_before_the_variable(prepared, tmp_path):
    for environ in ({}, {MASTER_KEY_VARIABLE: OWN}):
        found = prepared(WRITTEN, **environ)
        assert (found.variables[MASTER_KEY_VARIABLE], found.own_key) == (WRITTEN, False)
        assert (
            found.key_variable is None
        )  # `LITELLM_MASTER_KEY` is not set in the operator's shell, or not to it
    assert not (tmp_path / "state").exists()


def test_a_key_is_made_where_the_usual_variable_is_not_set(prepared, tmp_path):
    found = prepared("os.environ/LITELLM_MASTER_KEY")
    made = (tmp_path / "state" / "master_key").read_text().strip()
    assert (found.variables[MASTER_KEY_VARIABLE], found.own_key) == (made, True)


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({}, "general_settings.master_key: refers to TEAM_KEY, which is not set"),
        ({"TEAM_KEY": "sk-1234"}, "TEAM_KEY: is too weak"),
        ({MASTER_KEY_VARIABLE: OWN}, "refers to TEAM_KEY, which is not set"),
    ],
)
def test_a_variable_of_another_name_must_hold_a_strong_key(prepared, environ, problem):
    with pytest.raises(ConfigError) as refused:
        prepared("os.environ/TEAM_KEY", **environ)
    assert problem in str(refused.value)
    assert "sk-1234" not in str(refused.value)
