"""`neev-gateway` as a user runs it: a real process, its words and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(
    *words: str, cwd: Path | None = None, environ: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NEEV_", "LITELLM_"))}
    return subprocess.run(
        [sys.executable, "-m", "neev_provider", *words],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd or ROOT,
        env={**clean, "NO_COLOR": "1", "COLUMNS": "120", **(environ or {})},
    )


def error(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that a wrong setting gives."""
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.strip()


def test_help_lists_the_commands():
    done = run("--help")
    assert done.returncode == 0
    for command in ("serve", "emulator", "models"):
        assert command in done.stdout


def test_version():
    from neev_provider import __version__

    assert run("--version").stdout.strip() == f"neev-gateway {__version__}"


def test_an_unknown_command_is_a_usage_error():
    done = run("frobnicate")
    assert done.returncode == 2
    assert "No such command" in done.stderr


def test_models_list_shows_prices_and_says_unpriced():
    out = run("models", "list").stdout
    assert "gpt-oss-20b" in out
    assert "0.075 / 0.3" in out
    assert "unpriced" in out


def test_models_list_as_json_is_for_scripts():
    models = json.loads(run("models", "list", "--json").stdout)
    by_id = {model["id"]: model for model in models}
    assert by_id["gpt-oss-20b"]["price"]["prompt_nanos"] == 75
    assert by_id["glm-5-2"]["price"] is None


def test_models_list_live_without_a_key_names_the_variable():
    assert "NEEV_API_KEY: is not set" in error(run("models", "list", "--live"))


def test_models_list_live_with_nobody_there_is_one_line():
    done = run(
        "models",
        "list",
        "--live",
        environ={"NEEV_API_KEY": "sk-nc-x", "NEEV_BASE_URL": "http://127.0.0.1:9/v1"},
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


class TestSyncConfig:
    def test_check_passes_on_the_shipped_file(self):
        done = run("models", "sync-config", "--check")
        assert (done.returncode, done.stdout) == (0, "proxy_config.yaml is up to date.\n")

    def test_check_fails_on_a_stale_file_and_shows_the_difference(self, tmp_path):
        stale = (ROOT / "proxy_config.yaml").read_text().replace("0.0000001\n", "0.00000011\n")
        (tmp_path / "proxy_config.yaml").write_text(stale)
        done = run("models", "sync-config", "--check", cwd=tmp_path)
        assert done.returncode == 1
        assert "0.00000011" in done.stdout
        assert "is stale" in done.stderr
        assert (tmp_path / "proxy_config.yaml").read_text() == stale

    def test_says_of_a_file_that_was_not_there_only_that_it_is_now(self, tmp_path):
        done = run("models", "sync-config", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, "proxy_config.yaml written.\n")

    def test_writes_models_that_the_file_defines_itself(self, tmp_path):
        text = (ROOT / "proxy_config.yaml").read_text()
        assert "  models: []" in text
        own = text.replace("  models: []", "  models:\n  - {id: mine, price: {input: 1, output: 2}}")
        (tmp_path / "proxy_config.yaml").write_text(own)
        assert run("models", "sync-config", cwd=tmp_path).returncode == 0
        assert "model: neev/mine" in (tmp_path / "proxy_config.yaml").read_text()
        assert run("models", "sync-config", "--check", cwd=tmp_path).returncode == 0


class TestServeRefusesWrongSettings:
    @pytest.fixture
    def config(self, tmp_path):
        file = tmp_path / "proxy_config.yaml"
        file.write_text((ROOT / "proxy_config.yaml").read_text())
        return file

    def test_a_missing_file(self, tmp_path):
        assert "does not exist" in error(run("serve", cwd=tmp_path))

    def test_an_unknown_model_id(self, tmp_path, config):
        config.write_text(config.read_text().replace("neev/gpt-oss-120b", "neev/gpt-oss-12b", 1))
        line = error(run("serve", cwd=tmp_path))
        assert "proxy_config.yaml: model_list[3].litellm_params.model" in line
        assert "Did you mean neev/gpt-oss-120b?" in line

    @pytest.mark.parametrize(
        "command", [("serve", "--upstream", "emulator"), ("litellm",)], ids=["serve", "litellm"]
    )
    def test_models_that_litellm_would_leave_out(self, tmp_path, config, command):
        config.write_text(config.read_text().replace("{provider: neev, ", "{provider: other, "))
        environ = {"NEEV_API_KEY": "sk-nc-x", "LITELLM_MASTER_KEY": "sk-" + "x" * 40}
        line = error(run(*command, cwd=tmp_path, environ=environ))
        assert "model_list[0].litellm_params.model: has the provider 'neev', which LiteLLM does not" in line
        assert "custom_provider_map" in line

    def test_a_missing_key_for_a_real_upstream(self, tmp_path, config):
        line = error(run("serve", "--upstream", "https://127.0.0.1:9/v1", cwd=tmp_path))
        assert "NEEV_API_KEY: is not set" in line

    @pytest.mark.parametrize("wrong", ["ftp://127.0.0.1", "127.0.0.1:8000", "https://user:pw@127.0.0.1/v1"])
    def test_a_wrong_upstream(self, tmp_path, config, wrong):
        line = error(run("serve", "--upstream", wrong, cwd=tmp_path, environ={"NEEV_API_KEY": "sk-nc-x"}))
        assert "NEEV_BASE_URL" in line or "--upstream" in line
        assert "pw" not in line

    def test_a_port_in_use(self, tmp_path, config):
        import socket

        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            assert "Choose another with --port" in error(run("serve", "--port", port, cwd=tmp_path))

    def test_a_wrong_engine(self, tmp_path, config):
        done = run("serve", "--engine", "steam", cwd=tmp_path)
        assert done.returncode == 2
        assert "steam" in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_state_directory_that_cannot_be_made(self, tmp_path, config):
        (tmp_path / "file").write_text("")
        assert "cannot be used" in error(run("serve", "--state", "file/x", cwd=tmp_path))
