"""Takes expressions in Prometheus' language apart: what they select, and which labels their result has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import promql_parser as promql

from grafana.families import FAMILIES

VARIABLES = {"$__rate_interval": "5m", "$__range_s": "21600", "$__range": "6h"}
TARGET_LABELS = frozenset({"namespace", "job", "instance"})
OPERATORS = {
    "MatchOp.Equal": "=",
    "MatchOp.NotEqual": "!=",
    "MatchOp.Re": "=~",
    "MatchOp.NotRe": "!~",
}
_SUFFIXES = ("_bucket", "_sum", "_count")


def parsed(expression: str) -> promql.Expr:
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    return promql.parse(expression)


@dataclass(frozen=True)
class Selected:
    """A selector: what is selected, over which range, under which functions (innermost last)."""

    name: str
    conditions: tuple[tuple[str, str, str], ...]
    range: timedelta | None
    functions: tuple[str, ...]

    @property
    def matchers(self) -> dict[str, list[str]]:
        """Values by label."""
        found: dict[str, list[str]] = {}
        for label, _, value in self.conditions:
            found.setdefault(label, []).append(value)
        return found

    @property
    def family(self) -> str:
        for suffix in _SUFFIXES:
            bare = self.name.removesuffix(suffix)
            if bare != self.name and bare in FAMILIES and FAMILIES[bare].kind == "histogram":
                return bare
        return self.name

    @property
    def is_counter(self) -> bool:
        return self.name.endswith("_total") or self.family != self.name

    @property
    def labels(self) -> frozenset[str]:
        more = {"le"} if self.name.endswith("_bucket") else set()
        return TARGET_LABELS | more | set(FAMILIES[self.family].labels)


def selected(
    node: promql.Expr, functions: tuple[str, ...] = (), range_: timedelta | None = None
) -> Iterator[Selected]:
    if isinstance(node, promql.VectorSelector):
        conditions = tuple((one.name, OPERATORS[str(one.op)], one.value) for one in node.matchers.matchers)
        yield Selected(node.name, conditions, range_, functions)
    elif isinstance(node, promql.MatrixSelector):
        yield from selected(node.vector_selector, functions, node.range)
    else:
        inner = (*functions, node.func.name) if isinstance(node, promql.Call) else functions
        for child in children(node):
            yield from selected(child, inner, range_)


def children(node: promql.Expr) -> list[promql.Expr]:
    if isinstance(node, promql.Call):
        return list(node.args)
    if isinstance(node, promql.BinaryExpr):
        return [node.lhs, node.rhs]
    if isinstance(node, (promql.AggregateExpr, promql.ParenExpr, promql.UnaryExpr, promql.SubqueryExpr)):
        return [node.expr]
    assert isinstance(node, (promql.NumberLiteral, promql.StringLiteral)), f"a {type(node).__name__}"
    return []


def labels_of(node: promql.Expr) -> frozenset[str] | None:
    """Return the labels that every series of the result has; None of a scalar."""
    if isinstance(node, (promql.NumberLiteral, promql.StringLiteral)):
        return None
    if isinstance(node, (promql.VectorSelector, promql.MatrixSelector)):
        [one] = selected(node)
        return one.labels
    if isinstance(node, promql.AggregateExpr):
        if str(node.op) in {"topk", "bottomk"}:
            return labels_of(node.expr)
        if node.modifier is None:
            return frozenset()
        assert node.modifier.type == promql.AggModifierType.By
        return frozenset(node.modifier.labels)
    if isinstance(node, promql.Call):
        if node.func.name in {"vector", "absent"}:
            return frozenset()
        [inner] = [labels for child in node.args if (labels := labels_of(child)) is not None]
        return inner - {"le"} if node.func.name == "histogram_quantile" else inner
    if isinstance(node, promql.BinaryExpr):
        left, right = labels_of(node.lhs), labels_of(node.rhs)
        if left is None or right is None:
            return right if left is None else left
        return left & right if str(node.op) == "or" else left
    [child] = children(node)
    return labels_of(child)


def labels_named(legend: str) -> set[str]:
    return set(re.findall(r"\{\{\s*(\w+)\s*\}\}", legend))
