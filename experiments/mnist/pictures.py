"""What a run looks like: how it learned, what its first layer looks for, and which images it gets wrong."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from experiments.drawing import ACCENT, INK, PALE, REFERENCE, style

SMALLEST_LOSS = 1e-8  # a loss of exactly 0 has no place on a logarithmic axis
MOST_FILTERS = 64
MOST_MISTAKES = 25


def learning_curves(
    losses: Sequence[float], accuracies: Sequence[float], steps_per_epoch: int, reference: tuple[str, float] | None
) -> Figure:
    """Training loss by step; test accuracy by epoch, beside a ``reference`` (name, accuracy) where there is one."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_losses(left, np.asarray(losses), steps_per_epoch)
    _draw_accuracies(right, 100 * np.asarray(accuracies), reference)
    return figure


def _draw_losses(ax: Axes, losses: np.ndarray, steps_per_epoch: int) -> None:
    window = np.ones(max(1, min(100, len(losses) // 20)))
    smooth = np.convolve(losses, window, "same") / np.convolve(np.ones_like(losses), window, "same")
    style(ax, f"Training loss: {smooth[-1]:.3g} at the end", "step", "cross entropy")
    steps = np.arange(1, len(losses) + 1)
    losses, smooth = np.maximum(losses, SMALLEST_LOSS), np.maximum(smooth, SMALLEST_LOSS)
    ax.plot(steps, losses, color=PALE, linewidth=0.7, label="each step")
    ax.plot(steps, smooth, color=ACCENT, linewidth=1.8, label=f"mean of {len(window)} steps")
    ax.set_yscale("log")
    # a single easy batch can reach 1e-6, which would squeeze everything else
    ax.set_ylim(bottom=max(losses.min(), 0.1 * smooth.min()))
    low, high = ax.get_ylim()
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("{x:g}" if high < 10 * low else NullFormatter())
    for end in range(steps_per_epoch, len(losses), steps_per_epoch):
        ax.axvline(end, color=INK, linewidth=0.6, alpha=0.25)
    ax.legend(frameon=False)


def _draw_accuracies(ax: Axes, percent: np.ndarray, reference: tuple[str, float] | None) -> None:
    if not len(percent):
        ax.set_title("Test accuracy: no epoch was finished", loc="left", color=INK, fontsize=12)
        ax.set_axis_off()
        return
    style(ax, f"Test accuracy: {percent[-1]:.2f} % at the end", "epoch", "accuracy, %")
    epochs = np.arange(1, len(percent) + 1)
    ax.plot(epochs, percent, "o-", color=ACCENT, linewidth=1.8, markersize=5)
    for epoch, value in zip(epochs, percent, strict=True) if len(percent) <= 12 else ():
        ax.annotate(f"{value:.2f}", (epoch, value), (5, -11), textcoords="offset points", fontsize=8, color=INK)
    shown = list(percent)
    ax.set_xlim(0.5, len(percent) + 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if reference:
        name, value = reference[0], 100 * reference[1]
        shown.append(value)
        ax.axhline(value, color=REFERENCE, linewidth=1.2, linestyle="--")
        ax.annotate(
            f"{name}: {value:.2f} %", (0.55, value), (0, 4), textcoords="offset points", fontsize=9, color=REFERENCE
        )
    room = max(0.2 * (max(shown) - min(shown)), 0.1)
    ax.set_ylim(min(shown) - room, min(max(shown) + room, 100 + 0.1 * room))


def filters(kernel: np.ndarray, image_shape: tuple[int, int]) -> Figure:
    """The first layer's kernel: (height, width, 1, filters) of a convolution or (pixels, units) of a dense layer."""
    if kernel.ndim == 2:
        pictures, what = kernel.T.reshape(-1, *image_shape), "units: the weight of each pixel"
    else:
        pictures, what = (
            kernel.mean(axis=2).transpose(2, 0, 1),
            f"filters, {kernel.shape[0]}×{kernel.shape[1]} pixels",
        )
    strongest = np.argsort(-np.square(pictures).sum((1, 2)), kind="stable")[:MOST_FILTERS]
    count = f"The {len(pictures)}" if len(strongest) == len(pictures) else f"{len(strongest)} of the {len(pictures)}"
    pictures = pictures[strongest]
    figure, axes = _grid(len(pictures), columns=8, width=1.05, height=1.05, margin=1.6)
    figure.suptitle(f"{count} first-layer {what}, strongest first", fontsize=13, color=INK)
    limit = float(np.abs(pictures).max()) or 1.0
    for ax, picture in zip(axes, pictures, strict=False):
        ax.imshow(picture, cmap="RdBu_r", vmin=-limit, vmax=limit)
        ax.set_visible(True)
    bar = figure.colorbar(ScalarMappable(Normalize(-limit, limit), "RdBu_r"), ax=axes, shrink=0.6, pad=0.03)
    bar.set_label("weight:  blue looks for dark,  red for bright", color=INK)
    bar.outline.set_visible(False)
    return figure


def mistakes(images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str]) -> Figure:
    """The wrong answers given with most confidence: uint8 (n, h, w) images, (n,) labels, (n, classes) probabilities."""
    predicted, confidence = probabilities.argmax(-1), probabilities.max(-1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MOST_MISTAKES]
    if not len(worst):
        figure = Figure(figsize=(6, 2), layout="constrained")
        figure.text(
            0.5,
            0.5,
            f"No mistakes on the {len(labels):,} test images",
            ha="center",
            va="center",
            fontsize=14,
            color=INK,
        )
        return figure
    # words need a line of their own, single characters do not
    gap = "\n" if max(map(len, names)) > 2 else "   "
    figure, axes = _grid(len(worst), columns=5, width=1.75, height=2.05 if gap == "\n" else 1.9)
    share = f"{len(wrong):,} mistake{'s' if len(wrong) > 1 else ''} on {len(labels):,} test images"
    shown = f"the {len(worst)} most confident" if len(wrong) > len(worst) else "most confident first"
    figure.suptitle(f"{share}: {shown}\ntrue → predicted, with its probability", fontsize=13, color=INK)
    for ax, index in zip(axes, worst, strict=False):
        ax.imshow(images[index], cmap="gray_r", vmin=0, vmax=255)
        true, answer = names[int(labels[index])], names[int(predicted[index])]
        ax.set_title(f"{true} → {answer}{gap}{confidence[index]:.1%}", fontsize=9, color=INK)
        ax.set_visible(True)
    return figure


def _grid(count: int, *, columns: int, width: float, height: float, margin: float = 0.0) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` or a few more bare axes, hidden until something is drawn in them; sizes in inches."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(max(columns * width + margin, 6), rows * height + 0.6), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for ax in axes:
        ax.set(xticks=[], yticks=[], visible=False)
        for spine in ax.spines.values():
            spine.set(color="#d1d5db", linewidth=0.6)
    return figure, axes
