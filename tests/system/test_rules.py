"""The alert rules at Prometheus' own tool: they are well-formed, and each fires when it must and not otherwise."""

from __future__ import annotations

import subprocess

import pytest

from tests.proxy.serving import ROOT

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

RULES = ROOT / "grafana" / "rules"


def promtool(*words) -> str:
    done = subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("path", sorted(RULES.glob("*.yaml")), ids=lambda path: path.stem)
def test_rules_are_well_formed(path):
    assert "SUCCESS" in promtool("check", "rules", path)


@pytest.mark.parametrize("path", sorted((RULES / "tests").glob("*.yaml")), ids=lambda path: path.stem)
def test_alerts_fire_when_they_must_and_not_otherwise(path):
    assert "SUCCESS" in promtool("test", "rules", path)
