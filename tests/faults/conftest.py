"""One gateway of two workers for each file whose tests leave it whole."""

from __future__ import annotations

import pytest

from tests.faults.house import running, visit


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with running(tmp_path_factory.mktemp("house")) as gateway:
        yield gateway


@pytest.fixture
async def house(served):
    async with visit(served) as opened:
        await opened.forget()
        yield opened


@pytest.fixture
async def account(house):
    return await house.account()
