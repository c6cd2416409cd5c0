"""Reads the lock files, and finds what makes one of them not a lock: no exact version, no hash, an address.

Responsible for the files' text only. Called by `__main__`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

_SHA256 = re.compile(r"--hash=sha256:[0-9a-f]{64}(?=\s|$)")
_INTEGRITY = re.compile(r"sha512-[A-Za-z0-9+/]{86}==")


@dataclass(frozen=True, slots=True)
class Locked:
    """One package at one version, as a lock names it; `ecosystem` in OSV's words."""

    name: str
    version: str
    lock: str
    ecosystem: str = "PyPI"


def read(path: Path, scripts: Container[str] = ()) -> tuple[list[Locked], list[str]]:
    """Return what a lock of either kind holds, and what is wrong with it; `scripts` of npm packages are known."""
    return _read_npm(path, scripts) if path.suffix == ".json" else _read_pip(path)


def _read_pip(path: Path) -> tuple[list[Locked], list[str]]:
    packages, findings = [], []
    for line in path.read_text().replace("\\\n", " ").splitlines():
        words = line.partition(" #")[0].strip()
        if not words or words.startswith("#"):
            continue
        if words.startswith("-"):
            findings.append(f"{path.name}: an option instead of a package: {words.split()[0]}")
            continue
        requirement = Requirement(words.partition(" --")[0].strip())
        pins = [one.version for one in requirement.specifier if one.operator == "=="]
        if requirement.url:
            findings.append(f"{path.name}: {requirement.name} comes from an address of its own")
        elif len(pins) != 1:
            findings.append(f"{path.name}: {requirement.name} has no exact version")
        else:
            packages.append(Locked(canonicalize_name(requirement.name), pins[0], path.name))
        if not _SHA256.search(words):
            findings.append(f"{path.name}: {requirement.name} has no sha256 hash")
    return packages, findings


def _read_npm(path: Path, scripts: Container[str]) -> tuple[list[Locked], list[str]]:
    packages, findings = [], []
    for place, entry in json.loads(path.read_text())["packages"].items():
        if not place:
            continue  # the project itself
        name = place.rpartition("node_modules/")[2]
        packages.append(Locked(name, entry["version"], path.name, "npm"))
        if not _INTEGRITY.fullmatch(entry.get("integrity", "")):
            findings.append(f"{path.name}: {name} has no sha512 hash")
        if "resolved" in entry:
            findings.append(f"{path.name}: {name} names an address")
        if entry.get("hasInstallScript") and name not in scripts:
            findings.append(f"{path.name}: {name} runs a script when it is installed")
    return packages, findings
