"""What a network has learned: what its first layer looks for, and which images it gets wrong."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from jaxcnn._io.drawing import INK

MOST_FILTERS = 64
MOST_MISTAKES = 25


def filters(kernel: np.ndarray, image_shape: tuple[int, int]) -> Figure:
    """The first layer's kernel: (height, width, 1, filters) of a convolution or (pixels, units) of
    a dense layer."""
    if kernel.ndim == 2:
        pictures, what = kernel.T.reshape(-1, *image_shape), "units: the weight of each pixel"
    else:
        pictures, what = (
            kernel.mean(axis=2).transpose(2, 0, 1),
            f"filters, {kernel.shape[0]}×{kernel.shape[1]} pixels",
        )
    strongest = np.argsort(-np.square(pictures).sum((1, 2)), kind="stable")[:MOST_FILTERS]
    count = (
        f"The {len(pictures)}"
        if len(strongest) == len(pictures)
        else f"{len(strongest)} of the {len(pictures)}"
    )
    pictures = pictures[strongest]
    figure, axes = _grid(len(pictures), columns=8, width=1.05, height=1.05, margin=1.6)
    figure.suptitle(f"{count} first-layer {what}, strongest first", fontsize=13, color=INK)
    limit = float(np.abs(pictures).max()) or 1.0
    for ax, picture in zip(axes, pictures, strict=False):
        ax.imshow(picture, cmap="RdBu_r", vmin=-limit, vmax=limit)
        ax.set_visible(True)
    bar = figure.colorbar(
        ScalarMappable(Normalize(-limit, limit), "RdBu_r"), ax=axes, shrink=0.6, pad=0.03
    )
    bar.set_label("weight:  blue looks for dark,  red for bright", color=INK)
    bar.outline.set_visible(False)
    return figure


def mistakes(
    images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str]
) -> Figure:
    """The wrong answers given with most confidence: uint8 (n, h, w) images, (n,) labels, (n,
    classes) probabilities."""
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
    shown = (
        f"the {len(worst)} most confident" if len(wrong) > len(worst) else "most confident first"
    )
    figure.suptitle(
        f"{share}: {shown}\ntrue → predicted, with its probability", fontsize=13, color=INK
    )
    for ax, index in zip(axes, worst, strict=False):
        ax.imshow(images[index], cmap="gray_r", vmin=0, vmax=255)
        true, answer = names[int(labels[index])], names[int(predicted[index])]
        ax.set_title(f"{true} → {answer}{gap}{confidence[index]:.1%}", fontsize=9, color=INK)
        ax.set_visible(True)
    return figure


def _grid(
    count: int, *, columns: int, width: float, height: float, margin: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` or a few more bare axes, hidden until something is drawn in them; sizes
    in inches."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    figure = Figure(
        figsize=(max(columns * width + margin, 6), rows * height + 0.6), layout="constrained"
    )
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for ax in axes:
        ax.set(xticks=[], yticks=[], visible=False)
        for spine in ax.spines.values():
            spine.set(color="#d1d5db", linewidth=0.6)
    return figure, axes
