"""Matches locked packages against advisories in OSV's form: one JSON file each, in a folder or a zip archive.

Responsible for the matching only, offline. `__main__` calls it with the project's own advisories and with a database
if it is given one. OSV publishes such an archive for each ecosystem. Versions of PyPI are compared by PEP 440, those
of npm by SemVer's order.
"""

from __future__ import annotations

import functools
import json
import re
import zipfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from requirements.audit.locks import Locked

Advisory = dict[str, Any]


def read(path: Path) -> Iterator[Advisory]:
    """Yield the advisories of a folder (its sub-folders too) or of a zip archive.

    Raises:
        FileNotFoundError: `path` is neither.
        ValueError: A file in it is no JSON.
    """
    if path.is_dir():
        for file in sorted(path.rglob("*.json")):
            yield json.loads(file.read_bytes())
        return
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".json"):
                yield json.loads(archive.read(name))


def newest(advisories: Iterable[Advisory]) -> datetime:
    """Return when the newest of them was changed; the beginning of time if there is none."""
    stamps = (datetime.fromisoformat(one["modified"]) for one in advisories if "modified" in one)
    return max(
        (one if one.tzinfo else one.replace(tzinfo=UTC) for one in stamps),
        default=datetime.min.replace(tzinfo=UTC),
    )


def matches(packages: Iterable[Locked], advisories: Iterable[Advisory]) -> list[str]:
    """Return one finding for each package and advisory that names its version."""
    by_name: dict[tuple[str, str], list[tuple[Advisory, dict[str, Any]]]] = {}
    for advisory in advisories:
        if advisory.get("withdrawn"):
            continue
        for affected in advisory.get("affected", ()):
            package = affected.get("package", {})
            ecosystem, name = package.get("ecosystem", ""), package.get("name", "")
            key = (ecosystem, canonicalize_name(name) if ecosystem == "PyPI" else name)
            by_name.setdefault(key, []).append((advisory, affected))
    return sorted(
        {
            f"{package.lock}: {package.name} {package.version}: {_title(advisory)}"
            for package in packages
            for advisory, affected in by_name.get((package.ecosystem, package.name), ())
            if _is_affected(package, affected)
        }
    )


def _title(advisory: Advisory) -> str:
    return f"{advisory['id']} {advisory.get('summary', '')}".rstrip()


def _is_affected(package: Locked, affected: dict[str, Any]) -> bool:
    order = _python_order if package.ecosystem == "PyPI" else _semver_order
    version = order(package.version)
    if any(order(one) == version for one in affected.get("versions", ())):
        return True
    ranges = (one for one in affected.get("ranges", ()) if one.get("type") in {"ECOSYSTEM", "SEMVER"})
    return any(_is_within(version, one["events"], order) for one in ranges)


def _is_within(version: Any, events: list[dict[str, str]], order: Any) -> bool:
    """Go through a range's events in the order of their versions, as OSV defines it."""
    inside = False
    rank = {"introduced": 0, "fixed": 1, "last_affected": 2}
    steps = [(order(value), rank[kind]) for event in events for kind, value in event.items() if kind in rank]
    for at, kind in sorted(steps):
        if kind == rank["introduced"] and version >= at:
            inside = True
        elif (kind == rank["fixed"] and version >= at) or (kind == rank["last_affected"] and version > at):
            inside = False
    return inside


@functools.lru_cache(maxsize=4096)
def _python_order(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:  # older than PEP 440; older than all that can be locked
        return Version("0.dev0")


@functools.lru_cache(maxsize=4096)
def _semver_order(text: str) -> tuple[object, ...]:
    release, _, before = text.partition("+")[0].partition("-")
    numbers = tuple(int(one) for one in re.findall(r"\d+", release))
    words = (
        tuple((0, int(one), "") if one.isdigit() else (1, 0, one) for one in before.split("."))
        if before
        else ()
    )
    return ((*numbers, 0, 0, 0)[:3], not before, words)
