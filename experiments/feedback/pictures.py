"""How well each way learns, and how far it is from the true gradient."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxcnn._io.drawing import ACCENT, REFERENCE, plain_ticks, style

COLOURS = ACCENT, REFERENCE, "#7c3aed", "#15803d", "#64748b"


def errors(found: Mapping[str, Any]) -> Figure:
    """Test error by epoch, and at the end."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    style(left, "Test error", "epoch", "%")
    for (name, f), colour in zip(found.items(), COLOURS, strict=True):
        left.plot(
            100 * np.array(f["errors"]), "o-", color=colour, linewidth=1.8, markersize=4, label=name
        )
    left.set_yscale("log")
    plain_ticks(left.yaxis)
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.legend(frameon=False)
    style(right, "At the end", "%", grid="x")
    last = [100 * f["errors"][-1] for f in found.values()]
    bars = right.barh(range(len(last)), last, color=COLOURS)
    right.bar_label(bars, [f"{value:.2f}" for value in last], padding=3)
    right.set_yticks(range(len(last)), list(found))
    right.invert_yaxis()
    right.margins(x=0.15)
    return figure


def angles(found: Mapping[str, Any]) -> Figure:
    """A panel a way: the angle of each layer's gradient to the true one, step by step. 90° would be
    no help at all."""
    shown = {name: f["angles"] for name, f in found.items() if f["angles"]}
    figure = Figure(figsize=(3.6 * len(shown), 4.2), layout="constrained")
    axes = np.ravel(figure.subplots(1, len(shown), sharey=True))
    for ax, (name, seen) in zip(axes, shown.items(), strict=True):
        style(ax, name, "step", "degrees" if ax.get_subplotspec().is_first_col() else "")
        for layer, colour in zip(seen[0][1], (*COLOURS[:4], "black"), strict=True):
            ax.plot(
                [step for step, _ in seen],
                [a[layer] for _, a in seen],
                color=colour,
                linewidth=2.2 if layer == "all" else 1.2,
                label=layer,
            )
        ax.axhline(90, color="black", linewidth=0.8, linestyle=":")
        ax.set_ylim(-3, 125)
        ax.set_yticks(range(0, 121, 30))
    figure.suptitle("Angle between what is followed and the true gradient", x=0.01, ha="left")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False
    )
    return figure
