"""Draws the chart of `peers.py`: what to draw as JSON on stdin, the PNG's path as argument. Needs matplotlib only."""

from __future__ import annotations

import json
import sys

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import Patch

OURS, OTHERS = ("#2f6fdb", "#9dbcf2"), ("#7b8494", "#c5cad3")


def written(figure: float) -> str:
    """Return a figure with the digits that mean something: two or three."""
    if not figure:
        return "failed"
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.1f}" if figure >= 10 else f"{figure:.2f}"  # noqa: PLR2004


def main() -> None:
    """Draw one panel for each figure, on logarithmic axes: the contestants are far apart."""
    given = json.load(sys.stdin)
    panels = list(given["figures"].items())
    figure, axes = plt.subplots(2, 2, figsize=(13, 8.5), constrained_layout=True)
    for axis, (title, values) in zip(axes.flat, panels, strict=True):
        names = list(values)[::-1]
        for number in range(len(given["labels"])):
            places = [place + 0.2 - 0.4 * number for place in range(len(names))]
            heights = [values[name][number] or 0 for name in names]
            colours = [(OURS if name.startswith("gateway") else OTHERS)[number] for name in names]
            bars = axis.barh(places, heights, 0.38, color=colours)
            axis.bar_label(bars, [written(height) for height in heights], padding=3, fontsize=8)
        axis.set_yticks(range(len(names)), names)
        axis.set_xscale("log")
        axis.margins(x=0.18)
        axis.set_title(title, loc="left", fontweight="bold")
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="x", alpha=0.25)
    shown = [Patch(color=colour, label=label) for label, colour in zip(given["labels"], OTHERS, strict=True)]
    axes.flat[0].legend(handles=shown, loc="lower right", fontsize=8)
    figure.suptitle(given["caption"], fontsize=10)
    figure.savefig(sys.argv[1], dpi=100)


main()
