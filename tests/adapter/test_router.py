"""LiteLLM's router over our provider: fallbacks, context-window fallbacks, retries; streamed or not."""

from __future__ import annotations

import litellm
import pytest

from tests.adapter.calling import ask, text_of

WAYS = ("sync", "async", "sync stream", "async stream")


def deployment(name: str, neev_id: str, target: dict[str, str], **params) -> dict:
    return {"model_name": name, "litellm_params": {"model": f"neev/{neev_id}", **target, **params}}


@pytest.fixture(params=WAYS)
def ask_router(request, target):
    """Ask a router with two groups; the first one's deployment is the model that the test makes fail."""

    async def run(messages, *, name: str = "first", **settings):
        router = litellm.Router(
            model_list=[
                deployment("first", "gpt-oss-20b", target),
                deployment("second", "gpt-oss-120b", target),
            ],
            num_retries=settings.pop("num_retries", 0),
            **settings,
        )
        params = {"model": name, "messages": messages}
        match request.param:
            case "sync":
                return router.completion(**params).choices[0].message.content
            case "async":
                return (await router.acompletion(**params)).choices[0].message.content
            case "sync stream":
                return text_of(list(router.completion(**params, stream=True)))
            case _:
                return text_of([chunk async for chunk in await router.acompletion(**params, stream=True)])

    return run


@pytest.mark.parametrize(
    "fault", ["status=500", "status=503", "status=429", "status=401", "status=404", "reset", "html"]
)
async def test_a_failing_deployment_falls_back(ask_router, emulator, fault):
    emulator.set_fault(fault, model="gpt-oss-20b")
    assert await ask_router(ask("hello you"), fallbacks=[{"first": ["second"]}]) == "hello you"
    assert emulator.requests()[-1]["body"]["model"] == "gpt-oss-120b"


async def test_a_prompt_too_long_falls_back_to_the_larger_window(ask_router, emulator):
    emulator.set_fault("context-length", model="gpt-oss-20b")
    answer = await ask_router(ask("hello you"), context_window_fallbacks=[{"first": ["second"]}])
    assert answer == "hello you"


async def test_a_prompt_too_long_without_such_a_fallback_is_the_clients_error(ask_router, emulator):
    emulator.set_fault("context-length", model="gpt-oss-20b")
    with pytest.raises(litellm.ContextWindowExceededError):
        await ask_router(ask("hello you"))


async def test_bad_input_is_the_clients_error_with_its_own_class(ask_router):
    with pytest.raises(litellm.BadRequestError, match="content"):
        await ask_router([{"role": "user"}])


async def test_a_failure_is_retried_as_configured(ask_router, emulator):
    emulator.set_fault("status=503", model="gpt-oss-20b", times=1)
    assert await ask_router(ask("hello you"), num_retries=2, fallbacks=[{"first": ["second"]}]) == "hello you"


async def test_without_fallbacks_the_real_error_is_raised(ask_router, emulator):
    emulator.set_fault("retry-after=9", model="gpt-oss-20b")
    with pytest.raises(litellm.RateLimitError) as caught:
        await ask_router(ask("hello you"))
    assert caught.value.response.headers["retry-after"] == "9"
