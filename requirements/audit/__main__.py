"""The command behind `make audit`: gathers the findings of all checks, prints them, and ends with 1 if there are any.

Responsible for arguments, order and output only. `--advisories` decides how known vulnerabilities are looked up:
offline in an OSV database, a folder or zip archive; online by pip-audit if it is empty; `none` leaves that check out,
and says so.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

from requirements.audit import advisories, environments, locks

HERE = Path(__file__).parent
OWN_ADVISORIES = HERE / "advisories"


def main() -> int:
    """Run all checks; return the exit code."""
    options = _options()
    policy = _policy(options.policy)
    found: dict[str, list[str]] = {"locks": []}
    packages: list[locks.Locked] = []
    for lock in options.locks:
        of_lock, findings = locks.read(lock, policy.scripts)
        packages += of_lock
        found["locks"] += findings
    found["reported packages"] = advisories.matches(packages, advisories.read(OWN_ADVISORIES))
    found["known vulnerabilities"] = _vulnerabilities(options, packages)
    present: dict[str, list[str]] = {}
    found["start-up code"] = []
    for environment in options.environments:
        present |= environments.licences(environment)
        found["start-up code"] += environments.start_up_code(environment, options.project, policy)
    found["licences"] = environments.forbidden(present, policy)

    if options.advisories == "none":
        del found["known vulnerabilities"]
        print("known vulnerabilities: NOT CHECKED, for ADVISORIES=none")
    for check, findings in found.items():
        print(f"{check}: {f'{len(findings)} findings' if findings else 'nothing found'}")
        for finding in findings:
            print(f"  {finding}")
    print(
        f"{len(packages)} locked packages in {len(options.locks)} locks, {len(present)} installed with a licence read"
    )
    return 1 if any(found.values()) else 0


def _vulnerabilities(options: argparse.Namespace, packages: list[locks.Locked]) -> list[str]:
    if options.advisories == "none":
        return []
    if not options.advisories:
        return [finding for lock in options.locks if lock.suffix == ".lock" for finding in _ask_online(lock)]
    database = list(advisories.read(Path(options.advisories)))
    changed = advisories.newest(database)
    findings = advisories.matches(packages, database)
    if datetime.now(UTC) - changed > timedelta(days=options.advisories_age):
        findings.append(
            f"{options.advisories}: its newest advisory is of {changed:%Y-%m-%d}; fetch the database anew, or allow "
            f"ADVISORIES_AGE=days (now {options.advisories_age})"
        )
    return findings


def _ask_online(lock: Path) -> list[str]:
    """Ask PyPI through pip-audit; `--strict`: what it could not look up would pass otherwise."""
    tool = Path(sys.executable).with_name("pip-audit")
    done = subprocess.run(
        [
            tool,
            "--strict",
            "--disable-pip",
            "--progress-spinner=off",
            "--require-hashes",
            "--requirement",
            lock,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return []
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return [
        f"{lock.name}: {lines[-1] if lines else 'pip-audit failed'}",
        f"{lock.name}: no answer from the index? Name a database, ADVISORIES=folder-or-zip; see docs/supply-chain.md",
    ]


def _policy(file: Path) -> environments.Policy:
    data = tomllib.loads(file.read_text())
    return environments.Policy(
        frozenset(data["licences"]), data["licensed"], data["start_up"], data["scripts"]
    )


def _options() -> argparse.Namespace:
    project = HERE.parents[1]
    parser = argparse.ArgumentParser(prog="python -m requirements.audit", description=__doc__)
    parser.add_argument(
        "--advisories", default="", help="OSV database: a folder or zip; empty: online; none: not at all"
    )
    parser.add_argument(
        "--advisories-age", type=int, default=int(os.environ.get("ADVISORIES_AGE", "30")), help="days"
    )
    parser.add_argument(
        "--environments", type=Path, nargs="*", default=[], help="virtual environments to look into"
    )
    parser.add_argument(
        "--locks", type=Path, nargs="*", default=_locks(project), help="default: all of the project"
    )
    parser.add_argument("--policy", type=Path, default=HERE / "policy.toml")
    parser.add_argument(
        "--project", type=Path, default=project, help="where an editable install may point to"
    )
    options = parser.parse_args()
    if options.advisories not in {"", "none"} and not Path(options.advisories).exists():
        parser.error(f"there is no advisory database {options.advisories}")
    return options


def _locks(project: Path) -> list[Path]:
    found = (
        path for folder in ("tests", "benchmarks") for path in project.glob(f"{folder}/**/package-lock.json")
    )
    npm = (path for path in found if "node_modules" not in path.parts)
    return [*sorted(project.glob("requirements*.lock")), *sorted(npm)]


if __name__ == "__main__":
    sys.exit(main())
