"""What was measured, and the files that it is kept in: ``bench.jsonl`` turn by turn, ``bench.json``
as a whole."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn._io.files import write_json

RESULT, TURNS, PICTURE = "bench.json", "bench.jsonl", "bench.png"
FILES = RESULT, TURNS, PICTURE


@dataclasses.dataclass
class Row:
    """One contestant. ``seconds`` has the median step of each turn so far, ``others`` the share of
    the CPUs that other processes had meanwhile; ``note`` says why there is none, or none any more.
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
        """Of the turns' medians: lower quartile, median, upper quartile; NaN before the first
        turn."""
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
    """A contest so far. ``flops`` (of a step) and ``images`` (a step) are 0 where they mean
    nothing; ``peak`` is in flops a second."""

    section: str
    title: str
    rows: list[Row]
    flops: int = 0
    images: int = 0
    peak: float | None = None

    def best(self, *peers: str) -> float:
        """The least median of the rows of these peers; NaN where there is none."""
        return min(
            (row.median for row in self.rows if row.peer in peers and row.seconds), default=math.nan
        )

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
    return {
        **about,
        "interrupted": interrupted,
        "results": [_outcome(outcome) for outcome in outcomes],
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    fields = dataclasses.asdict(outcome)
    for row, plain in zip(outcome.rows, fields["rows"], strict=True):
        names = "lower_quartile", "median", "upper_quartile"
        plain |= dict(zip(names, row.quartiles if row.seconds else (None,) * 3, strict=True))
    return fields


def steps_by_peer(outcome: Outcome) -> list[dict[str, Any]]:
    """A contest of steps as ``--json`` has it: a row for each peer, with None for what is not
    known."""
    return [_peer_row(outcome, row) for row in outcome.rows]


def _peer_row(outcome: Outcome, row: Row) -> dict[str, Any]:
    low, median, high = (1e3 * seconds for seconds in row.quartiles) if row.seconds else (None,) * 3
    return {
        "name": row.peer,
        "step_ms": median,
        "step_ms_lower_quartile": low,
        "step_ms_upper_quartile": high,
        "images_per_second": outcome.images / row.median if row.seconds else None,
        **{name: row.facts.get(name) for name in ("temp_bytes", "kept_bytes", "compile_seconds")},
        "loss_error": row.value_error,
        "gradient_error": row.gradient_error,
        "note": row.note,
    }


def write_result(
    folder: Path, outcomes: list[Outcome], about: dict[str, Any], *, interrupted: bool
) -> None:
    """``bench.json``, at once and whole."""
    write_json(folder / RESULT, result(outcomes, about, interrupted=interrupted))
