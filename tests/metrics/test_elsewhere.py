"""Processes that somebody else runs, a store that freezes, and metrics that nobody wants."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from neev_provider.admission.keys import Keys
from neev_provider.metrics import families, reporting
from neev_provider.store import Store
from tests.metrics.test_product import Product, chat, total
from tests.proxy.serving import ROOT, descendants, free_port, serving

WORDS = ("--no-litellm", "--engine", "echo", "--log-level", "warning")


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    config = folder / "proxy_config.yaml"
    socket = folder / "shared" / "metrics.sock"
    text = (ROOT / "proxy_config.yaml").read_text()
    config.write_text(
        text.replace("\nneev:\n", f"\nneev:\n  metrics: {{socket: {socket}, max_keys: 2}}\n", 1)
    )
    port = free_port()
    with serving(folder, *WORDS, "--metrics-port", str(port), config=config) as running:
        opened = Product(running, port)
        opened.socket = socket
        yield opened


def valkey_of(product: Product) -> int:
    (pid,) = [
        pid
        for pid in descendants(product.running.process.pid)
        if b"valkey-server" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return pid


class TestALiteLLMThatRunsElsewhere:
    async def test_it_reports_over_the_configured_socket_and_is_seen_to_come_and_go(self, product):
        async with reporting(str(product.socket), "litellm") as recorder:
            recorder.add(families.UPSTREAM_CALLS, ("gpt-oss-120b", "gpt-oss-120b", "200"), 3)
            await product.until(lambda now: total(now, "neev_process_up", process="litellm") == 1)
        found = await product.until(
            lambda now: (
                (("process", "litellm"),) in now["neev_process_up"]
                and total(now, "neev_process_up", process="litellm") == 0
            )
        )
        assert total(found, "neev_upstream_calls_total", status="200", model="gpt-oss-120b") == 3


class TestCaps:
    async def test_keys_beyond_the_configured_cap_are_other(self, product):
        async with Store.from_url((product.running.state / "run" / "store").read_text().strip()) as store:
            made = [await Keys(store).create_key({"alias": f"k{n}"}, by="test") for n in range(4)]
        for each in made:
            status, _ = await product.call(each.token, chat(model="gpt-oss-120b"))
            assert status == 200
        found = await product.until(
            lambda now: total(now, "neev_requests_total", status="200", model="gpt-oss-120b") == 4
        )
        assert total(found, "neev_requests_total", status="200", key="other") == 2
        assert total(found, "neev_label_overflows_total", label="key") > 0


class TestAStoreThatFreezes:
    async def test_a_scrape_is_answered_with_the_budgets_that_were_seen_last(self, product):
        store = valkey_of(product)
        await product.until(lambda now: "neev_budget_used_usd" in now)
        os.kill(store, signal.SIGSTOP)
        try:
            found = await product.until(lambda now: total(now, "neev_budget_read_age_seconds") > 1)
            assert total(found, "neev_process_up", process="gateway-0") == 1
            assert "neev_budget_used_usd" in found
        finally:
            os.kill(store, signal.SIGCONT)
        await product.until(lambda now: total(now, "neev_budget_read_age_seconds") < 1)


class TestNobodyWantsMetrics:
    async def test_without_a_port_there_is_no_socket_and_nothing_is_missed(self, tmp_path):
        with serving(tmp_path, *WORDS, "--store", "none") as running:
            status, _ = await Product(running, 0).call(running.key, chat(model="gpt-oss-120b"))
            assert status == 200
            assert not list(running.state.rglob("*.sock"))
            assert "metrics" not in running.log()
