"""Runs the audit as `make audit` does, on locks and environments that a test has made."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".venv-audit" / "bin"
HASH = "--hash=sha256:" + "0" * 64


class Audit:
    """A folder with a lock, an environment and an advisory database, all without fault at first."""

    def __init__(self, folder: Path):
        self.lock = folder / "requirements.lock"
        self.environment = folder / "environment"
        self.database = folder / "database.zip"
        self.locks("harmless==1.0")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.environment], check=True)
        self.site_packages = next(self.environment.glob("lib/python*/site-packages"))
        self.installs("harmless", "License-Expression: MIT")
        self.advises(version="0.1")

    def locks(self, requirement: str) -> None:
        self.lock.write_text(f"{requirement} \\\n    {HASH}\n    # via -r requirements/runtime.in\n")

    def installs(self, name: str, licence: str) -> None:
        folder = self.site_packages / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n{licence}\n\n")

    def advises(self, version: str, modified: str | None = None) -> None:
        """Replace the database by one with a single advisory on `version` of the package."""
        affected = {"package": {"ecosystem": "PyPI", "name": "harmless"}, "versions": [version]}
        modified = modified or datetime.now(UTC).isoformat()
        with zipfile.ZipFile(self.database, "w") as archive:
            advisory = {"id": "TEST-1", "modified": modified, "summary": "is broken", "affected": [affected]}
            archive.writestr("TEST-1.json", json.dumps(advisory))

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return run_audit(
            "--locks", self.lock, "--environments", self.environment, "--advisories", self.database, *words
        )


def run_audit(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [BIN / "python", "-m", "requirements.audit", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.fixture
def audit(tmp_path) -> Audit:
    return Audit(tmp_path)
