"""Pictures of a run: how it learned, and how large δ, gradients and weights were, layer by layer.
Needs matplotlib, of the extra ``jaxcnn[train]``.

>>> import pathlib, tempfile, numpy as np
>>> from jaxcnn._io.drawing import save
>>> from jaxcnn.train._watch import Table
>>> norms = np.array([[1e-3, 1.0], [1e-4, 0.5], [1e-4, 0.1]])
>>> table = Table(np.array([1, 10, 20]), ["conv", "dense"], norms)
>>> with tempfile.TemporaryDirectory() as folder:
...     save(heat_map(table, "‖δ‖"), pathlib.Path(folder) / "deltas.png")
...     curves = learning_curves([2.0, 1.0], {2: {"accuracy": 0.5}})
...     save(curves, pathlib.Path(folder) / "curves.png")
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxcnn._io.drawing import ACCENT, INK, LONGEST, PALE, REFERENCE, as_text, plain_ticks, style
from jaxcnn._io.outside import printable
from jaxcnn.train._watch import Table

try:
    from matplotlib import colormaps
    from matplotlib.axes import Axes
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator, NullFormatter
except ImportError as error:
    raise ImportError("pictures are drawn by matplotlib: pip install 'jaxcnn[train]'") from error

SMALLEST_LOSS = 1e-8  # a loss of exactly 0 has no place on a logarithmic axis
MOST_LABELS, MOST_LINES = 60, 12
ZERO, NOT_FINITE = "#ffffff", REFERENCE  # neither is a colour of the map


def heat_map(table: Table, title: str, *, label: str = "norm") -> Figure:
    """Norms by layer (the first at the bottom) and step, in logarithmic colours. What is exactly 0
    is white, what was not finite red.

    Raises ValueError where nothing was measured.
    """
    steps, names, values = table
    if not values.size:
        raise ValueError("heat_map: `table` needs at least one step and one name; measure first")
    figure = Figure(
        figsize=(11, 1.6 + 0.22 * min(max(len(names), 12), MOST_LABELS)), layout="constrained"
    )
    ax = figure.subplots()
    style(ax, title, "step")
    ax.grid(visible=False)
    positive = values[np.isfinite(values) & (values > 0)]
    low, high = (positive.min(), positive.max()) if positive.size else (0.1, 1.0)
    # a map of one colour needs a scale, too; what lies under it is 0
    low, high = (low / 2, high * 2) if high < 4 * low else (low, high)
    colours = colormaps["viridis"].with_extremes(under=ZERO, bad=NOT_FINITE)
    shown = np.ma.masked_invalid(np.where(values == 0, low / 10, values)).T
    places = np.arange(len(names) + 1) - 0.5
    drawn = ax.pcolormesh(
        _edges(steps), places, shown, cmap=colours, norm=LogNorm(low, high), rasterized=True
    )
    every = -(-len(names) // MOST_LABELS)
    ax.set_yticks(
        np.arange(0, len(names), every),
        [printable(name, LONGEST) for name in names[::every]],
        fontsize=8,
        color=INK,
    )
    ax.tick_params(axis="y", length=0)
    ax.spines[:].set_visible(False)
    bar = figure.colorbar(drawn, ax=ax, pad=0.015, fraction=0.04)
    bar.set_label(label, color=INK)
    bar.outline.set_visible(False)
    if high < 1000 * low:
        plain_ticks(bar.ax.yaxis)
    marks = [
        (ZERO, "exactly 0", (values == 0).any()),
        (NOT_FINITE, "not finite", not np.isfinite(values).all()),
    ]
    patches = [
        Patch(facecolor=colour, edgecolor=INK, linewidth=0.6, label=what)
        for colour, what, there in marks
        if there
    ]
    if patches:
        figure.legend(
            handles=patches, loc="outside lower right", ncols=2, frameon=False, fontsize=9
        )
    return as_text(figure)


def _edges(steps: np.ndarray) -> np.ndarray:
    """Where the columns of a map begin and end: halfway between two steps; the outermost at their
    own, as nothing was before or after them."""
    if len(steps) == 1:
        return np.array([steps[0] - 0.5, steps[0] + 0.5])
    return np.concatenate([steps[:1], (steps[1:] + steps[:-1]) / 2, steps[-1:]])


def learning_curves(
    losses: Sequence[float] | np.ndarray,
    scores: Mapping[int, Mapping[str, float]],
    *,
    per_epoch: int | None = None,
    reference: Mapping[str, tuple[str, float]] | None = None,
    loss: str = "cross entropy",
    watched: str = "test",
) -> Figure:
    """The training loss of every step, and its mean over some; beside it every score of the test
    or validation set.

    Args:
        losses: of the steps from the first on; NaN where one is not known.
        scores: {step: {name: score}}; accuracies are shown in percent.
        per_epoch: steps of an epoch, for lines between them, and for the scores' axis.
        reference: {name of a score: (whose, score)}, for a line to compare with.
        loss: what the loss is called.
        watched: what set the scores are of.

    Raises ValueError where there are no losses.
    """
    values = np.asarray(losses, float)
    values = np.where(np.isfinite(values), values, np.nan)
    if np.isnan(values).all():
        raise ValueError(
            f"learning_curves: `losses` needs at least one number; got {len(values)}, none of them"
            " finite"
        )
    names = list(dict.fromkeys(name for row in scores.values() for name in row))
    figure = Figure(figsize=(5.5 * (1 + max(len(names), 1)), 4.4), layout="constrained")
    left, *others = figure.subplots(1, 1 + max(len(names), 1))
    _draw_losses(left, values, per_epoch, loss)
    for ax, name in zip(others, names, strict=False):
        found = {
            step / (per_epoch or 1): row[name]
            for step, row in sorted(scores.items())
            if name in row
        }
        title, x = f"{watched.capitalize()} {name}", "epoch" if per_epoch else "step"
        _draw_score(ax, name, title, found, x, (reference or {}).get(name))
    if not names:
        others[0].set_title("The test set was not looked at", loc="left", color=INK, fontsize=12)
        others[0].set_axis_off()
    return as_text(figure)


def history(lines: Iterable[Mapping[str, Any]]) -> tuple[np.ndarray, dict[int, dict[str, float]]]:
    """Losses and scores for :func:`learning_curves`, from the lines of a log
    (:class:`jaxcnn.train._logs.JsonLines`), in which NaN is None.

    >>> losses, scores = history([{"step": 3, "losses": [0.5, None], "scores": {"accuracy": 0.75}}])
    >>> losses, scores
    (array([nan, 0.5, nan]), {3: {'accuracy': 0.75}})
    """
    lines = [line for line in lines if "losses" in line]
    losses = np.full(max((line["step"] for line in lines), default=0), np.nan)
    for line in lines:
        losses[line["step"] - len(line["losses"]) : line["step"]] = line["losses"]
    scores = {line["step"]: line["scores"] for line in lines if "scores" in line}
    return losses, {
        step: {name: np.nan if score is None else score for name, score in row.items()}
        for step, row in scores.items()
    }


def _draw_losses(ax: Axes, losses: np.ndarray, per_epoch: int | None, name: str) -> None:
    width = max(1, min(100, len(losses) // 20))
    known = np.isfinite(losses)
    counts = np.convolve(known, np.ones(width), "same")
    sums = np.convolve(np.where(known, losses, 0), np.ones(width), "same")
    smooth = np.where(counts > 0.5, sums / np.maximum(counts, 1), np.nan)
    style(ax, f"Training loss: {smooth[np.isfinite(smooth)][-1]:.3g} at the end", "step", name)
    steps = np.arange(1, len(losses) + 1)
    losses, smooth = np.maximum(losses, SMALLEST_LOSS), np.maximum(smooth, SMALLEST_LOSS)
    ax.plot(steps, losses, color=PALE, linewidth=0.7, label="each step")
    ax.plot(
        steps,
        smooth,
        color=ACCENT,
        linewidth=1.8,
        label=f"mean of {width} steps" if width > 1 else None,
    )
    ax.set_yscale("log")
    # a single easy batch can reach 1e-6, which would squeeze everything else
    ax.set_ylim(bottom=max(np.nanmin(losses), 0.1 * np.nanmin(smooth)))
    low, high = ax.get_ylim()
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("{x:g}" if high < 10 * low else NullFormatter())
    if 10 * low <= high < 1000 * low:
        plain_ticks(ax.yaxis)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if per_epoch:
        # a line for every epoch, or for every few
        apart = per_epoch * -(-len(losses) // (MOST_LINES * per_epoch))
        for end in range(apart, len(losses), apart):
            ax.axvline(end, color=INK, linewidth=0.6, alpha=0.25)
    ax.legend(frameon=False)


def _draw_score(
    ax: Axes,
    name: str,
    title: str,
    scores: Mapping[float, float],
    x: str,
    reference: tuple[str, float] | None,
) -> None:
    percent = name.endswith("accuracy")
    at, values = np.array(list(scores)), (100 if percent else 1) * np.array(list(scores.values()))
    unit, digits = (" %", ".2f") if percent else ("", ".4g")
    style(
        ax,
        f"{title}: {values[-1]:{digits}}{unit} at the end",
        x,
        f"{name}, %" if percent else name,
    )
    ax.plot(at, values, "o-", color=ACCENT, linewidth=1.8, markersize=5)
    for place, value, after in (
        zip(at, values, [*values[1:], values[-1]], strict=True) if len(at) <= 12 else ()
    ):
        where = (5, 4) if after < value else (5, -11)  # beside the line, not on it
        ax.annotate(
            f"{value:{digits}}",
            (place, value),
            where,
            textcoords="offset points",
            fontsize=8,
            color=INK,
        )
    margin = 0.5 * (at[-1] - at[0]) / max(len(at) - 1, 1) or 0.5
    ax.set_xlim(at[0] - margin, at[-1] + margin)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    shown = list(values[np.isfinite(values)]) or [0.0]
    if reference:
        whose, value = reference[0], (100 if percent else 1) * reference[1]
        shown.append(value)
        ax.axhline(value, color=REFERENCE, linewidth=1.2, linestyle="--")
        ax.annotate(
            f"{whose}: {value:{digits}}{unit}",
            (at[0] - 0.9 * margin, value),
            (0, 4),
            textcoords="offset points",
            fontsize=9,
            color=REFERENCE,
        )
    room = max(0.2 * (max(shown) - min(shown)), 0.1 if percent else 1e-3 * abs(max(shown)) or 0.1)
    top = max(shown) + room
    ax.set_ylim(min(shown) - room, min(top, 100 + 0.1 * room) if percent else top)
