"""What was measured, as a picture: bars for steps (the shorter, the faster), dots for single ops
(the further left, the faster)."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.bench.results import Outcome
from experiments.bench.tables import milliseconds
from jaxcnn._io.drawing import ACCENT, INK, PALE, REFERENCE, style

LINE, HEAD = 0.34, 0.75  # inches
DOTS = {
    "jaxcnn": ("o", ACCENT),
    "autodiff": ("D", "#8ea3c7"),
    "torch": ("s", REFERENCE),
    "torch.channels_last": ("^", "#e2a27f"),
}


def draw(outcomes: Sequence[Outcome], about: str) -> Figure | None:
    """A panel of bars for each contest, one of dots for all ops together; None where nothing was
    measured."""
    shown = [outcome for outcome in outcomes if any(row.seconds for row in outcome.rows)]
    barred = [outcome for outcome in shown if outcome.section != "ops"]
    dotted = [outcome for outcome in shown if outcome.section == "ops"]
    lines = [sum(bool(row.seconds) for row in outcome.rows) for outcome in barred] + [
        len(dotted)
    ] * bool(dotted)
    if not lines:
        return None
    figure = Figure(figsize=(9, LINE * sum(lines) + HEAD * len(lines) + 0.6), layout="constrained")
    panels = list(
        figure.subplots(len(lines), 1, squeeze=False, height_ratios=[n + 1 for n in lines]).ravel()
    )
    for ax, outcome in zip(panels, barred, strict=False):
        _bars(ax, outcome)
    if dotted:
        _dots(panels[-1], dotted)
    figure.supxlabel(f"whiskers: quartiles of the turns.  {about}", fontsize=8, color=INK)
    return figure


def _bars(ax: Axes, outcome: Outcome) -> None:
    rows = [row for row in outcome.rows if row.seconds]
    quartiles = [[1e3 * seconds for seconds in row.quartiles] for row in rows]
    medians = [median for _, median, _ in quartiles]
    whiskers = [
        [median - low for low, median, _ in quartiles],
        [high - median for _, median, high in quartiles],
    ]
    colours = [ACCENT if row.peer == "jaxcnn" else PALE for row in rows]
    ax.barh(
        range(len(rows)),
        medians,
        xerr=whiskers,
        color=colours,
        height=0.7,
        ecolor=INK,
        error_kw={"linewidth": 0.8},
    )
    for position, (row, (*_, high)) in enumerate(zip(rows, quartiles, strict=True)):
        ax.annotate(
            milliseconds(row.median),
            (high, position),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=INK,
        )
    ax.set_xlim(0, 1.12 * max(high for *_, high in quartiles))
    _style(ax, f"{outcome.title}: ms", [row.label for row in rows])


def _dots(ax: Axes, outcomes: Sequence[Outcome]) -> None:
    for peer, (marker, colour) in DOTS.items():
        # NaN is not drawn
        times = {number: 1e3 * outcome.best(peer) for number, outcome in enumerate(outcomes)}
        ax.plot(list(times.values()), list(times), marker, color=colour, markersize=6, label=peer)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.legend(
        frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1.02), ncols=len(DOTS)
    )
    _style(ax, "", [outcome.title for outcome in outcomes])
    ax.set_title("ops: ms", loc="right", color=INK)
    ax.grid(axis="y", alpha=0.15, linewidth=0.6)


def _style(ax: Axes, title: str, labels: Sequence[str]) -> None:
    style(ax, title, grid="x")
    ax.set_yticks(range(len(labels)), labels, color=INK, fontsize=9)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", labelsize=8, colors=INK)
    ax.spines["left"].set_visible(False)
