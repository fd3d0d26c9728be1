"""Train states on disk, written by orbax while the training goes on. Needs the extra ``jaxcnn[train]``.

A checkpoint is a folder named by its step: the arrays of a train state, each under its own name ("params.conv1.kernel"), and what is told ``about`` them, as JSON. It is not there
before it is whole, and nothing in it is ever executed or unpickled.

>>> import tempfile, jax, optax
>>> from jaxcnn import models, train
>>> state = train.create(models.mlp((8, 2)), optax.adam(0.1), jax.random.key(0), (2,))
>>> with tempfile.TemporaryDirectory() as folder, Checkpoints(folder, about={"model": "mlp"}) as checkpoints:
...     checkpoints.save(7, state, scores={"accuracy": 0.5})
...     checkpoints.wait()
...     checkpoints.steps, checkpoints.restore(state).step.shape
([7], ())
"""

import contextlib
import errno
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxcnn.command import RunError
from jaxcnn.errors import check_counts, show
from jaxcnn.train.fit import Report
from jaxcnn.train.names import named
from jaxcnn.train.step import TrainState

try:
    import orbax.checkpoint as ocp
    from orbax.checkpoint.checkpoint_managers import preservation_policy as keeping
except ImportError as error:
    raise ImportError("checkpoints are written by orbax: pip install 'jaxcnn[train]'") from error

FORMAT = {"format": "jaxcnn train state", "version": 1}
STILL = 0.25  # seconds
DISK = errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES  # what users can mend; it stands deep inside long messages


class CheckpointError(RunError):
    """A checkpoint cannot be written or read; the message is one line that says which, why, and what can be done."""


class Checkpoints:
    """The checkpoints of a run in ``folder``: the last ``keep`` of them, and the one with the best ``score``, if a score is named.

    As a callback of :func:`jaxcnn.train.fit` it saves a state about every ``every`` steps, and the last. States are copied first, and written in the background; a context manager waits
    for that.

    Args:
        about: whatever else describes the run, as JSON: the model's name, the settings. ``restore`` refuses a checkpoint that is about something else.

    Raises:
        ValueError: a setting is out of range.
        CheckpointError: the folder cannot be made or written to.
    """

    def __init__(
        self, folder: str | Path, *, every: int = 1000, keep: int = 3, score: str | None = None, mode: Literal["max", "min"] = "max", about: Mapping[str, Any] | None = None
    ) -> None:  # fmt: skip
        check_counts("Checkpoints", every=every, keep=keep)
        self.folder, self.every, self._about = Path(folder).absolute(), every, {**FORMAT, "about": dict(about or {})}
        self._score, self._sign, self._best, self._last = score, 1 if mode == "max" else -1, -math.inf, -1
        policies: list[Any] = [keeping.LatestN(keep)]
        best: dict[str, Any] = {}
        if score is not None:
            of = lambda scores: scores[score]  # noqa: E731
            policies.append(keeping.BestN(get_metric_fn=of, reverse=mode == "min", n=1, keep_checkpoints_without_metrics=False))  # fmt: skip
            best = {"best_fn": of, "best_mode": mode}  # else the scores are not read when a folder is opened again
        options = ocp.CheckpointManagerOptions(preservation_policy=keeping.AnyPreservationPolicy(policies), **best)
        self._hushed = contextlib.ExitStack()
        self._hushed.enter_context(_hush())
        with self._told("cannot be used for checkpoints"), _quiet():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers={"state": ocp.StandardCheckpointHandler(), "about": ocp.JsonCheckpointHandler()})  # fmt: skip
            for step in self.steps if score is not None else ():
                self._better(self._manager.metrics(step))

    @property
    def steps(self) -> list[int]:
        """Those there are, the oldest first."""
        return sorted(self._manager.all_steps())

    def __call__(self, report: Report, state: TrainState) -> None:
        """Save where it is time to."""
        if self._last < 0:
            self._last = report.step - len(report.losses)
        better = self._better(report.scores)
        if better or report.step == report.steps or report.step // self.every > self._last // self.every:
            # Without the others' scores the first of equals stays the best
            self.save(report.step, state, scores=report.scores if better else None)

    def _better(self, scores: Mapping[str, float] | None) -> bool:
        if self._score is None or not scores:
            return False
        best, score = self._best, self._sign * scores[self._score]
        self._best = max(best, score)
        return score > best

    def save(self, step: int, state: TrainState, *, scores: Mapping[str, float] | None = None) -> None:
        """Begin to write ``state`` under the name ``step``, unless it was the last that was saved or restored.

        Raises CheckpointError where the one before could not be written, and where there is another of that name.
        """
        if step == self._last and step in self.steps:
            return
        self._better(scores)
        if step in self.steps:
            raise CheckpointError(f"{self.folder}: checkpoint {step} is there already, of an earlier run; move it and those after it away, or give another folder")  # fmt: skip
        arrays = jax.tree.map(jnp.copy, named(state))  # as the next step reuses the buffers
        what = ocp.args.Composite(state=ocp.args.StandardSave(arrays), about=ocp.args.JsonSave(self._about))
        with self._told(f"checkpoint {step} could not be written; what was whole before still is"):
            self._manager.save(step, args=what, metrics=dict(scores) if scores else None)
        self._last = step

    def restore(self, like: TrainState, step: int | None = None) -> TrainState:
        """The state of ``step`` (the last one, if not given), on the devices of ``like``, whose arrays it must have by name, shape and dtype.

        Raises:
            CheckpointError: there is none, it is damaged, or it is of another model, optimizer or program.
        """
        steps = self.steps
        step = step if step is not None else max(steps, default=None)
        if step is None or step not in steps:
            there = ", ".join(map(str, steps)) or "none"
            raise CheckpointError(f"{self.folder}: there is no checkpoint{'' if step is None else f' {step}'} (there: {there})")  # fmt: skip
        others = ", ".join(str(other) for other in steps if other != step) or "none"
        wanted = named(like)
        hint = "; move its folder away to go on from the one before" if len(steps) > 1 else ""
        with self._told(f"checkpoint {step} cannot be read; others: {others}", hint), _quiet():
            about = self._manager.restore(step, args=ocp.args.Composite(about=ocp.args.JsonRestore()))["about"]
            self._check_about(step, about)
            there = self._manager.item_metadata(step)["state"]
            self._check_arrays(step, wanted, there)
            found = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(wanted)))["state"]  # fmt: skip
        self._last = step
        return jax.tree.unflatten(jax.tree.structure(like), [found[name] for name in wanted])

    def wait(self) -> None:
        """Until all is written."""
        with self._told("the last checkpoint could not be written; what was whole before still is"):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait, and let go of the folder."""
        try:
            self.wait()
        finally:
            self._manager.close()
            self._hushed.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:  # fmt: skip
        self.close()

    def _check_about(self, step: int, about: Any) -> None:
        if not isinstance(about, dict) or any(about.get(name) != value for name, value in FORMAT.items()):
            raise CheckpointError(f"{self.folder}: checkpoint {step} was not written by this version of jaxcnn ({about!r:.80}); give another folder")  # fmt: skip
        for name, value in self._about["about"].items():
            if about["about"].get(name) != value:
                raise CheckpointError(f"{self.folder}: checkpoint {step} has {name} {about['about'].get(name)!r}, this run {value!r}; give another folder, or the same settings")  # fmt: skip

    def _check_arrays(self, step: int, wanted: dict[str, Any], there: Any) -> None:
        for name in sorted({*wanted, *there}):
            mine, its = (side.get(name) for side in (wanted, there))
            same = mine is not None and its is not None and tuple(mine.shape) == tuple(its.shape) and mine.dtype == its.dtype  # fmt: skip
            if not same:
                raise CheckpointError(f"{self.folder}: checkpoint {step} is of another model or optimizer: {name} is {_shown(its)} there, {_shown(mine)} here")  # fmt: skip

    @contextlib.contextmanager
    def _told(self, what: str, hint: str = "") -> Iterator[None]:
        try:
            yield
        except CheckpointError:
            raise
        except Exception as error:  # whatever orbax and tensorstore raise
            reason = " ".join(str(error).split()) or type(error).__name__
            reason = next((known for known in map(os.strerror, DISK) if known in reason), reason)
            raise CheckpointError(f"{self.folder}: {what} ({reason:.200}){hint}") from error


@contextlib.contextmanager
def _hush(told: Callable[[], Any] = lambda: None) -> Iterator[None]:
    """Drops the tracebacks of orbax's threads, as their errors are raised, too; and of tensorstore's, which report to an event loop that orbax has closed by then; ``told()`` of these."""
    log, before = logging.getLogger("absl"), sys.unraisablehook

    def hook(unraisable: Any) -> None:
        told()
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    def of_others(record: logging.LogRecord) -> bool:
        known = record.levelno >= logging.ERROR or "did not provide metrics" in str(
            record.msg
        )  # which is as it should be
        return not (known and "orbax" in record.pathname)

    log.addFilter(of_others)
    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
        log.removeFilter(of_others)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Drops what orbax logs of a damaged checkpoint, as the error says it, and what its threads still have to say of it."""
    log, last = logging.getLogger("absl"), time.monotonic()
    level = log.level

    def note() -> None:
        nonlocal last
        last = time.monotonic()

    log.setLevel(logging.CRITICAL)
    try:
        with _hush(note):
            try:
                yield
            except Exception:
                while time.monotonic() - last < STILL:
                    time.sleep(STILL / 10)
                raise
    finally:
        log.setLevel(level)


def _shown(array: Any) -> str:
    return "nothing" if array is None else show(jax.ShapeDtypeStruct(array.shape, array.dtype))
