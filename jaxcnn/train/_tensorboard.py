"""The curves of a run for TensorBoard, written by tensorboardX. Needs the extra ``jaxcnn[train]``.

    train/loss         of every step
    test/accuracy …    whenever the test set was looked at
    gradient/… weight/… delta/…    norms, where they are measured

>>> import tempfile, numpy as np
>>> from jaxcnn.train._fit import Report
>>> with tempfile.TemporaryDirectory() as folder, TensorBoard(folder) as board:
...     board(Report(2, 9, 1.0, np.array([0.75, 0.25]), {"accuracy": 0.5}))
"""

import os
from pathlib import Path
from typing import Any

from jaxcnn._core.errors import check_integer
from jaxcnn.train._fit import Report
from jaxcnn.train._watch import Norms

try:
    from tensorboardX import SummaryWriter
except ImportError as error:
    raise ImportError(
        "curves for TensorBoard are written by tensorboardX: pip install 'jaxcnn[train]'"
    ) from error


class TensorBoard:
    """A callback of :func:`jaxcnn.train.fit` that writes event files into ``folder``.

    Args:
        resume_at: the step from which a run goes on. A new file says that what earlier ones have of
            later steps is void; without it, all that they have.
        norms: what it measured is written, too; give it to the run before this.

    Raises ValueError for a ``resume_at`` that is no integer ≥ 0.
    """

    def __init__(
        self, folder: str | Path, *, resume_at: int | None = None, norms: Norms | None = None
    ) -> None:
        if resume_at is not None:
            check_integer("TensorBoard", "resume_at", resume_at)
        first = 0 if resume_at is None else resume_at + 1
        # the name has the second of its making: a run that goes on at once must not write over the
        # file
        self._writer = SummaryWriter(
            str(folder), purge_step=first, filename_suffix=f".{os.getpid()}.{first}"
        )
        self._norms = norms

    def __call__(self, report: Report, state: Any = None) -> None:
        """Write what is new, and see that it is on disk."""
        for step, loss in enumerate(report.losses, start=report.step - len(report.losses) + 1):
            self._writer.add_scalar("train/loss", float(loss), step)
        rows = {"test": report.scores or {}} | (
            self._norms.rows.get(report.step, {}) if self._norms else {}
        )
        for group, row in rows.items():
            for name, value in row.items():
                self._writer.add_scalar(f"{group}/{name}", value, report.step)
        self._writer.flush()

    def close(self) -> None:
        """Write what is left, and let go of the file."""
        self._writer.close()

    def __enter__(self) -> "TensorBoard":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
