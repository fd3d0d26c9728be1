"""How soon the networks arrive, and how that depends on the settings."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxcnn._io.drawing import ACCENT, INK, REFERENCE, plain_ticks, style

COLOURS: dict[str, str] = dict(
    zip(
        ("MLP, sigmoid", "MLP, softmax", "CNN, softmax"),
        ("#64748b", REFERENCE, ACCENT),
        strict=True,
    )
)


def arrivals(
    epochs: Mapping[str, np.ndarray], cap: int, document: Mapping[str, int | None]
) -> Figure:
    """The share of the networks that has arrived, by epoch."""
    figure = Figure(figsize=(8.5, 4.6), layout="constrained")
    ax = figure.subplots()
    style(ax, "Share of the networks with a squared error below 0.005", "epoch", "%")
    for name, counts in epochs.items():
        there = np.sort(counts[counts <= cap])
        share = 100 * np.arange(1, len(there) + 1) / len(counts)
        ax.step(
            [*there, cap],
            [*share, share[-1] if len(share) else 0],
            where="post",
            color=COLOURS[name],
            linewidth=2,
            label=f"{name}: {len(there) / len(counts):.0%}",
        )
        at = document[name]
        if at:
            ax.axvline(at, color=COLOURS[name], linewidth=1, linestyle=":")
    ax.text(
        0.99,
        0.02,
        "dotted: the document's 324 (MLP) and 261 (CNN)",
        transform=ax.transAxes,
        ha="right",
        color=INK,
        fontsize=8,
    )
    ax.set_xscale("log")
    plain_ticks(ax.xaxis)
    ax.set_ylim(0, 101)
    ax.legend(frameon=False, loc="center", bbox_to_anchor=(0.62, 0.77))
    return figure


def settings(table: list[dict[str, Any]]) -> Figure:
    """Share that arrives and median, for every setting tried."""
    figure = Figure(figsize=(11, 0.28 * len(table) + 1.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    rows = np.arange(len(table))
    for number, (name, colour) in enumerate(COLOURS.items()):
        found = [row["networks"][name] for row in table]
        at = rows + 0.22 * (number - 1)
        left.barh(at, [100 * f["arrived"] for f in found], height=0.2, color=colour, label=name)
        right.plot(
            [f["quartiles"][1] or np.nan for f in found], at, "o", color=colour, markersize=5
        )
    style(left, "Share that arrives", "%", grid="x")
    style(right, "Median epoch (none: the median never arrives)", "epoch", grid="x")
    right.set_xscale("log")
    plain_ticks(right.xaxis)
    left.set_yticks(
        rows,
        [
            f"rate {r['learning_rate']:g}, decay {r['weight_decay']:g}, scale {r['scale']:g}"
            for r in table
        ],
        fontsize=8,
    )
    left.invert_yaxis()
    left.set_xlim(0, 100)
    left.margins(y=0.02)
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False
    )
    return figure
