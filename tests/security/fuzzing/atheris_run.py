"""Fuzzes one target with Atheris: `python -m tests.security.fuzzing.atheris_run TARGET [libFuzzer's words]`.

Runs in `.venv-security`, called by `__main__.py`.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["neev_provider"]):
    from tests.security.fuzzing.targets import TARGETS


def main() -> None:
    name, *words = sys.argv[1:]
    # To merge, libFuzzer starts this anew by what it was told is its name, through a shell.
    atheris.Setup([f"{sys.executable} -m {__spec__.name} {name}", *words], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
