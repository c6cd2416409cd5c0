"""`neev-gateway doctor`: finds what is wrong with a deployment, names the remedy, and ends with 1 if it is bad."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.proxy.serving import ROOT
from tests.store.servers import product, server

STRONG = "sk-" + "x" * 40


@pytest.fixture
def doctor(neev, tmp_path, monkeypatch):
    """Runs `doctor` on the shipped configuration; returns part to (status, what, remedy), and the exit code."""
    shutil.copy(ROOT / "proxy_config.yaml", tmp_path)
    monkeypatch.setenv("LITELLM_MASTER_KEY", STRONG)

    def run(*words: str):
        done = neev("doctor", "--json", *words)
        findings = json.loads(done.out)
        found: dict[str, list[tuple[str, str, str]]] = {}
        for finding in findings:
            found.setdefault(finding["part"], []).append(
                (finding["status"], finding["what"], finding["remedy"])
            )
        return found, done.code

    return run


def of(findings, status):
    return [(what, remedy) for got, what, remedy in findings if got == status]


def test_a_working_deployment_has_no_errors(doctor, emulator, monkeypatch):
    monkeypatch.setenv("NEEV_API_KEY", "sk-nc-doctor")
    found, code = doctor("--upstream", emulator.base_url)
    assert code == 0
    assert found.keys() == {
        "configuration",
        "prices",
        "upstream",
        "store",
        "master key",
        "LiteLLM",
        "machine",
    }
    assert found["configuration"][0][1] == "proxy_config.yaml serves 13 models."
    assert "accepts the key and lists" in found["upstream"][0][1]
    assert [status for status, *_ in found["store"]] == ["ok"]
    assert " ".join(product()) in found["store"][0][1]


def test_people_get_a_list_with_remedies(neev, tmp_path):
    shutil.copy(ROOT / "proxy_config.yaml", tmp_path)
    done = neev("doctor")
    assert done.code == 0
    assert "The emulator stands in for NeevAI: NEEV_API_KEY is not set." in done.out
    assert "→ For the real one set NEEV_API_KEY" in done.out
    assert "Errors: 0, warnings: " in done.out


class TestTheUpstream:
    def test_that_refuses_the_key(self, doctor, emulator, monkeypatch):
        monkeypatch.setenv("NEEV_API_KEY", "sk-other")
        found, code = doctor("--upstream", emulator.base_url)
        ((what, remedy),) = of(found["upstream"], "error")
        assert code == 1
        assert "does not accept the key (status 401)" in what
        assert "sk-other" not in what
        assert "NEEV_API_KEY" in remedy

    def test_that_is_not_there(self, doctor, monkeypatch):
        monkeypatch.setenv("NEEV_API_KEY", "sk-nc-doctor")
        found, code = doctor("--upstream", "http://127.0.0.1:1/v1")
        assert code == 1
        assert of(found["upstream"], "error")

    def test_that_lacks_a_configured_model(self, doctor, emulator, monkeypatch, tmp_path):
        monkeypatch.setenv("NEEV_API_KEY", "sk-nc-doctor")
        (tmp_path / "proxy_config.yaml").write_text(
            "model_list: [{model_name: m, litellm_params: {model: neev/no-such}}]\n"
            "litellm_settings: {custom_provider_map: [{provider: neev, custom_handler: neev_provider.neev}]}\n"
            "neev: {models: [{id: no-such, owned_by: me, price: {input: 1, output: 1}}]}\n"
        )
        found, _ = doctor("--upstream", emulator.base_url)
        assert of(found["upstream"], "warning")[0][0] == "Configured but not in the upstream's list: no-such."

    def test_url_that_is_none(self, doctor, monkeypatch):
        monkeypatch.setenv("NEEV_API_KEY", "sk-nc-doctor")
        found, code = doctor("--upstream", "nonsense")
        assert (code, len(of(found["upstream"], "error"))) == (1, 1)


class TestTheConfiguration:
    def test_that_is_wrong_does_not_stop_the_other_checks(self, doctor, tmp_path):
        (tmp_path / "proxy_config.yaml").write_text("model_list: []")
        found, code = doctor()
        assert code == 1
        assert of(found["configuration"], "error")
        assert found["store"][0][0] == "ok"

    def test_whose_generated_part_is_stale(self, doctor, tmp_path):
        file = tmp_path / "proxy_config.yaml"
        file.write_text(file.read_text().replace("max_input_tokens: ", "max_input_tokens: 1", 1))
        found, _ = doctor()
        ((what, remedy),) = of(found["configuration"], "warning")
        assert "differs from the catalog" in what
        assert "sync-config" in remedy

    def test_that_litellm_would_serve_none_of_our_models_from(self, doctor, tmp_path):
        file = tmp_path / "proxy_config.yaml"
        file.write_text(file.read_text().replace("{provider: neev, ", "{provider: other, "))
        found, code = doctor()
        assert code == 0
        ((what, remedy),) = of(found["configuration"], "warning")
        assert "has the provider 'neev', which LiteLLM does not know" in what
        assert "--no-litellm" in remedy

    def test_that_keeps_prices_from_litellm(self, doctor, tmp_path):
        file = tmp_path / "proxy_config.yaml"
        file.write_text(file.read_text().replace("      input_cost_per_token:", "      other:", 1))
        found, _ = doctor()
        assert any("No price under model_info" in what for what, _ in of(found["prices"], "warning"))

    def test_that_sends_everything_through_litellm(self, doctor, tmp_path):
        file = tmp_path / "proxy_config.yaml"
        file.write_text(
            file.read_text().replace("litellm_settings:\n", "litellm_settings:\n  cache: true\n", 1)
        )
        found, _ = doctor()
        assert any("goes through LiteLLM" in what for what, _ in of(found["configuration"], "warning"))


class TestTheStore:
    @pytest.mark.parametrize(
        ("options", "status", "says"),
        [
            (["--maxmemory-policy", "allkeys-lru"], "error", "would evict keys and budgets"),
            (["--appendonly", "no"], "error", "keeps nothing over a restart"),
        ],
    )
    def test_that_would_lose_keys_or_budgets(self, doctor, tmp_path, options, status, says):
        running = server(tmp_path / "store", *options)
        try:
            found, code = doctor("--store", running.url)
        finally:
            running.stop()
        assert code == 1
        ((what, remedy),) = of(found["store"], status)
        assert says in what
        assert remedy

    def test_that_is_away(self, doctor):
        found, code = doctor("--store", "redis://127.0.0.1:1")
        assert code == 1
        assert "does not answer" in of(found["store"], "error")[0][0]

    def test_that_is_none(self, doctor):
        found, code = doctor("--store", "none")
        assert code == 0
        assert "no virtual keys" in of(found["store"], "warning")[0][0]

    def test_that_is_none_by_the_configuration(self, doctor, tmp_path, monkeypatch):
        monkeypatch.delenv("NEEV_STORE")
        file = tmp_path / "proxy_config.yaml"
        file.write_text(file.read_text().replace("  models: []", "  store: none"))
        found, code = doctor()
        assert code == 0
        assert "no virtual keys" in of(found["store"], "warning")[0][0]


def test_a_configuration_that_is_not_there_is_named(doctor):
    found, code = doctor("--config", "other.yaml")
    assert code == 1
    assert of(found["configuration"], "error")[0][0] == "other.yaml does not exist."


def test_a_master_key_in_the_file_is_a_warning(doctor, tmp_path):
    file = tmp_path / "proxy_config.yaml"
    file.write_text(file.read_text().replace("os.environ/LITELLM_MASTER_KEY", STRONG))
    found, code = doctor()
    assert code == 0
    ((what, remedy),) = of(found["master key"], "warning")
    assert "stands in proxy_config.yaml itself" in what
    assert remedy.endswith("master_key: os.environ/LITELLM_MASTER_KEY.")


def test_a_master_key_in_another_variable_is_looked_at_there(doctor, tmp_path, monkeypatch):
    file = tmp_path / "proxy_config.yaml"
    file.write_text(file.read_text().replace("os.environ/LITELLM_MASTER_KEY", "os.environ/TEAM_KEY"))
    monkeypatch.setenv("TEAM_KEY", "sk-1234")
    found, _ = doctor()
    assert of(found["master key"], "error")[0][0].startswith("TEAM_KEY is too weak")


def test_a_weak_master_key_is_an_error(doctor, monkeypatch):
    monkeypatch.setenv("LITELLM_MASTER_KEY", "sk-1234")
    found, code = doctor()
    assert code == 1
    assert "too weak" in of(found["master key"], "error")[0][0]
