"""The static catalog, entries of a team's own, and the merge with upstream's list."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
import yaml

from neev_provider.catalog import Catalog, LiveCatalog, Model, Price, usd_per_million_to_nanos
from neev_provider.errors import ConfigError, UpstreamError

CHAT_IDS = {
    "minimax-m3",
    "minimax-m2.7",
    "minimax-m2.7-highspeed",
    "gpt-oss-120b",
    "gpt-oss-20b",
    "deepseek-v3-2",
    "glm-4-7",
    "glm-5-2",
    "kimi-k3",
    "gemma-4-31b",
    "llama-3.3-70b-versatile",
    "llama-3.1-8b-instant",
}


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.load()


def test_holds_the_twelve_chat_models_and_the_speech_model(catalog):
    assert {model.id for model in catalog if model.modality == "chat"} == CHAT_IDS
    assert [model.id for model in catalog if model.modality == "speech"] == ["tts-1"]


@pytest.mark.parametrize(
    ("model_id", "prompt", "completion"),
    [
        # USD per 1M of NEEV_API.md, x 1000.
        ("minimax-m3", 600, 2400),
        ("minimax-m2.7", 300, 1200),
        ("minimax-m2.7-highspeed", 600, 2400),
        ("gpt-oss-120b", 100, 500),
        ("gpt-oss-20b", 75, 300),
        ("deepseek-v3-2", 280, 420),
        ("glm-4-7", 600, 2200),
        ("llama-3.3-70b-versatile", 590, 790),
        ("llama-3.1-8b-instant", 50, 80),
    ],
)
def test_prices_are_integer_nano_usd_per_token(catalog, model_id, prompt, completion):
    assert catalog.get(model_id).price == Price(prompt, completion)


@pytest.mark.parametrize("model_id", ["glm-5-2", "kimi-k3", "gemma-4-31b", "tts-1"])
def test_an_unknown_price_is_unpriced_and_never_zero(catalog, model_id):
    assert catalog.get(model_id).price is None


def test_every_known_fact_names_its_certainty_and_its_source():
    document = yaml.safe_load(Path("neev_provider/catalog.yaml").read_text(encoding="utf-8"))
    for entry in document["models"]:
        facts = {"id", *(f for f in ("owned_by", "context_window", "price", "voices") if entry.get(f))}
        assert set(entry["certainty"]) == facts, entry["id"]
        assert set(entry["source"]) == facts, entry["id"]
        assert set(entry["source"].values()) <= set(document["sources"]), entry["id"]


def test_ids_are_matched_exactly(catalog):
    assert catalog.get("minimax-m2.7") is not None
    for wrong in ("minimax-m2-7", "MiniMax-M2.7", "minimax-m2.7 ", "neev/minimax-m2.7", ""):
        assert catalog.get(wrong) is None


def test_a_wrong_id_finds_its_nearest(catalog):
    assert catalog.nearest("gpt-oss-12b") == "gpt-oss-120b"
    assert catalog.nearest("zzzz") is None


@pytest.mark.parametrize(
    ("usd", "nanos"),
    [(0.6, 600), ("0.075", 75), (0, 0), (1, 1000), (0.001, 1), (2.4, 2400), (1234.567, 1234567)],
)
def test_usd_per_million_becomes_nanos_without_float_error(usd, nanos):
    assert usd_per_million_to_nanos(usd) == nanos


@pytest.mark.parametrize(
    "wrong", [-1, 0.0001, "x", None, True, float("nan"), float("inf"), [], "1e999999999"]
)
def test_a_price_that_is_no_price_is_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        usd_per_million_to_nanos(wrong)


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("models: [", "line 1", "not valid YAML"),
        ("models: 3", "models", "must be a list"),
        ("models: [{id: ''}]", "models[0].id", "must not be empty"),
        ("models: [{}]", "models[0]", "id"),
        ("models: [{id: a, colour: red}]", "models[0]", "colour"),
        ("models: [{id: a}, {id: a}]", "models[1].id", "twice"),
        ("models: [{id: a, price: {input: 1}}]", "models[0].price", "output"),
        ("models: [{id: a, price: {input: 1, output: -1}}]", "models[0].price.output", "0 or more"),
        ("models: [{id: a, price: {characters: 1}}]", "models[0].price", "input and output"),
        (
            "models: [{id: a, modality: speech, price: {input: 1, output: 1}}]",
            "models[0].price",
            "characters",
        ),
        ("models: [{id: a, modality: video}]", "models[0].modality", "video"),
        ("models: [{id: a, context_window: 0}]", "models[0].context_window", "of at least 1"),
        ("models: [{id: a, voices: loud}]", "models[0].voices", "loud"),
        ("models: [{id: a, certainty: {id: Z}}]", "models[0].certainty", "Z"),
    ],
)
def test_a_wrong_catalog_file_says_place_and_problem(tmp_path, text, place, problem):
    file = tmp_path / "catalog.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        Catalog.load(file)
    assert str(caught.value).startswith(f"{file}: {place}")
    assert problem in str(caught.value)


def test_a_catalog_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        Catalog.load(tmp_path / "missing.yaml")
    (tmp_path / "latin").write_bytes(b"models: [{id: caf\xe9}]")
    with pytest.raises(ConfigError, match="not UTF-8"):
        Catalog.load(tmp_path / "latin")


def test_voices_may_be_any(tmp_path):
    file = tmp_path / "catalog.yaml"
    file.write_text("models: [{id: t, modality: speech, voices: any, price: {characters: 15}}]")
    model = Catalog.load(file).get("t")
    assert model.voices is None
    assert model.price == Price(0, 0, character_nanos=15_000)


class TestMerge:
    LISTING = (
        {"id": "gpt-oss-120b", "object": "model", "created": 1_700_000_000, "owned_by": "neev"},
        {"id": "brand-new", "object": "model", "created": 1_800_000_000, "owned_by": "someone"},
    )

    def test_upstream_decides_owner_and_creation_time(self, catalog):
        merged = catalog.merged(self.LISTING).get("gpt-oss-120b")
        assert (merged.owned_by, merged.created, merged.listed) == ("neev", 1_700_000_000, True)

    def test_prices_stay_ours(self, catalog):
        assert catalog.merged(self.LISTING).get("gpt-oss-120b").price == Price(100, 500)

    def test_a_model_that_only_upstream_knows_is_added_unpriced(self, catalog):
        new = catalog.merged(self.LISTING).get("brand-new")
        assert (new.price, new.owned_by, new.listed) == (None, "someone", True)

    def test_a_model_that_upstream_does_not_list_stays(self, catalog):
        merged = catalog.merged(self.LISTING)
        assert merged.get("tts-1").listed is False
        assert merged.get("minimax-m3").listed is False

    def test_entries_without_sense_are_passed_over(self, catalog):
        merged = catalog.merged(
            [{}, {"id": 3}, {"id": ""}, {"id": "gpt-oss-20b", "owned_by": 7, "created": "x"}]
        )
        assert len(merged) == len(catalog)
        assert merged.get("gpt-oss-20b").owned_by == "OpenAI"

    def test_the_static_catalog_is_unchanged(self, catalog):
        before = list(catalog)
        catalog.merged(self.LISTING)
        assert list(catalog) == before


class TestLive:
    async def test_is_the_static_catalog_until_upstream_answers(self, catalog):
        async def fetch():
            return [{"id": "brand-new"}]

        live = LiveCatalog(catalog, fetch)
        assert (live.current, live.age_seconds) == (catalog, None)
        assert await live.refresh()
        assert "brand-new" in live.current

    async def test_keeps_the_last_good_list_while_upstream_is_away_and_says_so_once(self, catalog, caplog):
        answers = [
            [{"id": "brand-new"}],
            UpstreamError("upstream_unavailable", "away"),
            None,
            [{"id": "newer"}],
        ]

        async def fetch():
            answer = answers.pop(0)
            if not isinstance(answer, list):
                raise UpstreamError("upstream_unavailable", "away")
            return answer

        live = LiveCatalog(catalog, fetch)
        with caplog.at_level(logging.WARNING):
            assert [await live.refresh() for _ in range(3)] == [True, False, False]
        assert "brand-new" in live.current
        assert len(caplog.records) == 1
        assert await live.refresh()
        assert "newer" in live.current
        assert "brand-new" not in live.current

    async def test_age_counts_from_the_last_good_refresh(self, catalog):
        now = [100.0]

        async def fetch():
            return []

        live = LiveCatalog(catalog, fetch, clock=lambda: now[0])
        await live.refresh()
        now[0] += 42
        assert live.age_seconds == 42

    async def test_runs_in_the_background_and_stops_when_cancelled(self, catalog):
        calls = asyncio.Queue()

        async def fetch():
            calls.put_nowait(None)
            return []

        task = asyncio.create_task(LiveCatalog(catalog, fetch, refresh_seconds=0.001).run())
        for _ in range(3):
            await asyncio.wait_for(calls.get(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def test_the_core_imports_neither_litellm_nor_a_web_framework():
    import subprocess
    import sys

    code = (
        "import sys, neev_provider, neev_provider.contract, neev_provider.upstream, neev_provider.usage, "
        "neev_provider.sse, neev_provider.config, neev_provider.gateway.serve, neev_provider.cli\n"
        "print([m for m in ('litellm', 'fastapi', 'starlette', 'openai') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_extended_adds_and_replaces(catalog):
    priced = Model("tts-1", "x", 1, modality="speech", price=Price(0, 0, character_nanos=15_000))
    extended = catalog.extended([priced, Model("own", "me", 1)])
    assert extended.get("tts-1") is priced
    assert len(extended) == len(catalog) + 1


def test_a_dumped_catalog_is_read_back_as_it_was(catalog, tmp_path):
    own = [
        Model(
            "a",
            "me",
            5,
            context_window=10,
            max_output_tokens=7,
            price=Price(1, 2, 3),
            refused_fields=frozenset({"seed"}),
        ),
        Model("c", "me", 0),
        Model("b", "me", 5, modality="speech", price=Price(0, 0, character_nanos=15_001), notes="x"),
    ]
    whole = catalog.extended(own)
    file = tmp_path / "catalog.yaml"
    file.write_text(whole.dump())
    assert list(Catalog.load(file)) == list(whole)
