"""One gateway for the attacks that leave it whole, as users run it: `serve --no-litellm` with a store."""

from __future__ import annotations

import pytest

from tests.admin.conftest import Admin
from tests.faults.house import running


@pytest.fixture(scope="session")
def admin(tmp_path_factory):
    with running(tmp_path_factory.mktemp("security"), workers=1) as served:
        yield Admin(served)


@pytest.fixture
def holder(admin) -> str:
    """The token of an ordinary key."""
    return admin.post("/key/generate", max_budget=100)["key"]
