"""δ by layer, by depth, and the units that are off."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.vanishing.measure import Measured, best
from jaxcnn._io.drawing import style

Found = Mapping[tuple[str, int], tuple[Measured, Measured]]
WHEN = "at the start", "after training"
SMALLEST, LARGEST = 1e-35, 1e25


def fading(found: Found, names: Sequence[str], depth: int, scales: Sequence[float]) -> Figure:
    """‖δ‖ of each layer of the deepest network: a column for each activation, a line for each
    scale."""

    def draw(ax: Axes, measured: Measured) -> None:
        for number, colour in enumerate(_colours(len(scales))):
            ax.plot(
                np.arange(1, depth + 1),
                measured.norms[number],
                color=colour,
                linewidth=1.8,
                label=f"scale {scales[number]:.3g}",
            )
        ax.set_yscale("log")
        ax.set_ylim(SMALLEST, LARGEST)

    return _grid(
        found,
        names,
        depth,
        f"‖δ‖ by layer, {depth} layers",
        "layer (1: next to the image)",
        "‖δ‖",
        draw,
    )


def silent(found: Found, names: Sequence[str], depth: int, scales: Sequence[float]) -> Figure:
    """The share of outputs, and of δ, that are exactly 0, by layer."""

    def draw(ax: Axes, measured: Measured) -> None:
        for number, colour in enumerate(_colours(len(scales))):
            layers = np.arange(1, depth + 1)
            ax.plot(
                layers,
                100 * measured.silent[number],
                color=colour,
                linewidth=1.8,
                label=f"scale {scales[number]:.3g}",
            )
            ax.plot(layers, 100 * measured.silent_deltas[number], ":", color=colour, linewidth=1.8)
        ax.set_ylim(-2, 102)

    return _grid(
        found,
        names,
        depth,
        f"Zeros by layer, {depth} layers (dotted: of δ)",
        "layer (1: next to the image)",
        "% zero",
        draw,
    )


def by_depth(
    found: Found, names: Sequence[str], depths: Sequence[int], scales: Sequence[float]
) -> Figure:
    """How much of δ reaches the first layer, and how well the network learns, against depth; each
    at the scale that learns best."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    style(left, "‖δ‖ at the first layer over the last, at the start", "layers")
    style(right, "Correct on test images after training", "layers", "%")
    for name, colour in zip(names, ("#64748b", "#7c3aed", "#2455a4", "#c2410c"), strict=True):
        correct, ratios = [], []
        for depth in depths:
            start, end = found[name, depth]
            at = best(end)
            correct.append(100 * end.correct[at])
            with np.errstate(all="ignore"):
                ratios.append(start.norms[at, 0] / start.norms[at, -1])
        left.plot(depths, ratios, "o-", color=colour, linewidth=1.8, label=name)
        right.plot(depths, correct, "o-", color=colour, linewidth=1.8, label=name)
    left.set_yscale("log")
    right.set_ylim(0, 100)
    for ax in (left, right):
        ax.set_xscale("log")
        ax.set_xticks(depths, [str(d) for d in depths])
        ax.minorticks_off()
    right.legend(frameon=False, title="each at the scale that learns best")
    return figure


def _grid(
    found: Found, names: Sequence[str], depth: int, title: str, x: str, y: str, draw
) -> Figure:
    figure = Figure(figsize=(3.4 * len(names), 6.4), layout="constrained")
    axes = figure.subplots(2, len(names), sharex=True, sharey=True)
    for column, name in enumerate(names):
        for row, when in enumerate(WHEN):
            ax = axes[row, column]
            style(ax, f"{name}, {when}", x if row else "", "" if column else y)
            draw(ax, found[name, depth][row])
    figure.suptitle(title, x=0.01, ha="left")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False
    )
    return figure


def _colours(count: int) -> list:
    return [colormaps["viridis"](number / max(1, count - 1) * 0.85) for number in range(count)]
