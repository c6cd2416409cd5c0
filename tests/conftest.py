"""What several suites share: a running emulator, and an environment without the developer's own keys."""

from __future__ import annotations

import os
import signal

import pytest

from neev_provider.emulator.testing import emulator_in_thread

# Before anything imports litellm: it would download its price map and more at import.
for _name in (
    "MODEL_COST_MAP",
    "ANTHROPIC_BETA_HEADERS",
    "AUTOROUTER_PRESETS",
    "BLOG_POSTS",
    "POLICY_TEMPLATES",
):
    os.environ[f"LITELLM_LOCAL_{_name}"] = "True"
for _name in [name for name in os.environ if name.startswith("NEEV_")]:
    del os.environ[_name]
# A shell lets what it starts in the background ignore Ctrl-C, and nohup the terminal's end, and children inherit that:
# those of the tests must not.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def _emulator_of_session():
    with emulator_in_thread("echo") as running:
        yield running


@pytest.fixture
def emulator(_emulator_of_session):
    """An echo emulator without faults, statistics or remembered requests."""
    _emulator_of_session.clear_faults()
    _emulator_of_session.clear()
    return _emulator_of_session
