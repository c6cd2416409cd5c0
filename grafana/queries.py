"""Expressions in Prometheus' language, for dashboards: every selector follows the variables at the top.

A function here takes a family's name and matchers as text (`status=~"5.."`), and gives text. What a family's labels
allow is taken from `families.py`: a family with a label `team` follows the variable `team`. Called by `boards/`.
"""

from __future__ import annotations

from typing import Final

from grafana.families import FAMILIES

__all__ = [
    "either",
    "fraction",
    "increase",
    "largest",
    "mean",
    "occurring",
    "or_zero",
    "quantile",
    "rate",
    "select",
    "total",
]

TARGETS: Final = ("namespace", "job", "instance")
"""Labels that Prometheus gives to whatever it scrapes; `namespace` in Kubernetes only."""
FOLLOWED: Final = ("team", "key", "model")
"""Labels of ours that have a variable."""
WHOLE_RANGE: Final = "$__range"
"""What is looked at; a stretch of its own for panels that show one number for all of it."""
_RATE: Final = "$__rate_interval"


def select(family: str, *matchers: str, suffix: str = "") -> str:
    """Return a selector of a family's series: the variables', and `matchers`."""
    followed = [f'{label}=~"${label}"' for label in (*TARGETS, *FOLLOWED) if _has(family, label)]
    return f"{family}{suffix}{{{', '.join([*followed, *matchers])}}}"


def _has(family: str, label: str) -> bool:
    return label in TARGETS or label in FAMILIES[family].labels


def rate(family: str, *matchers: str, by: str = "", suffix: str = "") -> str:
    """Return events a second, summed up `by` these labels (none: all in one)."""
    return f"sum{_by(by)}(rate({select(family, *matchers, suffix=suffix)}[{_RATE}]))"


def increase(family: str, *matchers: str, by: str = "", window: str = WHOLE_RANGE, suffix: str = "") -> str:
    """Return how many there were in `window`, summed up `by` these labels."""
    return f"sum{_by(by)}(increase({select(family, *matchers, suffix=suffix)}[{window}]))"


def occurring(expression: str, family: str, *, by: str) -> str:
    """Return those series of an expression, by these labels, of which something happened in the time shown.

    Counters of what rarely happens are there from the start, with 0 for every model; most of them need no line.
    """
    happened = f"sum by ({by}) (increase({select(family)}[{WHOLE_RANGE}] @ end()))"
    return f"{expression} and {happened} > 0"


def either(family: str, *alternatives: str, window: str = WHOLE_RANGE) -> str:
    """Return how many there were in `window` of what any of these matchers, which exclude each other, selects."""
    parts = " or ".join(f"increase({select(family, one)}[{window}])" for one in alternatives)
    return f"sum ({parts})"


def quantile(of: float, family: str, *matchers: str, by: str = "", window: str = _RATE) -> str:
    """Return an estimate of a histogram's quantile, by the labels."""
    function = "rate" if window == _RATE else "increase"
    labels = f"le, {by}" if by else "le"
    buckets = select(family, *matchers, suffix="_bucket")
    return f"histogram_quantile({of}, sum by ({labels}) ({function}({buckets}[{window}])))"


def mean(family: str, *matchers: str, by: str = "") -> str:
    """Return a histogram's mean."""
    return (
        f"{rate(family, *matchers, by=by, suffix='_sum')} / {rate(family, *matchers, by=by, suffix='_count')}"
    )


def total(family: str, *matchers: str, by: str = "") -> str:
    """Return a gauge, summed up over processes and instances."""
    return f"sum{_by(by)}({select(family, *matchers)})"


def largest(family: str, *matchers: str, by: str = "") -> str:
    """Return a gauge's largest; for what every instance says of the same thing."""
    return f"max{_by(by)}({select(family, *matchers)})"


def or_zero(expression: str) -> str:
    """Return an expression that is 0 where there is no series yet; for sums without labels only."""
    return f"({expression} or vector(0))"


def fraction(part: str, whole: str) -> str:
    """Return part of whole, 0 where the whole is there and the part is not; for sums without labels only.

    Where nothing happened there is no number: nothing out of nothing is not 0.
    """
    return f"{or_zero(part)} / ({whole} > 0)"


def _by(labels: str) -> str:
    return f" by ({labels}) " if labels else " "
