"""What :func:`jaxcnn.train.fit` reports, as a log of JSON objects, one a line.

    {"step": 50, "steps": 4680, "epoch": 0.107, "loss": 1.38, "losses": […], "seconds": 3.1,
     "images_per_second": 4210.0, "scores": {"accuracy": 0.87}, "norms": {"delta": {…}, …}}

>>> import pathlib, tempfile, numpy as np
>>> from jaxcnn._io.lines import read_lines
>>> from jaxcnn.train._fit import Report
>>> with tempfile.TemporaryDirectory() as folder:
...     path = pathlib.Path(folder) / "metrics.jsonl"
...     with JsonLines(path) as log:
...         log(Report(2, 9, 1.0, np.array([0.75, 0.25]), {"accuracy": 0.5}))
...     line = read_lines(path)[0]
>>> line["step"], line["loss"], line["losses"], line["scores"]
(2, 0.5, [0.75, 0.25], {'accuracy': 0.5})
"""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn._core.errors import check_counts
from jaxcnn._io.lines import Log
from jaxcnn.train._fit import Report
from jaxcnn.train._watch import KINDS, Norms


def _number(value: Any) -> bool:
    return value is None or type(value) in (int, float)


def _row(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_number, value.values()))


def _rows(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {*KINDS} and all(map(_row, value.values()))


FORMS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "losses": (
        lambda value: isinstance(value, list) and all(map(_number, value)),
        "a list of numbers",
    ),
    "seconds": (lambda value: value is not None and _number(value), "a number"),
    "scores": (_row, "numbers by name"),
    "each": (
        lambda value: isinstance(value, list) and all(map(_row, value)),
        "a list of numbers by name",
    ),
    "norms": (_rows, f"numbers by name, for each of {', '.join(KINDS)}"),
}


def check_line(line: Mapping[str, Any]) -> None:
    """ValueError for a line that no report made."""
    for name, (holds, wanted) in FORMS.items():
        if name in line and not holds(line[name]):
            raise ValueError(f"`{name}` is not {wanted}")


class JsonLines(Log):
    """A callback that writes a line for every report, and is a :class:`jaxcnn._io.lines.Log` for
    whatever else is to be kept.

    Args:
        resume_at: the step from which a run goes on. Lines of later steps, and a last line that is
            only half there, are dropped; "seconds" go on from the last line kept.
        batch_size: for "images_per_second", counted from report to report with all that the run
            does in between, in the first also compiling.
        norms: what it measured for this report's step is written, too; give it to the run before
            the log.

    Raises ValueError for a setting out of range, or a file that is no such log.
    """

    form = staticmethod(check_line)

    def __init__(
        self,
        path: str | Path,
        *,
        resume_at: int | None = None,
        batch_size: int | None = None,
        norms: Norms | None = None,
    ) -> None:
        if batch_size is not None:
            check_counts("JsonLines", batch_size=batch_size)
        super().__init__(path, resume_at=resume_at)
        self._batch_size, self._norms, self._at = batch_size, norms, time.perf_counter()
        self._seconds = self.kept[-1].get("seconds", 0.0) if self.kept else 0.0

    def __call__(self, report: Report, state: Any = None) -> None:
        """Write a line."""
        passed, self._at = time.perf_counter() - self._at, time.perf_counter()
        self._seconds += passed
        line = as_line(report) | {"seconds": round(self._seconds, 3)}
        if self._batch_size is not None:
            line["images_per_second"] = round(len(report.losses) * self._batch_size / passed, 1)
        if self._norms is not None and report.step in self._norms.rows:
            line["norms"] = {
                k: {n: _short(v) for n, v in row.items()}
                for k, row in self._norms.rows[report.step].items()
            }
        self.write(**line)


def missing(lines: Iterable[Mapping[str, Any]], at: int) -> np.ndarray:
    """The steps up to ``at``, counted from 1, whose losses no line has.

    >>> lines = [{"step": 2, "losses": [0.5, 0.5]}, {"step": 9}, {"step": 4, "losses": [0.5]}]
    >>> missing(lines, at=5)
    array([3, 5])

    Raises ValueError for lines that are no log of steps, each once and in their order.
    """
    known, last = np.zeros(at, bool), 0
    for line in lines:
        if "losses" in line:
            step, losses = line.get("step"), line["losses"]
            if (
                type(step) is not int
                or not isinstance(losses, list)
                or not losses
                or step - len(losses) < last
            ):
                raise ValueError(f"the line after step {last} is not of the steps that follow")
            known[step - len(losses) : step], last = True, step
    return np.flatnonzero(~known) + 1


def as_line(report: Report) -> dict[str, Any]:
    """What is in a report, as JSON: "scores" only where there are some, and "each", a list, where
    they are means over several runs."""
    line = {
        "step": report.step,
        "steps": report.steps,
        "epoch": report.epoch,
        "loss": _short(report.loss),
        "losses": [_short(loss) for loss in report.losses],
    }
    if report.scores is not None:
        line["scores"] = dict(report.scores)
        line |= (
            {} if report.each is None else {"each": [dict(own.scores or {}) for own in report.each]}
        )
    return line


def _short(value: Any) -> float:
    """The float that has the fewest digits of all that are the same float32."""
    return float(str(np.float32(value)))
