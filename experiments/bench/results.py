"""What was measured, and the files that it is kept in: ``bench.jsonl`` turn by turn, ``bench.json`` as a whole."""

import contextlib
import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from experiments.mnist.outputs import write_json

RESULT, TURNS, PICTURE = "bench.json", "bench.jsonl", "bench.png"


@dataclasses.dataclass
class Row:
    """One contestant. ``seconds`` has the median step of each turn so far, ``others`` the share of the CPUs that other processes had meanwhile;
    ``note`` says why there is none, or none any more.
    """

    peer: str
    label: str
    beside: str = ""  # the label of the row of the same peer that this one is measured against
    seconds: list[float] = dataclasses.field(default_factory=list)
    others: list[float] = dataclasses.field(default_factory=list)
    value_error: float | None = None
    gradient_error: float | None = None
    gradient_allowed: float | None = None
    facts: dict[str, float] = dataclasses.field(default_factory=dict)
    note: str = ""

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """Of the turns' medians: lower quartile, median, upper quartile; NaN before the first turn."""
        if not self.seconds:
            return math.nan, math.nan, math.nan
        low, median, high = np.quantile(self.seconds, (0.25, 0.5, 0.75)).tolist()
        return low, median, high

    @property
    def median(self) -> float:
        """Seconds a step."""
        return self.quartiles[1]


@dataclasses.dataclass
class Outcome:
    """A contest so far. ``flops`` (of a step) and ``images`` (a step) are 0 where they mean nothing; ``peak`` is in flops a second."""

    section: str
    title: str
    rows: list[Row]
    flops: int = 0
    images: int = 0
    peak: float | None = None

    def best(self, *peers: str) -> float:
        """The least median of the rows of these peers; NaN where there is none."""
        return min((row.median for row in self.rows if row.peer in peers and row.seconds), default=math.nan)

    @property
    def disturbance(self) -> float:
        """The share of the CPUs that others had, in the mean of all turns."""
        shares = [share for row in self.rows for share in row.others]
        return sum(shares) / len(shares) if shares else 0.0

    def beside(self, row: Row) -> float:
        """The median of the row that ``row`` is measured against; NaN where there is none."""
        found = (r.median for r in self.rows if (r.peer, r.label) == (row.peer, row.beside))
        return next(found, math.nan)


def result(outcomes: list[Outcome], about: dict[str, Any], *, interrupted: bool) -> dict[str, Any]:
    """The whole run as JSON has it."""
    return {**about, "interrupted": interrupted, "results": [_outcome(outcome) for outcome in outcomes]}


def _outcome(outcome: Outcome) -> dict[str, Any]:
    fields = dataclasses.asdict(outcome)
    for row, plain in zip(outcome.rows, fields["rows"], strict=True):
        names = "lower_quartile", "median", "upper_quartile"
        plain |= dict(zip(names, row.quartiles if row.seconds else (None,) * 3, strict=True))
    return fields


def write_result(folder: Path, outcomes: list[Outcome], about: dict[str, Any], *, interrupted: bool) -> None:
    """``bench.json``, at once and whole."""
    write_json(folder / RESULT, result(outcomes, about, interrupted=interrupted))


def clear_folder(folder: Path) -> None:
    """Remove what an earlier run wrote there."""
    for name in (RESULT, TURNS, PICTURE):
        (folder / name).unlink(missing_ok=True)


class TurnsLog:
    """One JSON object a turn, each flushed as soon as it is known."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, **fields: Any) -> None:
        self._stream.write(json.dumps(fields, ensure_ascii=False, allow_nan=False) + "\n")
        self._stream.flush()


@contextlib.contextmanager
def turns_log(folder: Path) -> Iterator[TurnsLog]:
    """The log of a run, from empty."""
    with (folder / TURNS).open("w", encoding="utf-8") as stream:
        yield TurnsLog(stream)
