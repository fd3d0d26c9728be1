"""What may be done after every report of :func:`jaxcnn.train.fit`.

>>> import numpy as np
>>> from jaxcnn.train._fit import Report
>>> stop = EarlyStopping("accuracy", patience=2)
>>> state = None  # a train state, in a run
>>> reports = [Report(9, 9, 1.0, np.zeros(1), {"accuracy": a}) for a in (0.5, 0.7, 0.7, 0.6)]
>>> [stop(report._replace(step=step), state) for step, report in enumerate(reports)]
[False, False, False, True]
>>> stop.best, stop.best_step
(0.7, 1)
"""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxcnn._core.errors import check_counts
from jaxcnn.train._fit import Report
from jaxcnn.train._step import TrainState


class EarlyStopping:
    """Ends a run whose test score has not become better for ``patience`` looks; ``best_state`` is a
    copy of the train state that had the best.

    Raises ValueError for a ``patience`` that is no integer ≥ 1; when called, KeyError for a
    ``score`` that is not measured."""

    def __init__(
        self, score: str, *, patience: int = 3, mode: Literal["max", "min"] = "max"
    ) -> None:
        check_counts("EarlyStopping", patience=patience)
        self.score, self.patience, self._sign = score, patience, 1 if mode == "max" else -1
        self.best, self.best_step, self.best_state = math.nan, -1, None
        self._since = 0

    def __call__(self, report: Report, state: TrainState | Any) -> bool:
        if report.scores is None:
            return False
        if self.score not in report.scores:
            raise KeyError(
                f"EarlyStopping: there is no score `{self.score}`; there is"
                f" {', '.join(report.scores)}"
            )
        score = report.scores[self.score]
        if (
            self.best_step < 0
            or self._sign * score > self._sign * self.best
            or (math.isnan(self.best) and not math.isnan(score))
        ):
            self.best, self.best_step, self._since = score, report.step, 0
            self.best_state = jax.tree.map(jnp.copy, state)
        else:
            self._since += 1
        return self.over

    @property
    def over(self) -> bool:
        """Whether the last look was one too many."""
        return self._since >= self.patience
