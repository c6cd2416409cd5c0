"""What goes up and what comes back, in LiteLLM's four ways to call."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
from contextlib import asynccontextmanager, closing, suppress

import litellm
import pytest

import neev_provider
from neev_provider.catalog import Catalog, Model
from tests.adapter.calling import MODEL, ask, finish_of, text_of

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def sent(emulator) -> dict:
    return emulator.requests()[-1]["body"]


async def test_an_answer_arrives(call):
    answer = await call(ask("one two three"))
    if call.streams:
        assert text_of(answer) == "one two three"
        assert finish_of(answer) == ["stop"]
    else:
        assert answer.choices[0].message.content == "one two three"
        assert answer.choices[0].finish_reason == "stop"


async def test_tool_calls_arrive(call):
    answer = await call(ask(echo="calls=2"), tools=[WEATHER], tool_choice="required")
    if call.streams:
        calls: dict[int, dict[str, str]] = {}
        for chunk in answer:
            for delta in chunk.choices[0].delta.tool_calls or []:
                seen = calls.setdefault(delta.index, {"name": "", "arguments": ""})
                seen["name"] += delta.function.name or ""
                seen["arguments"] += delta.function.arguments or ""
        found = list(calls.values())
        assert finish_of(answer) == ["tool_calls"]
    else:
        found = [call_.function.model_dump() for call_ in answer.choices[0].message.tool_calls]
        assert answer.choices[0].finish_reason == "tool_calls"
    assert [item["name"] for item in found] == ["weather", "weather"]
    assert all(isinstance(json.loads(item["arguments"]), dict) for item in found)


async def test_a_stream_keeps_the_upstreams_id_and_creation_time(stream, emulator):
    chunks = await stream(ask())
    assert len({chunk.id for chunk in chunks}) == 1
    assert len({chunk.created for chunk in chunks}) == 1


class TestWhatIsSent:
    async def test_max_completion_tokens_becomes_max_tokens(self, call, emulator):
        await call(ask(), max_completion_tokens=7)
        assert sent(emulator)["max_tokens"] == 7
        assert "max_completion_tokens" not in sent(emulator)

    async def test_developer_becomes_system(self, call, emulator):
        await call([{"role": "developer", "content": "be brief"}, *ask()])
        assert sent(emulator)["messages"][0] == {"role": "system", "content": "be brief"}

    async def test_broken_tool_history_is_mended(self, call, emulator):
        function = {"name": "weather", "arguments": '{"city": "Pu'}
        history = [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c", "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": "c", "content": "sunny"},
        ]
        await call([*ask(), *history, *ask()])
        assert sent(emulator)["messages"][1]["tool_calls"][0]["function"]["arguments"] == "{}"

    async def test_litellms_own_message_objects_are_history_too(self, call, emulator):
        message = litellm.Message(role="assistant", content="earlier")
        await call([*ask(), message, *ask()])
        assert sent(emulator)["messages"][1]["content"] == "earlier"

    async def test_unknown_parameters_and_extra_body_are_forwarded(self, call, emulator):
        await call(ask(), seed=3, some_new_field={"a": 1}, extra_body={"another": [2]})
        body = sent(emulator)
        assert (body["seed"], body["some_new_field"], body["another"]) == (3, {"a": 1}, [2])

    async def test_a_field_that_the_catalog_lists_as_refused_is_left_out(self, call, emulator):
        refusing = Model(MODEL, "x", 1, refused_fields=frozenset({"seed"}))
        neev_provider.register(neev_provider.NeevLLM(catalog=Catalog.load().extended([refusing])))
        await call(ask(), seed=3, temperature=0.5)
        assert "seed" not in sent(emulator)
        assert sent(emulator)["temperature"] == 0.5

    async def test_reasoning_effort_passes_where_it_is_allowed(self, call, emulator):
        await call(ask(), reasoning_effort="low", allowed_openai_params=["reasoning_effort"])
        assert sent(emulator)["reasoning_effort"] == "low"

    async def test_the_model_is_sent_without_the_prefix(self, call, emulator):
        await call(ask(), model="neev/llama-3.3-70b-versatile")
        assert sent(emulator)["model"] == "llama-3.3-70b-versatile"

    async def test_bad_input_is_refused_before_anything_is_sent(self, call, emulator):
        with pytest.raises(litellm.BadRequestError, match="temperature") as caught:
            await call(ask(), temperature=3)
        assert caught.value.param == "temperature"
        assert emulator.requests() == []


class TestKeyAndHost:
    @pytest.fixture
    def environ(self):
        environ: dict[str, str] = {}
        neev_provider.register(neev_provider.NeevLLM(environ=environ))
        return environ

    @pytest.mark.parametrize("name", ["NEEV_API_KEY", "NEEV_MODEL_API_KEY", "NEEV_INFERENCE_API_KEY"])
    @pytest.mark.parametrize("suffix", ["/v1", "/v1/", "", "/"])
    def test_come_from_the_environment(self, environ, emulator, name, suffix):
        environ |= {name: emulator.api_key, "NEEV_BASE_URL": emulator.root_url + suffix}
        assert litellm.completion(model=f"neev/{MODEL}", messages=ask()).choices

    def test_the_first_variable_wins(self, environ, emulator):
        environ |= {
            "NEEV_API_KEY": emulator.api_key,
            "NEEV_MODEL_API_KEY": "wrong",
            "NEEV_BASE_URL": emulator.base_url,
        }
        assert litellm.completion(model=f"neev/{MODEL}", messages=ask()).choices

    def test_a_missing_key_is_an_error_that_names_the_variable(self, environ):
        with pytest.raises(litellm.AuthenticationError, match="Set NEEV_API_KEY"):
            litellm.completion(model=f"neev/{MODEL}", messages=ask())

    def test_a_base_url_that_is_none_is_an_error_that_says_so(self, environ):
        environ |= {"NEEV_API_KEY": "sk-nc-x", "NEEV_BASE_URL": "inference.example"}
        with pytest.raises(litellm.exceptions.APIError, match="http"):
            litellm.completion(model=f"neev/{MODEL}", messages=ask())

    async def test_headers_of_the_call_never_replace_our_own(self, call, emulator):
        await call(
            ask(), extra_headers={"Authorization": "Bearer theirs", "Host": "elsewhere", "x-team": "blue"}
        )
        headers = emulator.requests()[-1]["headers"]
        assert headers["x-team"] == "blue"
        assert headers["host"] in emulator.base_url


@asynccontextmanager
async def counting_relay(emulator):
    """A TCP relay in front of the emulator; gives its base URL and the list of the connections it took."""
    connections: list[asyncio.Task] = []
    host, _, port = emulator.root_url.removeprefix("http://").partition(":")

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.current_task())
        up_reader, up_writer = await asyncio.open_connection(host, int(port))

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)

        try:
            await asyncio.gather(copy(reader, up_writer), copy(up_reader, writer))
        finally:
            for end in (writer, up_writer):
                end.close()
                with suppress(ConnectionError):
                    await end.wait_closed()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", connections
    finally:
        server.close()
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


class TestLoops:
    async def test_concurrent_calls_share_one_pooled_session(self, emulator, target):
        async with counting_relay(emulator) as (relay_url, connections):
            params = {**target, "api_base": relay_url, "model": f"neev/{MODEL}"}
            for _ in range(10):
                await litellm.acompletion(**params, messages=ask())
            assert len(connections) == 1
            await asyncio.gather(*(litellm.acompletion(**params, messages=ask()) for _ in range(5)))
            assert len(connections) <= 5

    async def test_streams_that_are_read_to_their_end_share_a_connection(self, emulator, target):
        async with counting_relay(emulator) as (relay_url, connections):
            params = {**target, "api_base": relay_url, "model": f"neev/{MODEL}"}
            for _ in range(5):
                chunks = [c async for c in await litellm.acompletion(**params, messages=ask(), stream=True)]
                assert text_of(chunks) == "one two three"
            assert len(connections) == 1

    def test_loops_one_after_the_other_leave_no_session_open(self, target):
        # An unclosed session warns when it is collected, and warnings are errors here.
        for _ in range(3):
            assert asyncio.run(litellm.acompletion(model=f"neev/{MODEL}", messages=ask(), **target)).choices

    async def test_the_synchronous_way_works_inside_a_running_loop(self, target):
        assert litellm.completion(model=f"neev/{MODEL}", messages=ask(), **target).choices

    def test_the_synchronous_way_works_in_many_threads(self, target):
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(8) as pool:
            answers = pool.map(
                lambda i: litellm.completion(model=f"neev/{MODEL}", messages=ask(f"n{i}"), **target),
                range(24),
            )
            assert [a.choices[0].message.content for a in answers] == [f"n{i}" for i in range(24)]


class TestStoppingEarly:
    async def stopped(self, emulator) -> None:
        async with asyncio.timeout(1):  # the contract: upstream is cancelled within a second
            while emulator.stats()["streams"]["aborted_by_client"] != 1:
                await asyncio.sleep(0.01)
        assert emulator.stats()["streams"]["open"] == 0

    async def test_an_asynchronous_stream_that_is_closed_closes_upstream(self, emulator, target):
        stream = await litellm.acompletion(
            model=f"neev/{MODEL}", messages=ask(echo="tokens=1000,rate=20"), stream=True, **target
        )
        await anext(stream)
        await stream.aclose()
        await self.stopped(emulator)

    async def test_a_task_that_is_cancelled_closes_upstream(self, emulator, target):
        first = asyncio.Event()

        async def read() -> None:
            stream = await litellm.acompletion(
                model=f"neev/{MODEL}", messages=ask(echo="tokens=1000,rate=20"), stream=True, **target
            )
            async for _ in stream:
                first.set()

        task = asyncio.create_task(read())
        await asyncio.wait_for(first.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await self.stopped(emulator)

    async def test_a_synchronous_stream_that_is_dropped_closes_upstream(self, emulator, target):
        stream = litellm.completion(
            model=f"neev/{MODEL}", messages=ask(echo="tokens=1000,rate=20"), stream=True, **target
        )
        next(stream)
        with closing(stream.completion_stream):
            del stream
        await self.stopped(emulator)


class TestRegistration:
    def test_registering_twice_keeps_one_handler(self):
        neev_provider.register()
        neev_provider.register()
        assert [item["provider"] for item in litellm.custom_provider_map].count("neev") == 1

    def test_other_custom_providers_stay(self):
        other = {"provider": "other", "custom_handler": litellm.CustomLLM()}
        litellm.custom_provider_map.append(other)
        neev_provider.register()
        assert other in litellm.custom_provider_map
        litellm.custom_provider_map.remove(other)

    def test_this_litellm_has_no_neev_of_its_own(self):
        # It would win over custom_provider_map (LITELLM.md, Adapter 10).
        assert "neev" not in {str(provider.value) for provider in litellm.LlmProviders}

    def test_a_litellm_with_a_neev_of_its_own_is_refused(self, monkeypatch):
        monkeypatch.setattr(litellm, "LlmProviders", ["openai", "neev"])
        with pytest.raises(RuntimeError, match="of its own"):
            neev_provider.register()


class TestNothingIsLeftBehind:
    def test_a_stream_that_is_left_early_does_not_hold_up_the_end_of_the_process(self, target):
        code = (
            "import litellm, neev_provider\n"
            "neev_provider.register()\n"
            "messages = [{'role': 'user', 'content': 'x-neev-echo: tokens=1000,rate=20\\nx'}]\n"
            f"stream = litellm.completion(model='neev/{MODEL}', messages=messages, stream=True, **{target!r})\n"
            "for _ in stream:\n"
            "    break\n"
            "print('leaving')\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=40)
        assert (done.returncode, done.stdout) == (0, "leaving\n"), done.stderr

    async def test_a_stream_may_be_collected_on_the_background_loop_itself(self, emulator, target):
        handler = neev_provider.NeevLLM()
        neev_provider.register(handler)
        params = {**target, "model": f"neev/{MODEL}"}
        held = [litellm.completion(**params, messages=ask(echo="tokens=1000,rate=20"), stream=True)]
        next(held[0])

        async def let_go() -> None:
            held.clear()
            gc.collect()

        await asyncio.to_thread(handler._portal.run, let_go())
        answer = await asyncio.wait_for(asyncio.to_thread(litellm.completion, **params, messages=ask()), 10)
        assert answer.choices

    def test_loops_that_have_ended_are_forgotten(self, target):
        handler = neev_provider.NeevLLM()
        neev_provider.register(handler)
        for _ in range(5):
            asyncio.run(litellm.acompletion(model=f"neev/{MODEL}", messages=ask(), **target))
        assert len(handler._upstreams._held) == 0
