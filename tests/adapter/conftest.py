"""LiteLLM with our provider registered, pointed at the emulator."""

from __future__ import annotations

from collections.abc import Iterator

import litellm
import pytest

import neev_provider
from tests.adapter.calling import WAYS, Caller


@pytest.fixture
def target(emulator) -> dict[str, str]:
    return {"api_base": emulator.base_url, "api_key": emulator.api_key}


@pytest.fixture(params=WAYS)
def call(request, target) -> Caller:
    return Caller(target, request.param)


@pytest.fixture(params=[way for way in WAYS if "stream" in way])
def stream(request, target) -> Caller:
    return Caller(target, request.param)


@pytest.fixture(autouse=True)
def _litellm(monkeypatch) -> Iterator[None]:
    monkeypatch.setattr(litellm, "suppress_debug_info", True)
    monkeypatch.setattr(litellm, "disable_hf_tokenizer_download", True)
    neev_provider.register()
    yield
    # LiteLLM spreads a callback over several lists and takes only one of a class.
    litellm.logging_callback_manager._reset_all_callbacks()
