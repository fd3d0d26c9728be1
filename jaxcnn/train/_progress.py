"""A progress bar for a run, drawn by rich. Needs the extra ``jaxcnn[train]``.

>>> import io, numpy as np
>>> from rich.console import Console
>>> from jaxcnn.train._fit import Report
>>> lines = io.StringIO()
>>> with Progress(4, batch_size=2, console=Console(file=lines)) as progress:
...     progress(Report(2, 4, 1.0, np.array([0.75, 0.25]), {"accuracy": 0.5}))
>>> lines.getvalue()
'step 2/4  epoch 1  loss 0.5000  accuracy 0.5000\\n'
"""

import math
import time
from collections.abc import Callable
from typing import Any

from jaxcnn._core.errors import check_counts, setting_error
from jaxcnn._io.outside import printable, printable_lines
from jaxcnn.train._fit import Report

try:
    from rich import progress as bars
    from rich.console import Console
    from rich.text import Text
except ImportError as error:
    raise ImportError("progress bars are drawn by rich: pip install 'jaxcnn[train]'") from error

REFRESH = 2  # times a second; each costs milliseconds that the training does not get


class Plain(Console):
    """A console to which text is only text: no markup, no codes of emoji, nothing that a terminal
    would obey.

    >>> import io
    >>> lines = io.StringIO()
    >>> Plain(file=lines, width=80).print("[red]:cat:[/] [/x] \\x1b[2J")
    >>> lines.getvalue()
    '[red]:cat:[/] [/x] \\\\x1b[2J\\n'
    """

    def render_str(self, text: str, **settings: Any) -> Text:
        """As the base class has it, of what is printable_lines."""
        return super().render_str(
            printable_lines(text),
            **{**settings, "markup": False, "emoji": False, "highlight": False},
        )


class Progress:
    """A callback of :func:`jaxcnn.train.fit`, and a context manager: steps, loss, the last scores,
    images a second, their share of the peak, and the time that is left.

    On a terminal a bar moves; elsewhere there is one line for every look at the test set. Images a
    second count from report to report, but for those with a look at the test set (if there are
    others), and the first, in which the program is compiled.

    Args:
        steps: how many steps the run ends at.
        flops_per_step, peak: for the share; see :mod:`jaxcnn.train._speed`.
        console: rich's; stderr, if not given.
        clock: seconds that pass.

    Raises ValueError for a setting out of range, or one of ``flops_per_step`` and ``peak`` without
    the other."""

    def __init__(
        self,
        steps: int,
        batch_size: int,
        flops_per_step: float | None = None,
        peak: float | None = None,
        *,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_counts("Progress", steps=steps, batch_size=batch_size)
        for name, value in (("flops_per_step", flops_per_step), ("peak", peak)):
            if value is not None and not 0 < value < math.inf:
                raise setting_error("Progress", name, "None or a number > 0", value)
        if (flops_per_step is None) != (peak is None):
            raise ValueError(
                f"Progress: give both `flops_per_step` and `peak`, or neither; got {flops_per_step}"
                f" and {peak}"
            )
        self._batch_size, self._share = (
            batch_size,
            flops_per_step / peak if flops_per_step and peak else None,
        )
        self._console = Plain(stderr=True) if console is None else console
        columns = (
            bars.BarColumn(bar_width=16),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.description}", markup=False),
            bars.TimeRemainingColumn(),
            bars.TextColumn("left"),
        )
        self._bars = bars.Progress(
            *columns,
            console=self._console,
            disable=not self._console.is_terminal,
            get_time=clock,
            refresh_per_second=REFRESH,
        )
        self._task = self._bars.add_task("compiling …", total=steps)
        self._clock, self._at, self._rate, self._without_looks, self._scores = (
            clock,
            -math.inf,
            0.0,
            False,
            {},
        )

    def __call__(self, report: Report, state: Any = None) -> None:
        """Show where the run is."""
        now = self._clock()
        passed, self._at = now - self._at, now
        if passed == math.inf:  # the first report; what is left is reckoned from here
            self._bars.reset(self._task, completed=report.step)
        elif passed > 0 and (report.scores is None or not self._without_looks):
            self._rate, self._without_looks = len(report.losses) / passed, report.scores is None
        self._scores = self._scores if report.scores is None else report.scores
        told = printable("  ".join(self._told(report)))
        self._bars.update(self._task, completed=report.step, description=told)
        if report.scores is not None and not self._console.is_terminal:
            self._console.print(
                f"step {report.step}/{report.steps}  {told}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

    def _told(self, report: Report) -> list[str]:
        parts = [] if math.isnan(report.epoch) else [f"epoch {report.epoch:.3g}"]
        parts += [
            f"loss {report.loss:.4f}",
            *(f"{name} {score:.4f}" for name, score in self._scores.items()),
        ]
        if self._rate:
            parts.append(f"{self._rate * self._batch_size:,.0f} images/s")
            parts += [f"{self._rate * self._share:.1%} of peak"] if self._share else []
        return parts

    def __enter__(self) -> "Progress":
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()
