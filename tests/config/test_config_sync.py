"""The generated part of `proxy_config.yaml`."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from neev_provider.catalog import Catalog, Model, Price
from neev_provider.config_sync import BEGIN, END, render_models, sync
from neev_provider.errors import ConfigError


def entries(catalog: Catalog) -> dict[str, dict]:
    return {entry["model_name"]: entry for entry in yaml.safe_load(render_models(catalog))}


def test_the_shipped_file_follows_the_catalog():
    assert sync(Path("proxy_config.yaml"), Catalog.load(), check=True) == ""


def test_prices_stand_under_model_info_as_exact_numbers():
    for model in Catalog.load():
        entry = entries(Catalog.load())[model.id]
        assert "input_cost_per_token" not in entry["litellm_params"]
        if model.price is None:
            assert not any("cost" in name for name in entry["model_info"])
        else:
            assert entry["model_info"]["input_cost_per_token"] == model.price.prompt_nanos / 1e9
            assert entry["model_info"]["output_cost_per_token"] == model.price.completion_nanos / 1e9


def test_chat_goes_through_the_adapter_and_speech_through_litellms_openai_client():
    by_name = entries(Catalog.load())
    assert by_name["gpt-oss-120b"]["litellm_params"]["model"] == "neev/gpt-oss-120b"
    speech = by_name["tts-1"]
    assert speech["litellm_params"] == {
        "model": "openai/tts-1",
        "api_base": "https://inference.ai.neevcloud.com/v1",
        "api_key": "os.environ/NEEV_API_KEY",
    }


def test_a_priced_speech_model_has_the_zeros_that_litellm_needs():
    catalog = Catalog([Model("t", "x", 1, modality="speech", price=Price(0, 0, character_nanos=15_000))])
    assert entries(catalog)["t"]["model_info"] == {
        "mode": "audio_speech",
        "input_cost_per_character": 0.000015,
        "input_cost_per_token": 0,
        "output_cost_per_token": 0,
    }


def test_a_missing_file_is_made_and_then_up_to_date(tmp_path):
    file = tmp_path / "new.yaml"
    assert sync(file, Catalog.load()) != ""
    assert sync(file, Catalog.load()) == ""
    assert file.read_text() == Path("proxy_config.yaml").read_text()


def test_check_writes_nothing(tmp_path):
    file = tmp_path / "new.yaml"
    assert "+model_list:" in sync(file, Catalog.load(), check=True)
    assert not file.exists()


def test_what_stands_outside_the_markers_is_kept_byte_for_byte(tmp_path):
    file = tmp_path / "own.yaml"
    head, tail = (
        "# mine\nmodel_list:\n",
        "\n  - model_name: mine   # kept\n    litellm_params: {model: openai/x}\n",
    )
    file.write_text(f"{head}{BEGIN}\n  - stale\n{END}{tail}")
    sync(file, Catalog.load())
    text = file.read_text()
    assert text.startswith(head)
    assert text.endswith(tail)
    assert "stale" not in text
    assert len(yaml.safe_load(text)["model_list"]) == len(Catalog.load()) + 1


def test_a_file_without_markers_is_left_alone(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("model_list: []\n")
    with pytest.raises(ConfigError, match="holds no generated part"):
        sync(file, Catalog.load())
    assert file.read_text() == "model_list: []\n"
