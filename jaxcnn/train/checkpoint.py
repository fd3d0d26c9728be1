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
import logging
import math
import sys
import time
from collections.abc import Iterator, Mapping
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
        if score is not None:
            policies.append(keeping.BestN(get_metric_fn=lambda scores: scores[score], reverse=mode == "min", n=1, keep_checkpoints_without_metrics=False))  # fmt: skip
        options = ocp.CheckpointManagerOptions(preservation_policy=keeping.AnyPreservationPolicy(policies))
        with self._told("cannot be used for checkpoints"), _quiet():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers={"state": ocp.StandardCheckpointHandler(), "about": ocp.JsonCheckpointHandler()})  # fmt: skip

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
            self.save(report.step, state, scores=report.scores)

    def _better(self, scores: Mapping[str, float] | None) -> bool:
        if self._score is None or not scores:
            return False
        best, score = self._best, self._sign * scores[self._score]
        self._best = max(best, score)
        return score > best

    def save(self, step: int, state: TrainState, *, scores: Mapping[str, float] | None = None) -> None:
        """Begin to write ``state`` under the name ``step``; one that is there already stays. Raises CheckpointError where the last could not be written."""
        arrays = jax.tree.map(jnp.copy, named(state))  # as the next step reuses the buffers
        what = ocp.args.Composite(state=ocp.args.StandardSave(arrays), about=ocp.args.JsonSave(self._about))
        if step not in self._manager.all_steps():
            with self._told(f"checkpoint {step} could not be written; the earlier ones are as they were"):
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
        return jax.tree.unflatten(jax.tree.structure(like), [found[name] for name in wanted])

    def wait(self) -> None:
        """Until all is written."""
        with self._told("the last checkpoint could not be written; the earlier ones are as they were"):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait, and let go of the folder."""
        self.wait()
        self._manager.close()

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
            raise CheckpointError(f"{self.folder}: {what} ({reason:.200}){hint}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Drops what orbax logs of a damaged checkpoint, as the error says it; and the tracebacks of tensorstore's threads, which report to an event loop that orbax has closed by then."""
    log = logging.getLogger("absl")
    level, before, last = log.level, sys.unraisablehook, time.monotonic()

    def hook(unraisable: Any) -> None:
        nonlocal last
        last = time.monotonic()
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    log.setLevel(logging.CRITICAL)
    sys.unraisablehook = hook
    try:
        yield
    except Exception:
        while time.monotonic() - last < STILL:
            time.sleep(STILL / 10)
        raise
    finally:
        sys.unraisablehook = before
        log.setLevel(level)


def _shown(array: Any) -> str:
    return "nothing" if array is None else show(jax.ShapeDtypeStruct(array.shape, array.dtype))
