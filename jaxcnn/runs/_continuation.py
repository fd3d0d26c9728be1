"""What a run that goes on takes from its folder: the stream where it was, the log so far, the best
state so far."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn import data as sets
from jaxcnn import train
from jaxcnn._io.command import InputError
from jaxcnn._io.lines import read_lines
from jaxcnn.runs._config import Config
from jaxcnn.train._agree import each_says, first_problem
from jaxcnn.train._checkpoint import Checkpoints
from jaxcnn.train._logs import check_line, missing


def what_was_read(stream: sets.Stream | None) -> dict[str, Any]:
    """What all processes have read, for a checkpoint."""
    if stream is None:
        return {}
    return sets.Stream.joined(
        [json.loads(text) for text in each_says(json.dumps(stream.get_state()))]
    )


def read_on(stream: sets.Stream, state: Mapping[str, Any]) -> None:
    """Go on with the stream as the checkpoint has it. InputError in all processes where one would
    read something else."""
    problem = ""
    try:
        stream.set_state(state)
    except ValueError as error:
        problem = f"--resume: {error}"
    if problem := first_problem(problem):
        raise InputError(problem)


def earlier_lines(log: Path, at: int) -> list[dict[str, Any]]:
    """The lines of the steps before ``at``, from the log of a run that goes on there. InputError
    where it is none."""
    try:
        lines = [line for line in (read_lines(log, check_line) if at else []) if line["step"] <= at]
        missing(lines, at)
        looks = [
            row
            for line in lines
            for row in (line.get("scores", {"accuracy": 0.0}), *line.get("each", ()))
        ]
        if any(not isinstance(row.get("accuracy"), int | float) for row in looks):
            raise ValueError("a look at the test set without an accuracy")
        return lines
    except (ValueError, LookupError, TypeError, OSError) as error:
        raise InputError(
            f"{log}: is not the log of this run ({error}); --overwrite begins anew"
        ) from None


def patience_of(config: Config, earlier: dict[int, dict[str, float]]) -> list[train.EarlyStopping]:
    """None or one callback, that knows of ``earlier`` looks."""
    if config.patience is None:
        return []
    found = train.EarlyStopping("accuracy", patience=config.patience)
    for step, scores in earlier.items():
        found(train.Report(step, step, math.nan, np.zeros(1), scores), None)
    return [found]


def best_state(
    patience: list[train.EarlyStopping],
    states: Checkpoints,
    like: train.TrainState,
    last: train.TrainState,
) -> train.TrainState:
    """With --patience the state that had the best accuracy, else the last."""
    for found in patience:
        if found.best_state is not None:
            return found.best_state
        if found.best_step >= 0:
            return states.restore(like, found.best_step)
    return last
