"""Learning curves, δ through time, and what clipping does."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxcnn._io.drawing import ACCENT, PALE, REFERENCE, style


def digits(found: Mapping[str, Any]) -> Figure:
    """Loss and accuracy; ‖δ‖ through time."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    style(
        left,
        f"Digits, row by row: {found['accuracies'][-1]:.2%} of the test images right",
        "step",
        "cross entropy",
    )
    left.plot(found["losses"], color=PALE, linewidth=0.7)
    left.plot(_smooth(found["losses"]), color=ACCENT, linewidth=1.8)
    left.set_yscale("log")
    _time(right, found, "row")
    return figure


def adding(runs: Mapping[str, Mapping[str, Any]], length: int, guess: float, clip: float) -> Figure:
    """The error of both runs, the length of their gradients, and ‖δ‖ through time of the clipped
    one."""
    figure = Figure(figsize=(14, 4.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    style(left, f"Adding two marked numbers of {length}", "step", "mean square error")
    style(middle, "Length of the gradient", "step")
    for (name, found), colour in zip(runs.items(), (ACCENT, REFERENCE), strict=True):
        left.plot(
            _smooth(found["losses"]),
            color=colour,
            linewidth=1.5,
            label=f"gradients {name}: {found['error']:.1e} at the end",
        )
        middle.plot(found["norms"], color=colour, linewidth=0.6, label=f"gradients {name}")
    left.axhline(guess, color="black", linewidth=1, linestyle=":", label="always guessing 1")
    middle.axhline(clip, color="black", linewidth=1, linestyle=":", label="where it is clipped")
    for ax in (left, middle):
        ax.set_yscale("log")
        ax.legend(frameon=False, fontsize=9)
    _time(right, next(iter(runs.values())), "step of the sequence")
    return figure


def _time(ax: Axes, found: Mapping[str, Any], x: str) -> None:
    style(ax, "‖δ‖ through time: the loss is at the right end", x, "‖∂ loss / ∂ …‖")
    for name, colour in (("rnn1", ACCENT), ("input", REFERENCE)):
        for when, line in (("before", ":"), ("after", "-")):
            ax.plot(
                np.arange(1, len(found[when][name]) + 1),
                found[when][name],
                line,
                color=colour,
                linewidth=1.8,
                label=f"{'first layer' if name == 'rnn1' else 'input'}, {when} training",
            )
    ax.set_yscale("log")
    ax.legend(frameon=False, fontsize=9)


def _smooth(values: Any, width: int = 50) -> np.ndarray:
    width = max(1, min(width, len(values) // 4))
    window = np.ones(width)
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")
