"""What msgspec says of a value that does not fit, in words for people who write YAML rather than Python.

Called by those that read files: `config.py`, `catalog.py`, `admission/declared.py`.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["in_words"]

_TYPES: Final = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}
_BOUNDS: Final = {">=": "of at least", "<=": "of at most", ">": "above", "<": "below"}
_FORMS: Final = {
    r"^[1-9][0-9]{0,8}(s|m|h|d|w|mo)$": "a number and s, m, h, d, w or mo, as 24h, 30d or 1mo",
    r"^[\w.-]{1,64}$": "1 to 64 letters, digits, dots, hyphens and underscores",
    "^/": "a path that begins with /",
    r"^os\.environ/.": "os.environ/ and the name of a variable",
    r"^\w+(\.\w+)+$": "a dotted name, as package.module.name",
}
_UNFIT: Final = re.compile(r"Expected `([a-z |]+)`, got `([a-z]+)`")
_BEYOND: Final = re.compile(r"Expected `(int|float)` (>=|<=|>|<) (-?[0-9.e+]+)")
_LENGTH: Final = re.compile(r"Expected `(str|array)` of length (>=|<=|>|<) (\d+)")
_FORM: Final = re.compile(r"Expected `str` matching regex '(.*)'")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`")
_MISSING: Final = re.compile(r"Object missing required field `(.*)`")


def in_words(problem: str) -> str:
    """Return msgspec's sentence, without the place, as what is wrong; one that is not known stays as it is."""
    if found := _UNFIT.fullmatch(problem):
        wanted = [name for name in found[1].split(" | ") if name != "null"]
        return f"must be {' or '.join(map(_type, wanted))}, not {_type(found[2])}"
    if found := _BEYOND.fullmatch(problem):
        return f"must be {_type(found[1])} {_BOUNDS[found[2]]} {found[3].removesuffix('.0')}"
    if found := _LENGTH.fullmatch(problem):
        if found.groups()[1:] == (">=", "1"):
            return "must not be empty"
        items = "characters" if found[1] == "str" else "items"
        return f"must be {_type(found[1])} {_BOUNDS[found[2]]} {found[3]} {items}"
    if found := _FORM.fullmatch(problem):
        pattern = found[1].replace("\\\\", "\\")  # msgspec shows it as Python would write it
        return f"must be {_FORMS.get(pattern, f'a text of the form {pattern}')}"
    if found := _UNKNOWN.fullmatch(problem):
        return f"has no setting '{found[1]}'"
    if found := _MISSING.fullmatch(problem):
        return f"lacks {found[1]}"
    return problem.replace("Invalid enum value", "has a value that is none of those allowed:").replace(
        "`", ""
    )


def _type(name: str) -> str:
    return _TYPES.get(name, name)
