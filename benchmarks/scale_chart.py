"""Draws the curves of `scale.py`: the JSON's path and the PNG's as arguments. Needs matplotlib only."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

COLOURS = ("#2f6fdb", "#d9822b", "#3f9b5f")
FIGURES = (  # the first words of a curve's title, its columns, the axis
    ("Keys", ("gateway CPU µs", "store µs: admit", "store µs: settle"), "µs for each request"),
    ("Teams", ("gateway CPU µs", "store µs: admit", "store µs: settle"), "µs for each request"),
    ("Days", ("store µs: admit", "store µs: settle"), "µs for each request"),
    ("Parallel", ("CPU µs per chunk",), "µs for each chunk"),
)


def main() -> None:
    """Draw one panel for each curve; sizes are on a logarithmic axis, costs begin at 0."""
    curves = json.loads(Path(sys.argv[1]).read_bytes())
    figure, axes = plt.subplots(2, 2, figsize=(13, 7.5), constrained_layout=True)
    for axis, (begins, columns, unit) in zip(axes.flat, FIGURES, strict=True):
        curve = next(each for each in curves if each["title"].startswith(begins))
        sizes = [row[0] for row in curve["rows"]]
        for column, colour in zip(columns, COLOURS, strict=False):
            place = curve["columns"].index(column)
            axis.plot(sizes, [row[place] for row in curve["rows"]], "o-", color=colour, label=column)
        axis.set_xscale("log")
        axis.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
        axis.minorticks_off()
        axis.set_ylim(bottom=0)
        axis.set_xlabel(curve["columns"][0])
        axis.set_ylabel(unit)
        axis.set_title(curve["title"], loc="left", fontsize=11, fontweight="bold")
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
        axis.legend(fontsize=8)
    figure.savefig(sys.argv[2], dpi=100)


main()
