"""Looks into an installed environment: code that Python runs at start-up, and the licences of what is installed.

Responsible for reading one environment; what is allowed is `policy.toml`. Called by `__main__`. Licences come from
cyclonedx-py, which knows how packages write them.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_STARTS_CODE = ("sitecustomize.py", "usercustomize.py")
# Classifiers that name no licence.
_VAGUE = ("License :: OSI Approved", "License :: Freely Distributable", "License :: DFSG approved")


@dataclass(frozen=True, slots=True)
class Policy:
    """What is allowed; see policy.toml.

    Attributes:
        licences: SPDX identifiers and the classifiers that stand for one.
        licensed: By package, the licence that its metadata does not say, or that is accepted for it alone, and why.
        start_up: SHA-256 of a .pth file's content by its name.
        scripts: npm packages that have a script for their install, and why it may be; it is never run.
    """

    licences: frozenset[str]
    licensed: Mapping[str, str] = field(default_factory=dict)
    start_up: Mapping[str, str] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)


def start_up_code(environment: Path, project: Path, policy: Policy) -> list[str]:
    """Find every file by which Python would run code, or find modules elsewhere, before any program asks for it."""
    findings = []
    for site in sorted({one.resolve() for one in environment.glob("lib*/python*/site-packages")}):
        findings += [
            f"{site}/{name}: runs at every start of Python" for name in _STARTS_CODE if (site / name).exists()
        ]
        for file in sorted(site.glob("*.pth")):
            content = file.read_bytes()
            if policy.start_up.get(file.name) == hashlib.sha256(content).hexdigest():
                continue
            if content.decode(errors="replace").split() == [str(project)]:
                continue  # this project, installed editable
            findings.append(f"{file}: is not a .pth file that the policy knows")
    return findings


def licences(environment: Path) -> dict[str, list[str]]:
    """Return the licences of each package that is installed there, by its canonical name."""
    tool = Path(sys.executable).with_name("cyclonedx-py")
    done = subprocess.run(
        [
            tool,
            "environment",
            "--no-validate",
            "--output-reproducible",
            "--of",
            "JSON",
            environment / "bin" / "python",
        ],
        capture_output=True,
        check=True,
    )
    found = {}
    for component in json.loads(done.stdout).get("components", ()):
        entries = component.get("licenses", ())
        found[canonicalize_name(component["name"])] = [
            one.get("expression") or one["license"].get("id") or one["license"]["name"] for one in entries
        ]
    return found


def forbidden(found: Mapping[str, Iterable[str]], policy: Policy) -> list[str]:
    """Return one finding for each package without an allowed licence."""
    findings = []
    for name, entries in sorted(found.items()):
        if name in policy.licensed:
            continue
        stated = [one for one in entries if one not in _VAGUE]
        if not stated:
            findings.append(f"{name}: says no licence that can be read")
        elif not all(_is_allowed(one, policy.licences) for one in stated):
            findings.append(f"{name}: licence {' and '.join(stated)} is not allowed")
    return findings


def _is_allowed(licence: str, allowed: frozenset[str]) -> bool:
    """Judge an SPDX expression: of what OR joins one must be allowed, of what AND joins all. AND binds closer."""
    if licence in allowed:
        return True
    while grouped := re.search(r"\(([^()]*)\)", licence):
        verdict = "ALLOWED" if _is_allowed(grouped[1], allowed) else "FORBIDDEN"
        licence = licence[: grouped.start()] + verdict + licence[grouped.end() :]
    return any(
        all(one.strip() in allowed or one.strip() == "ALLOWED" for one in either.split(" AND "))
        for either in licence.split(" OR ")
    )
