"""How all pictures look, and how they are saved. Needs matplotlib, of the extra ``jaxcnn[train]``.

>>> import pathlib, tempfile
>>> from matplotlib.figure import Figure
>>> figure = Figure()
>>> style(figure.subplots(), "A title", "step", "loss")
>>> with tempfile.TemporaryDirectory() as folder:
...     save(figure, pathlib.Path(folder) / "a.png")
...     (pathlib.Path(folder) / "a.png").read_bytes()[:4]
b'\\x89PNG'
"""

import io
import warnings
from pathlib import Path
from typing import Literal

from jaxcnn._io.files import write_file
from jaxcnn._io.outside import printable

try:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.text import Text
    from matplotlib.ticker import LogFormatter, LogLocator, NullLocator, ScalarFormatter
except ImportError as error:
    raise ImportError("pictures are drawn by matplotlib: pip install 'jaxcnn[train]'") from error

NUMBERS = ScalarFormatter, LogFormatter  # which write 10³ as mathematics
LONGEST = 100  # characters of a line of text
INK, PALE, ACCENT, REFERENCE = "#1f2937", "#b9c6de", "#2455a4", "#c2410c"


def style(
    ax: Axes, title: str, x: str = "", y: str = "", *, grid: Literal["both", "x", "y"] = "both"
) -> None:
    """A title on the left, labels, a faint grid behind what is drawn, no box."""
    ax.set_title(title, loc="left", color=INK, fontsize=12)
    ax.set_xlabel(x, color=INK)
    ax.set_ylabel(y, color=INK)
    ax.grid(axis=grid, alpha=0.25, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def plain_ticks(axis: Axis) -> None:
    """A logarithmic axis with its numbers written out: 1, 2, 5, 10, 20 …"""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")


def as_text(figure: Figure) -> Figure:
    """The same figure, in which names are shown as they are: a name from outside with two dollars
    in it is no mathematics, which matplotlib may fail to read."""
    axes = [axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)]
    numbers = {
        id(tick)
        for axis in axes
        if isinstance(axis.get_major_formatter(), NUMBERS)
        for tick in axis.get_ticklabels(which="both")
    }
    for text in figure.findobj(Text):
        if isinstance(text, Text) and id(text) not in numbers:
            text.set_parse_math(False)
            shown = "\n".join(printable(line, LONGEST) for line in text.get_text().split("\n"))
            if shown != text.get_text():
                text.set_text(shown)
    return figure


def save(figure: Figure, path: Path) -> None:
    """As a PNG. No pyplot and no window: a bare Figure draws itself with Agg."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        # of a name in an alphabet that the font lacks
        warnings.filterwarnings("ignore", "Glyph .* missing")
        as_text(figure).savefig(content, format="png", dpi=130, facecolor="white")
    write_file(path, content.getvalue())
