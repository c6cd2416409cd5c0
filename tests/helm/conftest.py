"""The two Helms, and what each set of values renders to."""

from __future__ import annotations

from functools import cache

import pytest

from tests.helm.charts import CI_FILES, HELMS, Objects, render, render_file
from tests.helm.cluster import running_cluster

_render_file = cache(render_file)
_render_defaults = cache(render)


@pytest.fixture(params=HELMS)
def helm(request) -> str:
    """The command of each Helm."""
    return HELMS[request.param]


@pytest.fixture
def defaults() -> Objects:
    """What the chart renders to without any values; not to be changed."""
    return _render_defaults()


@pytest.fixture(params=[None, *CI_FILES], ids=lambda file: "defaults" if file is None else file.stem)
def rendered(request) -> Objects:
    """The defaults, then each file of `ci/`; not to be changed."""
    return _render_defaults() if request.param is None else _render_file(request.param)


@pytest.fixture
def cluster(tmp_path):
    """What Helm can look up; empty."""
    with running_cluster(tmp_path) as cluster:
        yield cluster
