"""The wheel can be built again byte for byte; the list of contents names all that is locked."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile

import pytest

from neev_provider import __version__
from tests.supply_chain.conftest import BIN, ROOT

COMMIT_TIME = "1700000000"


def make(script: str, target, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", ROOT / "requirements" / script, target],
        env={"PATH": os.environ["PATH"], "BIN": str(BIN), "SOURCE_DATE_EPOCH": COMMIT_TIME, **more},
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    target = tmp_path_factory.mktemp("wheel")
    done = make("wheel.sh", target)
    assert done.returncode == 0, done.stderr
    return next(target.glob("*.whl"))


class TestWheel:
    def test_two_builds_are_the_same_and_one_is_kept(self, wheel):
        assert wheel.name == f"neev_provider-{__version__}-py3-none-any.whl"

    def test_its_files_have_the_commits_time(self, wheel):
        with zipfile.ZipFile(wheel) as archive:
            assert {entry.date_time[:3] for entry in archive.infolist()} == {(2023, 11, 14)}

    def test_it_holds_the_package_only(self, wheel):
        with zipfile.ZipFile(wheel) as archive:
            tops = {name.partition("/")[0] for name in archive.namelist()}
        assert tops == {"neev_provider", f"neev_provider-{__version__}.dist-info"}

    def test_builds_that_differ_are_an_error(self, tmp_path):
        """A Python that stamps each wheel with the folder it was built in."""
        tools = tmp_path / "bin"
        tools.mkdir()
        (tools / "python").write_text(
            f'#!/bin/sh\nset -e\n"{BIN}/python" "$@"\nfor last; do :; done\necho "$last" >> "$last"/dist/*.whl\n'
        )
        (tools / "python").chmod(0o755)
        done = make("wheel.sh", tmp_path / "dist", BIN=str(tools))
        assert done.returncode == 1
        assert "differ" in done.stderr
        assert not (tmp_path / "dist").exists()


@pytest.fixture(scope="module")
def listed(tmp_path_factory) -> dict:
    target = tmp_path_factory.mktemp("sbom")
    done = make("sbom.sh", target)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads((target / "neev-provider.cdx.json").read_text())


class TestListOfContents:
    def test_it_is_of_this_version(self, listed):
        component = listed["metadata"]["component"]
        assert (component["name"], component["version"]) == ("neev-provider", __version__)

    def test_it_names_all_that_the_image_locks(self, listed):
        lines = (ROOT / "requirements-image.lock").read_text().splitlines()
        locked = {line.split()[0].rstrip(" \\;") for line in lines if "==" in line and line[0].isalnum()}
        assert {f"{one['name']}=={one['version']}" for one in listed["components"]} == locked

    def test_every_component_has_a_hash(self, listed):
        assert all(one["externalReferences"][0]["hashes"] for one in listed["components"])
