"""`python -m tests.security.fuzzing`: fuzzes each target for a time, and keeps what reached new code.

Called by `make fuzz`. A finding is written to the work folder, and the exit code is 1; what is kept in
`tests/security/corpus` is minimised, so that replaying it takes no time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.security.fuzzing.seeds import SEEDS
from tests.security.fuzzing.targets import TARGETS

ROOT = Path(__file__).parents[3]
CORPUS = ROOT / "tests" / "security" / "corpus"
PYTHON = ROOT / ".venv-security" / "bin" / "python"
LONGEST = 2000  # bytes of an input
KEPT = 150  # files of a target; libFuzzer's merge puts the smallest first


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="for each target")
    parser.add_argument("--only", choices=sorted(TARGETS), action="append")
    parser.add_argument("--work", type=Path, help="folder for the growing corpus and findings; kept")
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp(prefix="fuzz-"))
    found = [name for name in options.only or TARGETS if not _fuzz(name, options.seconds, work / name)]
    if found:
        print(f"Findings in {', '.join(str(work / name) for name in found)}")
    return 1 if found else 0


def _fuzz(name: str, seconds: int, work: Path) -> bool:
    """Fuzz one target and keep its corpus; return whether nothing was found."""
    grown, kept = work / "corpus", CORPUS / name
    for folder in (grown, kept):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (grown / f"seed-{number}").write_bytes(seed)
    print(f"{name}: {seconds} s", flush=True)
    words = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-timeout=10", f"-artifact_prefix={work}/"]
    run = _atheris(name, grown, kept, *words, log=work / "log")
    if run == 0:
        _keep(name, work)
    lines = (work / "log").read_text(errors="replace").splitlines()
    print("\n".join(lines[-3:] if run == 0 else lines[-16:]), flush=True)
    return run == 0


def _keep(name: str, work: Path) -> None:
    """Put the fewest inputs that reach the same code into the repository."""
    merged = Path(tempfile.mkdtemp(dir=work))
    _atheris(
        name,
        merged,
        work / "corpus",
        CORPUS / name,
        "-merge=1",
        f"-max_len={LONGEST}",
        log=work / "merge.log",
    )
    smallest = sorted(merged.iterdir(), key=lambda file: (file.stat().st_size, file.name))[:KEPT]
    for file in (CORPUS / name).iterdir():
        file.unlink()
    for file in smallest:
        (CORPUS / name / file.name[:12]).write_bytes(file.read_bytes())


def _atheris(name: str, *words: str | Path, log: Path) -> int:
    command = [PYTHON, "-m", "tests.security.fuzzing.atheris_run", name, *map(str, words)]
    with log.open("wb") as file:
        return subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT).returncode


if __name__ == "__main__":
    sys.exit(main())
