"""Writes the parts of the chart that follow from other files: configuration, dashboards, rules, reference.

`values.yaml` holds the repository's `proxy_config.yaml`, `files/` copies of what stands under `grafana/`, and the
chart's README the comments of `values.yaml`. Not responsible for anything else in them. Called by `make chart-files`
and, to compare only, by the tests.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CHART", "Value", "documented_values", "wanted_files"]

ROOT: Final = Path(__file__).parents[1]
CHART: Final = ROOT / "helm" / "neev-gateway"
_COPIES: Final = (
    ("grafana/dashboards", "files/dashboards", "*.json"),
    ("grafana/rules", "files/rules", "*.yaml"),
)
_BEGIN_CONFIG: Final = "  # BEGIN proxy_config.yaml (written by `make chart-files`)\n"
_END_CONFIG: Final = "  # END proxy_config.yaml\n"
_BEGIN_VALUES: Final = "<!-- BEGIN values (written by `make chart-files`) -->\n"
_END_VALUES: Final = "<!-- END values -->\n"
_KEY: Final = re.compile(r"^( *)([A-Za-z0-9]+):(?: |$)")
_LONGEST_DEFAULT: Final = 70  # characters that a cell of the table shows


class Value(NamedTuple):
    """A documented value.

    Attributes:
        path: its name with dots.
        text: the comment above it.
        default: what `values.yaml` says.
    """

    path: str
    text: str
    default: Any


def wanted_files() -> dict[Path, str]:
    """Return the chart's written files as they should be, by path."""
    files: dict[Path, str] = {}
    values = CHART / "values.yaml"
    files[values] = _between(values.read_text(encoding="utf-8"), _BEGIN_CONFIG, _END_CONFIG, _config())
    for source, target, pattern in _COPIES:
        for file in sorted((ROOT / source).glob(pattern)):
            files[CHART / target / file.name] = file.read_text(encoding="utf-8")
    readme = CHART / "README.md"
    table = _reference(documented_values(files[values]))
    files[readme] = _between(readme.read_text(encoding="utf-8"), _BEGIN_VALUES, _END_VALUES, table)
    return files


def surplus_files(wanted: dict[Path, str]) -> list[Path]:
    """Return the copies whose source is gone."""
    present = (file for _, target, pattern in _COPIES for file in sorted((CHART / target).glob(pattern)))
    return [file for file in present if file not in wanted]


def documented_values(text: str) -> list[Value]:
    """Return what the comments that begin with `# --` describe, in the order of the file."""
    defaults = yaml.safe_load(text)
    return [Value(path, comment, _at(defaults, path)) for path, comment in _commented_keys(text) if comment]


def _commented_keys(text: str) -> Iterator[tuple[str, str]]:
    """Yield every key that stands on a line of its own, with the comment above it."""
    parents: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        bare = line.strip()
        if bare.startswith("# --"):
            comment = [bare.removeprefix("# --").strip()]
        elif bare.startswith("#") and comment:
            comment.append(bare.removeprefix("#").strip())
        elif match := _KEY.match(line):
            depth = len(match[1])
            parents = [(at, name) for at, name in parents if at < depth]
            parents.append((depth, match[2]))
            yield ".".join(name for _, name in parents), " ".join(comment)
            comment = []
        else:
            comment = []


def _at(values: dict[str, Any], path: str) -> Any:
    found: Any = values
    for name in path.split("."):
        found = found[name]
    return found


def _config() -> str:
    """Return `proxy_config.yaml` below its head comment, moved in by one level."""
    text = (ROOT / "proxy_config.yaml").read_text(encoding="utf-8")
    body = text[text.index("model_list:") :]
    return "".join(f"  {line}" if line.strip() else line for line in body.splitlines(keepends=True))


def _between(text: str, begin: str, end: str, content: str) -> str:
    head, _, rest = text.partition(begin)
    _, found, tail = rest.partition(end)
    if not found:
        raise SystemExit(f"error: the markers {begin.strip()} and {end.strip()} are missing")
    return head + begin + content + end + tail


def _reference(values: list[Value]) -> str:
    rows = [f"| `{value.path}` | {value.text} | {_cell(value.default)} |\n" for value in values]
    return "| value | meaning | default |\n|---|---|---|\n" + "".join(rows)


def _cell(default: Any) -> str:
    if default == "":
        return ""
    text = json.dumps(default) if not isinstance(default, str) else default
    return f"`{text}`" if len(text) <= _LONGEST_DEFAULT else "see values.yaml"


def main() -> int:
    """Write the files, or tell which are stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is stale")
    check = parser.parse_args().check
    wanted = wanted_files()
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text]
    surplus = surplus_files(wanted)
    for path in [*stale, *surplus]:
        sys.stdout.write(f"{'stale' if check else 'written'}: {path.relative_to(ROOT)}\n")
    if check:
        return 1 if stale or surplus else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path], encoding="utf-8")
    for path in surplus:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
