"""Filters, maps, patches, made images, evidence and the sanity check."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxcnn._io.drawing import ACCENT, REFERENCE, style

MOST_MAPS = 16


def filters(kernel: np.ndarray) -> Figure:
    """The kernels (k, k, 1, o) of the first layer, all on one scale."""
    count = kernel.shape[-1]
    figure = Figure(figsize=(8, math.ceil(count / 8) + 0.6), layout="constrained")
    bound = float(np.abs(kernel).max())
    axes = np.ravel(figure.subplots(math.ceil(count / 8), 8, squeeze=False))
    for ax in axes:
        ax.set_axis_off()
    for ax, number in zip(axes, range(count), strict=False):
        ax.imshow(kernel[:, :, 0, number], cmap="RdBu_r", vmin=-bound, vmax=bound)
    figure.suptitle(
        f"The {count} filters of the first layer (red: positive, blue: negative)", x=0.01, ha="left"
    )
    return figure


def maps(layers: Mapping[str, np.ndarray]) -> Figure:
    """A row a layer: the first channels of its output for one image."""
    figure = Figure(figsize=(MOST_MAPS * 0.75 + 1, 0.85 * len(layers) + 0.4), layout="constrained")
    grid = figure.subplots(len(layers), MOST_MAPS, squeeze=False)
    for row, (name, y) in zip(grid, layers.items(), strict=True):
        bound = float(np.abs(y).max()) or 1.0
        for ax, number in zip(row, range(MOST_MAPS), strict=True):
            ax.set_axis_off()
            if number < y.shape[-1]:
                ax.imshow(y[..., number], cmap="RdBu_r", vmin=-bound, vmax=bound)
        row[0].text(
            -0.25,
            0.5,
            f"{name}\n{y.shape[0]}×{y.shape[1]}×{y.shape[2]}",
            transform=row[0].transAxes,
            ha="right",
            va="center",
            fontsize=8,
        )
    figure.suptitle(
        f"One image on its way through the network: the first {MOST_MAPS} channels of each layer",
        x=0.01,
        ha="left",
    )
    return figure


def patches(found: Mapping[tuple[str, int], Sequence[np.ndarray]]) -> Figure:
    """A row a channel: the pieces of real images that excite it most."""
    width = max(map(len, found.values()))
    figure = Figure(figsize=(0.8 * width + 1, 0.8 * len(found) + 0.5), layout="constrained")
    for row, ((layer, channel), pieces) in zip(
        figure.subplots(len(found), width, squeeze=False), found.items(), strict=True
    ):
        for ax in row:
            ax.set_axis_off()
        for ax, piece in zip(row, pieces, strict=False):
            ax.imshow(piece, cmap="gray")
        row[0].text(
            -0.15,
            0.5,
            f"{layer}\nchannel {channel}",
            transform=row[0].transAxes,
            ha="right",
            va="center",
            fontsize=8,
        )
    figure.suptitle(
        "The pieces of test images that excite a channel most, strongest first", x=0.01, ha="left"
    )
    return figure


def made(images: Mapping[str, Sequence[np.ndarray]]) -> Figure:
    """A row a layer: images climbed to from noise."""
    width = max(map(len, images.values()))
    figure = Figure(figsize=(1.1 * width + 0.8, 1.3 * len(images) + 0.5), layout="constrained")
    for row, (layer, found) in zip(
        figure.subplots(len(images), width, squeeze=False), images.items(), strict=True
    ):
        for ax in row:
            ax.set_axis_off()
        for number, (ax, image) in enumerate(zip(row, found, strict=False)):
            ax.imshow(image, cmap="gray")
            ax.set_title(f"{'class' if layer == 'dense2' else 'channel'} {number}", fontsize=8)
        row[0].text(
            -0.15, 0.5, layer, transform=row[0].transAxes, ha="right", va="center", fontsize=9
        )
    figure.suptitle(
        "Images made to excite a channel, by climbing its gradient from noise", x=0.01, ha="left"
    )
    return figure


def evidence(images: np.ndarray, found: Mapping[str, np.ndarray], classes: np.ndarray) -> Figure:
    """A row an image, a column a way of saying where the score of its class comes from."""
    figure = Figure(figsize=(1.7 * (len(found) + 1), 1.7 * len(images) + 0.4), layout="constrained")
    for n, row in enumerate(figure.subplots(len(images), len(found) + 1, squeeze=False)):
        shown = [
            ("image", images[n], "gray"),
            *((name, np.maximum(values[n], 0), "magma") for name, values in found.items()),
        ]
        for ax, (name, pixels, colours) in zip(row, shown, strict=True):
            ax.imshow(pixels, cmap=colours)
            ax.set_axis_off()
            if n == 0:
                ax.set_title(name, fontsize=10)
        row[0].text(
            -0.08,
            0.5,
            f"class {classes[n]}",
            transform=row[0].transAxes,
            ha="right",
            va="center",
            fontsize=9,
        )
    return figure


def sanity(table: Mapping[str, Mapping[str, float]]) -> Figure:
    """How much of each map is left when the weights are drawn anew, layer by layer from the top."""
    figure = Figure(figsize=(8.5, 4.4), layout="constrained")
    ax: Axes = figure.subplots()
    stages = list(next(iter(table.values())))
    style(
        ax,
        "What is left of a map when the weights are randomised from the top down",
        "randomised down to",
        "rank correlation with the trained network's map",
    )
    for (name, row), colour in zip(
        table.items(), (ACCENT, REFERENCE, "#7c3aed", "#15803d", "#64748b"), strict=True
    ):
        ax.plot(
            range(len(stages) + 1),
            [1.0, *row.values()],
            "o-",
            color=colour,
            linewidth=1.8,
            label=name,
        )
    ax.set_xticks(range(len(stages) + 1), ["nothing", *stages])
    ax.axhline(0, color="black", linewidth=0.8, linestyle=":")
    ax.legend(frameon=False)
    return figure
