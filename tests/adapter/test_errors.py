"""Upstream's faults as LiteLLM's exceptions: class, status, retry-after, and no secret in any of them."""

from __future__ import annotations

import asyncio
import socket

import litellm
import pytest
from litellm import exceptions
from litellm.exceptions import MidStreamFallbackError

from tests.adapter.calling import MODEL, Caller, ask, text_of


async def failure(call: Caller, messages, **params) -> Exception:
    """Return what the caller sees; LiteLLM wraps a stream's server errors, the original stands inside."""
    with pytest.raises(Exception) as caught:
        await call(messages, **params)
    error = caught.value
    if isinstance(error, MidStreamFallbackError):
        assert call.way == "async stream"
        assert error.is_pre_first_chunk
        error = error.original_exception
    return error


@pytest.mark.parametrize(
    ("status", "expected", "seen"),
    [
        (400, exceptions.BadRequestError, 400),
        (401, exceptions.AuthenticationError, 401),
        (402, exceptions.PermissionDeniedError, 402),
        (403, exceptions.PermissionDeniedError, 403),
        (404, exceptions.NotFoundError, 404),
        (408, exceptions.Timeout, 504),
        (409, exceptions.BadRequestError, 400),
        (413, exceptions.BadRequestError, 413),
        (422, exceptions.UnprocessableEntityError, 400),
        (429, exceptions.RateLimitError, 429),
        (500, exceptions.InternalServerError, 500),
        (502, exceptions.BadGatewayError, 502),
        (503, exceptions.ServiceUnavailableError, 503),
        (504, exceptions.Timeout, 502),
    ],
)
async def test_a_status_becomes_the_exception_that_litellm_knows(call, status, expected, seen):
    error = await failure(call, ask(fault=f"status={status}"))
    assert type(error) is expected
    assert error.response.status_code == seen
    assert error.llm_provider == "neev"


@pytest.mark.parametrize("shape", ["openai", "string", "flat", "reason", "html", "empty"])
async def test_any_shape_of_body_gives_one_clean_message(call, shape):
    error = await failure(call, ask(fault=f"status=503,shape={shape}"))
    assert isinstance(error, exceptions.ServiceUnavailableError)
    assert "<" not in str(error)
    assert "Traceback" not in str(error)


async def test_retry_after_reaches_the_caller(call):
    error = await failure(call, ask(fault="retry-after=7"))
    assert isinstance(error, exceptions.RateLimitError)
    assert error.response.headers["retry-after"] == "7"


async def test_without_retry_after_none_is_made_up(call):
    error = await failure(call, ask(fault="status=429"))
    assert "retry-after" not in error.response.headers


async def test_a_prompt_too_long_is_the_exception_for_context_window_fallbacks(call):
    assert type(await failure(call, ask(fault="context-length"))) is exceptions.ContextWindowExceededError


@pytest.mark.parametrize("fault", ["html", "bad-json", "empty-body", "redirect"])
async def test_a_success_that_is_none_is_a_bad_gateway(call, fault):
    assert type(await failure(call, ask(fault=fault))) is exceptions.BadGatewayError


async def test_a_redirect_is_never_followed(call, emulator):
    await failure(call, ask(fault="redirect"))
    assert [request["path"] for request in emulator.requests()] == ["/v1/chat/completions"]


async def test_a_connection_that_is_reset_is_service_unavailable(call):
    assert type(await failure(call, ask(fault="reset"))) is exceptions.ServiceUnavailableError


async def test_nobody_listening_is_service_unavailable(call):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    error = await failure(call, ask(), api_base=f"http://127.0.0.1:{port}/v1")
    assert type(error) is exceptions.ServiceUnavailableError


async def test_an_upstream_that_never_answers_is_a_timeout(call):
    loop = asyncio.get_running_loop()
    before = loop.time()
    assert type(await failure(call, ask(fault="stall"), timeout=0.5)) is exceptions.Timeout
    assert loop.time() - before < 5


@pytest.mark.parametrize("fault", ["status=503", "status=429"])
@pytest.mark.parametrize("call", ["sync", "async"], indirect=True)
class TestRetriesOfAScript:
    """LiteLLM's own, without its router: they need a package that LiteLLM does not ask for."""

    async def test_go_on_until_upstream_answers(self, call, fault, emulator):
        emulator.set_fault(fault, times=2)
        answer = await call(ask("hello you"), num_retries=2)
        assert answer.choices[0].message.content == "hello you"
        assert len(emulator.requests()) == 3

    async def test_end_with_upstreams_error(self, call, fault, emulator):
        emulator.set_fault(fault)
        error = await failure(call, ask(), num_retries=2)
        assert isinstance(error, exceptions.ServiceUnavailableError | exceptions.RateLimitError)
        assert len(emulator.requests()) == 3


class TestMidStream:
    async def broken(self, stream: Caller, fault: str, **params) -> tuple[str, Exception]:
        """Return the text that arrived before the fault, and the fault."""
        messages = ask(fault=fault, echo="tokens=10,rate=200")
        target = {**stream._target, "model": f"neev/{MODEL}", "messages": messages, **params}
        chunks = []
        with pytest.raises(Exception) as caught:
            if stream.way == "sync stream":
                for chunk in litellm.completion(**target, stream=True):
                    chunks.append(chunk)
            else:
                async for chunk in await litellm.acompletion(**target, stream=True):
                    chunks.append(chunk)
        error = caught.value
        return text_of(chunks), getattr(error, "original_exception", None) or error

    @pytest.mark.parametrize(
        ("fault", "expected"),
        [
            ("cut-after=4", (exceptions.ServiceUnavailableError, exceptions.BadGatewayError)),
            (
                "error-after=4",
                (exceptions.APIError, exceptions.InternalServerError, exceptions.BadGatewayError),
            ),
            ("bad-json-chunk=5", exceptions.BadGatewayError),
        ],
    )
    async def test_a_fault_after_the_first_byte_is_an_error_and_never_a_silent_stop(
        self, stream, fault, expected
    ):
        text, error = await self.broken(stream, fault)
        assert text.split()[:3] == ["w1", "w2", "w3"]
        assert isinstance(error, expected)

    async def test_a_stream_that_goes_silent_ends_in_a_timeout(self, stream):
        text, error = await self.broken(stream, "stall-after=4", timeout=0.5)
        assert text.split()[:3] == ["w1", "w2", "w3"]
        assert isinstance(error, exceptions.Timeout)

    async def test_an_end_without_done_but_with_a_finish_reason_is_an_end(self, stream):
        assert text_of(await stream(ask("a b c", fault="no-done"))) == "a b c"

    async def test_a_stream_that_just_ends_is_an_error_and_never_a_silent_stop(self, stream):
        event = (
            b'data: {"id":"x","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"half"}}]}\n\n'
        )

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + event
            )
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            # In a thread: the synchronous way blocks, and the server is on this loop.
            text, error = await asyncio.to_thread(asyncio.run, self.broken(stream, "none", api_base=base))
        assert text == "half"
        assert isinstance(error, exceptions.BadGatewayError)

    @pytest.mark.parametrize("fault", ["odd-chunks", "split-bytes", "crlf"])
    async def test_odd_but_lawful_streams_arrive_whole(self, stream, fault):
        assert text_of(await stream(ask("grüße und 日本語 ✓", fault=fault))) == "grüße und 日本語 ✓"


class TestSecrets:
    @pytest.mark.parametrize(
        "fault", ["status=401", "status=403", "status=500,shape=string", "html", "reset"]
    )
    async def test_the_key_stands_in_no_error(self, stream, fault, caplog):
        secret = "sk-nc-canary-0123456789abcdef"
        error = await failure(stream, ask(fault=fault), api_key=secret)
        assert secret not in f"{error} {error!r} {error.response.text} {error.__dict__}"
        assert secret not in caplog.text

    async def test_the_key_reaches_no_callback(self, call):
        seen: list[str] = []

        class Spy(litellm.integrations.custom_logger.CustomLogger):
            def log_pre_api_call(self, model, messages, kwargs):
                seen.append(f"{kwargs.get('additional_args')} {kwargs.get('api_key')}")

        litellm.callbacks.append(Spy())
        await call(ask(), api_key="sk-nc-canary-0123456789abcdef")
        assert seen
        assert "sk-nc-canary" not in seen[0].split(" ")[0]


class TestClientsOfAProxy:
    """The proxy tells the handler what its client sent."""

    def request(self, **body) -> dict:
        return {
            "proxy_server_request": {
                "url": "http://127.0.0.1/",
                "method": "POST",
                "headers": {},
                "body": body,
            }
        }

    @pytest.mark.parametrize("field", ["api_base", "api_key", "base_url", "extra_headers"])
    async def test_may_not_choose_host_key_or_headers(self, call, field, emulator):
        error = await failure(call, ask(), **self.request(**{field: "http://127.0.0.1:1"}))
        assert type(error) is exceptions.BadRequestError
        assert error.param == field
        assert emulator.requests() == []

    @pytest.mark.parametrize("status", [401, 402, 403])
    async def test_never_see_our_accounts_trouble_as_their_own(self, call, status):
        error = await failure(call, ask(fault=f"status={status}"), **self.request())
        assert error.status_code == error.response.status_code == 502
        assert (error.type, error.code) == ("upstream_error", "upstream_auth_error")

    @pytest.mark.parametrize("status", [500, 502, 503, 504])
    async def test_see_one_status_for_any_trouble_of_upstream(self, call, status):
        error = await failure(call, ask(fault=f"status={status}"), **self.request())
        assert type(error) is exceptions.BadGatewayError
        assert (error.status_code, error.code) == (502, "upstream_error")


@pytest.mark.parametrize("name", ["embedding", "image_generation", "image_edit"])
def test_what_neevai_does_not_serve_is_refused_at_once(name):
    arguments = {
        "embedding": {"input": ["x"]},
        "image_generation": {"prompt": "x"},
        "image_edit": {"prompt": "x", "image": b"x"},
    }[name]
    with pytest.raises(litellm.BadRequestError, match="NeevAI serves no"):
        getattr(litellm, name)(model=f"neev/{MODEL}", **arguments)
    with pytest.raises(litellm.BadRequestError, match="NeevAI serves no"):
        asyncio.run(getattr(litellm, f"a{name}")(model=f"neev/{MODEL}", **arguments))


class TestOlderCompletionsOfAScript:
    """LiteLLM makes a message of each prompt; upstream would answer the last alone."""

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize(
        ("param", "fields"),
        [
            ("prompt", {"prompt": ["x", "y"]}),
            ("echo", {"echo": True}),
            ("best_of", {"best_of": 2}),
            ("suffix", {"suffix": "end"}),
            ("logprobs", {"logprobs": 1}),
        ],
    )
    def test_what_a_chat_model_cannot_do_is_refused(self, target, emulator, param, fields, stream):
        arguments = {"model": f"neev/{MODEL}", "prompt": "x", "stream": stream, **fields, **target}
        with pytest.raises(exceptions.BadRequestError) as caught:
            list(litellm.text_completion(**arguments))
        assert caught.value.param == param
        assert emulator.requests() == []

    def test_one_prompt_is_answered(self, target):
        for prompt in ("a b", ["a b"]):
            answer = litellm.text_completion(model=f"neev/{MODEL}", prompt=prompt, **target)
            assert answer.choices[0].text == "a b"
