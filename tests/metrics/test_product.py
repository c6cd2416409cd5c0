"""All metrics of the running product: two workers, LiteLLM, an emulator that plays faults, the embedded store."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from neev_provider.admission.keys import Keys
from neev_provider.metrics.families import FAMILIES
from neev_provider.store import Store
from tests.proxy.serving import ROOT, descendants, free_port, serving

CHAT, SPEECH = "/v1/chat/completions", "/v1/audio/speech"
NANOS = 10**9
COST = 5 * 100 + 10 * 500  # nano-USD of `chat()`: gpt-oss-120b's price
HOSTILE = 10_000

OWN = """
  - model_name: house            # an alias: the public name differs from upstream's id
    litellm_params: {model: neev/gpt-oss-120b}
    model_info: {mode: chat, input_cost_per_token: 0.0000001, output_cost_per_token: 0.0000005}
  - model_name: shaky            # falls back to house
    litellm_params: {model: neev/gpt-oss-20b, num_retries: 0}
    model_info: {mode: chat, input_cost_per_token: 0.000000075, output_cost_per_token: 0.0000003}
  - model_name: denied           # our account is refused, so it cools down
    litellm_params: {model: neev/gpt-oss-120b, num_retries: 0}
  - model_name: voice
    litellm_params: {model: openai/tts-1, api_base: "https://inference.ai.neevcloud.com/v1", api_key: os.environ/NEEV_API_KEY}
    model_info: {mode: audio_speech}

litellm_settings:
"""

Scrape = dict[str, dict[tuple[tuple[str, str], ...], float]]


def own_config(folder: Path) -> Path:
    text = (ROOT / "proxy_config.yaml").read_text()
    for before, after in (
        ("\nlitellm_settings:\n", OWN),
        ("  # fallbacks:", "  fallbacks: [{shaky: [house]}]\n  # fallbacks:"),
        (
            "  models: []\n",
            "  models: [{id: tts-1, modality: speech, voices: any, price: {characters: 15}}]\n",
        ),
    ):
        assert before in text
        text = text.replace(before, after, 1)
    file = folder / "proxy_config.yaml"
    file.write_text(text)
    return file


class Product:
    """The running product, its metrics and its store."""

    def __init__(self, running, port: int) -> None:
        self.running = running
        self.url = f"http://127.0.0.1:{port}/metrics"

    async def text(self, accept: str = "text/plain") -> str:
        async with (
            aiohttp.ClientSession() as session,
            session.get(self.url, headers={"Accept": accept}) as response,
        ):
            assert response.status == 200
            return await response.text()

    async def scrape(self) -> Scrape:
        found: Scrape = {}
        for family in text_string_to_metric_families(await self.text()):
            for sample in family.samples:
                found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
        return found

    async def until(self, holds: Callable[[Scrape], bool], seconds: float = 15) -> Scrape:
        """Scrape until something holds, which it does a moment later: counts come twice a second."""
        now: Scrape = {}
        try:
            async with asyncio.timeout(seconds):
                while not holds(now := await self.scrape()):
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(await self.text()) from None
        return now

    async def call(self, token: str, body: dict, path: str = CHAT) -> tuple[int, bytes]:
        """Ask on a connection of its own, so that any of the processes may answer."""
        async with (
            aiohttp.ClientSession(self.running.root_url) as session,
            session.post(path, json=body, headers={"Authorization": f"Bearer {token}"}) as response,
        ):
            return response.status, await response.read()

    def workers(self) -> list[int]:
        return sorted(
            pid
            for pid in descendants(self.running.process.pid)
            if b"neev_provider.gateway.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )


def total(scrape: Scrape, name: str, **labels: str) -> float:
    """Return the sum of the series that have these labels."""
    return sum(
        value for having, value in scrape.get(name, {}).items() if labels.items() <= dict(having).items()
    )


def chat(*, fault: str = "", echo: str = "tokens=10,prompt-tokens=5", **fields) -> dict:
    lines = [f"x-neev-fault: {fault}"] * bool(fault) + [f"x-neev-echo: {echo}"]
    message = {"role": "user", "content": "\n".join([*lines, "x"])}
    return {"model": "house", "messages": [message], "max_tokens": 10, **fields}


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    folder = tmp_path_factory.mktemp("product")
    port = free_port()
    words = ("--engine", "echo", "--workers", "2", "--metrics-port", str(port), "--log-level", "warning")
    with serving(folder, *words, config=own_config(folder)) as running:
        yield Product(running, port)


@pytest.fixture
async def keys(product):
    async with Store.from_url((product.running.state / "run" / "store").read_text().strip()) as store:
        yield Keys(store)


async def abort(product: Product, token: str) -> None:
    """Leave a stream after its first chunk."""
    body = chat(echo="tokens=200,rate=20", stream=True, max_tokens=200)
    async with (
        aiohttp.ClientSession(product.running.root_url) as session,
        session.post(CHAT, json=body, headers={"Authorization": f"Bearer {token}"}) as response,
    ):
        await response.content.readany()
        response.close()


async def no_http(product: Product) -> None:
    """Send what is no HTTP."""
    port = int(product.running.root_url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\0\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400")
    writer.close()
    await writer.wait_closed()


async def mixed_traffic(product: Product, keys: Keys) -> str:
    """Make everything happen that is counted; return the key that did."""
    await keys.create_team(
        {"alias": "red", "max_budget": 9, "budget_duration": "1d"}, team_id="t1", by="test"
    )
    made = await keys.create_key({"alias": "mixed", "max_budget": 5}, team="t1", by="test")
    free = await keys.create_key({"alias": "free"}, by="test")
    limited = await keys.create_key({"alias": "limited", "rpm_limit": 1}, by="test")
    for token, body, path, expected in (
        (made.token, chat(), CHAT, 200),
        (made.token, chat(stream=True), CHAT, 200),
        (made.token, {"model": "voice", "input": "Hello there.", "voice": "alloy"}, SPEECH, 200),
        (made.token, chat(model="shaky", fault="status=503,times=1,id=shaky"), CHAT, 200),
        (made.token, chat(fault="status=503,times=1,id=again"), CHAT, 200),
        (made.token, chat(model="denied", fault="status=401"), CHAT, 502),
        (made.token, chat(fault="no-usage"), CHAT, 200),
        (made.token, chat(tags=["x"]), CHAT, 200),
        (made.token, chat(tags=["x"], stream=True), CHAT, 200),
        (made.token, chat(tags=["x"], model="shaky", fault="status=503,times=1,id=shaky2"), CHAT, 200),
        (made.token, chat(tags=["x"], model="gpt-oss-120b", fault="status=503,times=1,id=again2"), CHAT, 200),
        (free.token, chat(model="kimi-k3"), CHAT, 200),
        (limited.token, chat(), CHAT, 200),
        (limited.token, chat(), CHAT, 429),
        ("sk-neev-knobody.x", chat(), CHAT, 401),
        (made.token, chat(), "/v1/nothing", 404),
    ):
        status, answer = await product.call(token, body, path)
        assert status == expected, (body, answer[:500])
    await abort(product, made.token)
    await no_http(product)
    return made.key.id


class TestEverything:
    async def test_every_family_has_something_to_show_after_mixed_traffic(self, product, keys):
        await mixed_traffic(product, keys)
        suffix = {"histogram": "_count", "counter": "", "gauge": ""}
        names = [family.name + suffix[family.kind] for family in FAMILIES.values()]
        found = await product.until(lambda now: not [name for name in names if not now.get(name)])
        # What stands there with zero before it happens has happened too.
        found = await product.until(
            lambda now: (
                total(now, "neev_aborted_streams_total", model="house")
                and total(now, "neev_tokens_total", model="house", key="mixed", estimated="true")
                and total(now, "neev_requests_total", path="litellm") == 4
                and total(now, "neev_requests_total", code="invalid_http") == 1
            )
        )
        for name, labels in (
            ("neev_requests_total", {"code": "unknown_url", "path": "none", "model": "none"}),
            ("neev_requests_total", {"code": "invalid_api_key", "key": "none", "team": "none"}),
            ("neev_requests_total", {"code": "rate_limit_exceeded", "key": "limited", "status": "429"}),
            ("neev_requests_total", {"code": "upstream_auth_error", "status": "502", "team": "red"}),
            ("neev_requests_total", {"status": "499", "model": "house"}),
            ("neev_time_to_first_token_seconds_count", {"path": "fast"}),
            ("neev_time_to_first_token_seconds_count", {"path": "litellm"}),
            ("neev_time_per_output_token_seconds_count", {"path": "fast"}),
            ("neev_time_per_output_token_seconds_count", {"path": "litellm"}),
            ("neev_gateway_overhead_seconds_count", {"path": "fast"}),
            ("neev_gateway_overhead_seconds_count", {"path": "litellm"}),
            ("neev_estimated_charges_total", {"model": "house"}),
            ("neev_unpriced_calls_total", {"model": "kimi-k3"}),
            ("neev_speech_characters_total", {"model": "voice", "key": "mixed", "team": "red"}),
            ("neev_upstream_calls_total", {"model": "shaky", "deployment": "shaky", "status": "503"}),
            ("neev_upstream_calls_total", {"model": "shaky", "deployment": "house", "status": "200"}),
            ("neev_upstream_errors_total", {"model": "denied", "code": "upstream_auth_error"}),
            ("neev_upstream_retries_total", {"model": "house"}),
            ("neev_fallbacks_total", {"model": "shaky", "to": "house"}),
            ("neev_upstream_retries_total", {"model": "gpt-oss-120b"}),  # LiteLLM's
            ("neev_cooldowns_total", {"model": "denied", "deployment": "denied"}),
            ("neev_limit_rejections_total", {"limit": "requests", "scope": "key", "key": "limited"}),
            ("neev_admission_seconds_count", {"result": "refused"}),
            ("neev_store_call_seconds_count", {"operation": "settle"}),
            ("neev_event_loop_lag_seconds_count", {"process": "litellm"}),
            ("neev_process_up", {"process": "litellm"}),
        ):
            assert total(found, name, **labels) > 0, (name, labels, found.get(name))
        assert total(found, "neev_fallbacks_total", model="shaky", to="house") == 2  # one on each path

    async def test_both_formats_are_well_formed(self, product):
        from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse

        text = await product.text("application/openmetrics-text; version=1.0.0")
        assert {f"neev_{name}" for name in ("requests", "spend_usd")} <= {each.name for each in parse(text)}

    async def test_budgets_are_there_before_any_traffic(self, product, keys):
        await keys.create_key({"alias": "unused", "max_budget": 2}, by="test")
        found = await product.until(lambda now: total(now, "neev_budget_limit_usd", key="unused") == 2)
        assert total(found, "neev_budget_used_usd", key="unused", scope="key") == 0
        assert not total(found, "neev_requests_total", key="unused")


class TestFigures:
    async def test_requests_tokens_and_spend_are_those_that_were_asked_for_over_both_paths(
        self, product, keys
    ):
        made = await keys.create_key({"alias": "exact", "max_budget": 1}, by="test")
        bodies = [chat(), chat(stream=True)] * 20 + [chat(tags=["x"])] * 3
        answers = await asyncio.gather(*(product.call(made.token, body) for body in bodies))
        assert {status for status, _ in answers} == {200}
        found = await product.until(
            lambda now: (
                total(now, "neev_requests_total", key="exact") == 43
                and total(now, "neev_tokens_total", key="exact") == 43 * 15
            )
        )
        of_key = {"model": "house", "team": "none", "key": "exact"}
        assert total(found, "neev_requests_total", **of_key, path="fast", status="200", code="ok") == 40
        assert total(found, "neev_requests_total", **of_key, path="litellm", status="200", code="ok") == 3
        assert total(found, "neev_tokens_total", **of_key, direction="input", estimated="false") == 43 * 5
        assert total(found, "neev_tokens_total", **of_key, direction="output", estimated="false") == 43 * 10
        assert round(total(found, "neev_spend_usd_total", **of_key) * NANOS) == 43 * COST
        async with asyncio.timeout(10):
            while (await keys.key(made.key.id)).spend_nanos != 43 * COST:
                await asyncio.sleep(0.05)
        found = await product.until(
            lambda now: round(total(now, "neev_budget_used_usd", key="exact") * NANOS) == 43 * COST
        )

    async def test_a_call_in_flight_is_seen_and_gone_when_it_has_ended(self, product, keys):
        made = await keys.create_key({"alias": "slow"}, by="test")
        call = asyncio.create_task(product.call(made.token, chat(echo="tokens=10,rate=4", stream=True)))
        await product.until(
            lambda now: (
                total(now, "neev_in_flight_requests", path="fast") == total(now, "neev_open_streams") == 1
            )
        )
        assert (await call)[0] == 200
        await product.until(
            lambda now: not total(now, "neev_in_flight_requests") and not total(now, "neev_open_streams")
        )

    async def test_a_stream_that_upstream_breaks_off_is_its_error_and_not_ours(self, product, keys):
        made = await keys.create_key({"alias": "broken"}, by="test")
        status, _ = await product.call(made.token, chat(fault="cut-after=2", stream=True))
        assert status == 200
        found = await product.until(lambda now: total(now, "neev_requests_total", key="broken") == 1)
        assert (
            total(found, "neev_requests_total", key="broken", status="200", code="upstream_bad_response") == 1
        )
        errors = {"model": "house", "deployment": "house", "code": "upstream_bad_response"}
        assert total(found, "neev_upstream_errors_total", **errors) == 1


class TestDurations:
    """Whose time it was."""

    async def grown(self, product, before: Scrape, calls: int = 1) -> dict[str, float]:
        """Return what one more call added to each sum of the fast path."""
        count = "neev_request_duration_seconds_count"
        now = await product.until(
            lambda now: total(now, count, path="fast") == total(before, count, path="fast") + calls
        )
        return {
            name: total(now, f"neev_{name}_seconds_sum", **where)
            - total(before, f"neev_{name}_seconds_sum", **where)
            for name, where in (
                ("request_duration", {"path": "fast"}),
                ("time_to_first_token", {"path": "fast"}),
                ("gateway_overhead", {"path": "fast"}),
                ("upstream_duration", {}),
            )
        }

    async def test_what_upstream_takes_for_a_whole_answer_is_not_ours(self, product, keys):
        made = await keys.create_key({}, by="test")
        before = await product.scrape()
        assert (await product.call(made.token, chat(echo="tokens=10,first=0.5")))[0] == 200
        grown = await self.grown(product, before)
        assert 0.5 <= grown["upstream_duration"] < grown["request_duration"]
        assert 0 < grown["gateway_overhead"] <= grown["request_duration"] - 0.5

    async def test_what_a_stream_takes_after_its_headers_is_not_ours(self, product, keys):
        made = await keys.create_key({}, by="test")
        before = await product.scrape()
        assert (await product.call(made.token, chat(echo="tokens=10,first=0.3,rate=30", stream=True)))[
            0
        ] == 200
        grown = await self.grown(product, before)
        assert 0.3 <= grown["time_to_first_token"] <= grown["request_duration"] - 9 / 30 + 0.01
        assert 0 < grown["gateway_overhead"] <= grown["request_duration"] - 0.6 + 0.01

    async def test_what_a_client_takes_to_send_its_body_is_not_ours(self, product, keys):
        made = await keys.create_key({}, by="test")
        before = await product.scrape()
        body = json.dumps(chat()).encode()

        async def slowly():
            yield body[:10]
            await asyncio.sleep(0.5)
            yield body[10:]

        async with (
            aiohttp.ClientSession(product.running.root_url) as session,
            session.post(
                CHAT,
                data=slowly(),
                headers={"Authorization": f"Bearer {made.token}", "Content-Type": "application/json"},
            ) as response,
        ):
            assert response.status == 200
            await response.read()
        grown = await self.grown(product, before)
        assert grown["request_duration"] >= 0.49
        assert 0 < grown["gateway_overhead"] <= grown["request_duration"] - 0.48


class TestRestarts:
    async def test_a_worker_that_is_killed_takes_nothing_back_and_what_follows_is_added(self, product, keys):
        made = await keys.create_key({"alias": "killed"}, by="test")
        for _ in range(20):
            assert (await product.call(made.token, chat()))[0] == 200
        before = await product.until(lambda now: total(now, "neev_requests_total", key="killed") == 20)
        workers = product.workers()
        os.kill(workers[0], signal.SIGKILL)
        restarts = total(before, "neev_process_restarts_total")
        after = await product.until(
            lambda now: (
                total(now, "neev_process_restarts_total") == restarts + 1
                and total(now, "neev_process_up", process="gateway-0") == 1
                and total(now, "neev_process_up", process="gateway-1") == 1
                and len(now["neev_pending_settles"]) >= 2
            )
        )
        for name, series in before.items():
            if name.endswith(("_total", "_bucket", "_count")):
                for labels, value in series.items():
                    assert after[name][labels] >= value, (name, labels)
        for _ in range(20):
            assert (await product.call(made.token, chat()))[0] == 200
        await product.until(lambda now: total(now, "neev_requests_total", key="killed") == 40)


class TestSecrets:
    async def test_no_key_stands_in_any_label(self, product, keys):
        made = await keys.create_key({"alias": "secret"}, by="test")
        for token in (made.token, made.token[:-3] + "xyz", product.running.key, "sk-" + "q" * 40):
            await product.call(token, chat(model=token))
        await product.until(lambda now: total(now, "neev_requests_total", key="secret") == 1)
        text = await product.text()
        for token in (made.token, product.running.key, "q" * 40, made.token.partition(".")[2]):
            assert token not in text


async def ask_for(product: Product, names: list[str], token: str) -> None:
    """Ask for models and routes of these names over one connection."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", int(product.running.root_url.rpartition(":")[2])
    )
    for number, name in enumerate(names):
        if number % 2:
            path, body = CHAT, json.dumps({"model": name, "messages": [{"role": "user", "content": "x"}]})
        else:
            path, body = f"/v1/{name}", "{}"
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 401")), answer
        length = int(answer.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
    writer.close()
    await writer.wait_closed()


class TestHostileNames:
    @pytest.mark.timeout(120)
    async def test_ten_thousand_model_names_and_routes_make_no_series(self, product):
        tokens = [product.running.key, "sk-of-nobody-" + "0" * 32]
        begun = total(await product.scrape(), "neev_requests_total")
        for token in tokens:
            await ask_for(product, ["warm/up", "warm-up"], token)
        first = await product.until(lambda now: total(now, "neev_requests_total") >= begun + 4)
        before = total(first, "neev_requests_total")
        await asyncio.gather(
            *(
                ask_for(product, [f"evil-{part}-{n}" for n in range(HOSTILE // 4)], tokens[part % 2])
                for part in range(4)
            )
        )
        last = await product.until(lambda now: total(now, "neev_requests_total") - before >= HOSTILE)
        series = {name: set(rows) for name, rows in first.items()}
        new = {
            (name, labels)
            for name, rows in last.items()
            for labels in rows
            if labels not in series.get(name, set()) and not name.startswith("neev_budget_")
        }
        assert not new
