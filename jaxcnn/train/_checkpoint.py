"""Train states on disk, written by orbax while the training goes on. Needs the extra
``jaxcnn[train]``.

A checkpoint is a folder named by its step: the arrays of a train state, each under its own name
("params.conv1.kernel"), what the run says ``about`` them, as JSON, and the SHA-256 of all files,
which are compared before anything is read. It is not there before it is whole, nothing in it is
ever executed or unpickled, and nothing else is ever deleted.

>>> import tempfile, jax, optax
>>> from jaxcnn import models, train
>>> recipe = train.Recipe(models.mlp((8, 2)), optimizer=optax.adam(0.1))
>>> state = train.create(recipe, jax.random.key(0), (2,))
>>> about = {"model": "mlp"}
>>> with tempfile.TemporaryDirectory() as folder, Checkpoints(folder, about=about) as checkpoints:
...     checkpoints.save(7, state, scores={"accuracy": 0.5})
...     checkpoints.wait()
...     checkpoints.steps, checkpoints.restore(state).step.shape
([7], ())
"""

import contextlib
import errno
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxcnn._core.errors import check_counts, show
from jaxcnn._io.command import RunError
from jaxcnn._io.outside import OutsideError, printable
from jaxcnn.train._agree import first_problem
from jaxcnn.train._digests import LIST, check_digests, foreign, remove, write_digests
from jaxcnn.train._fit import Report
from jaxcnn.train._hush import hush, quiet
from jaxcnn.train._names import IN_FILES, named
from jaxcnn.train._step import TrainState

try:
    import orbax.checkpoint as ocp
    from orbax.checkpoint.checkpoint_managers import preservation_policy as keeping
except ImportError as error:
    raise ImportError("checkpoints are written by orbax: pip install 'jaxcnn[train]'") from error

FORMAT = {"format": "jaxcnn train state", "version": 2}
PLAIN = re.compile(r"[\w./ -]*", re.ASCII)
# orbax's names: of the files that it writes last, of a folder until then
LATER, UNFINISHED = ("_CHECKPOINT_METADATA", "commit_success.txt"), ".orbax-checkpoint-tmp"
# what users can mend; it stands deep inside long messages
DISK = errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES


def remove_checkpoints(folder: Path) -> None:
    """Delete the checkpoints in ``folder``, and what is left of one that was being written; not
    what else is there."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.isdecimal() and (path / LIST).exists():
            remove(path)
        elif UNFINISHED in path.name and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
    with contextlib.suppress(OSError):
        folder.rmdir()


class CheckpointError(RunError):
    """A checkpoint cannot be written or read; the message is one line that says which, why, and
    what can be done."""


class Checkpoints:
    """The checkpoints of a run in ``folder``: the last ``keep`` of them, and the one with the best
    ``score``, if a score is named.

    As a callback of :func:`jaxcnn.train.fit` it saves a state about every ``every`` steps, and the
    last. States are copied first, and written in the background; a context manager waits for that.

    Args:
        about: whatever else describes the run, as JSON: the model's name, the settings. ``restore``
            refuses a checkpoint that is about something else.
        also: asked for what is to be kept with each checkpoint, as JSON: how far the data was read.
            :meth:`kept_with` gives it back.

    Raises:
        ValueError: a setting is out of range.
        CheckpointError: the folder cannot be made or written to.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        every: int = 1000,
        keep: int = 3,
        score: str | None = None,
        mode: Literal["max", "min"] = "max",
        about: Mapping[str, Any] | None = None,
        also: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        check_counts("Checkpoints", every=every, keep=keep)
        self.folder, self.every, self._about = (
            Path(folder).absolute(),
            every,
            {**FORMAT, "about": dict(about or {})},
        )
        self._score, self._sign, self._best, self._last = (
            score,
            1 if mode == "max" else -1,
            -math.inf,
            -1,
        )
        self._also, self._saving = also or dict, -1
        policies: list[Any] = [keeping.LatestN(keep), _Foreign(self.folder)]
        best: dict[str, Any] = {}
        if score is not None:
            of = lambda scores: scores[score]  # noqa: E731
            policies.append(
                keeping.BestN(
                    get_metric_fn=of,
                    reverse=mode == "min",
                    n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )
            # else the scores are not read when a folder is opened again
            best = {"best_fn": of, "best_mode": mode}
        # before the folder gets its name
        summed = ocp.options.AsyncOptions(post_finalization_callback=self._sum)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=keeping.AnyPreservationPolicy(policies),
            async_options=summed,
            **best,
        )
        self._until_closed = contextlib.ExitStack()
        self._until_closed.enter_context(hush())
        with self._told("cannot be used for checkpoints"), quiet():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._check_scores()
            folder = self._until_closed.enter_context(_plainly(self.folder))
            self._manager = ocp.CheckpointManager(
                folder,
                options=options,
                item_handlers={
                    "state": ocp.StandardCheckpointHandler(),
                    "about": ocp.JsonCheckpointHandler(),
                },
            )
            for step in self.steps if score is not None else ():
                self._better(self._manager.metrics(step))

    @property
    def steps(self) -> list[int]:
        """Those there are, whole, the oldest first."""
        return sorted(
            step for step in self._manager.all_steps() if (self._of(step) / LIST).exists()
        )

    @property
    def unlike(self) -> list[int]:
        """Those that have the name of a checkpoint, and are not whole, or of something else."""
        return sorted({*self._manager.all_steps()} - {*self.steps})

    def __call__(self, report: Report, state: TrainState) -> None:
        """Save where it is time to."""
        if self._last < 0:
            self._last = report.step - len(report.losses)
        better = self._better(report.scores)
        if (
            better
            or report.step == report.steps
            or report.step // self.every > self._last // self.every
        ):
            # Without the others' scores the first of equals stays the best
            self.save(report.step, state, scores=report.scores if better else None)

    def _better(self, scores: Mapping[str, float] | None) -> bool:
        if self._score is None or not scores:
            return False
        best, score = self._best, self._sign * scores[self._score]
        self._best = max(best, score)
        return score > best

    def save(
        self, step: int, state: TrainState, *, scores: Mapping[str, float] | None = None
    ) -> None:
        """Begin to write ``state`` under the name ``step``, unless it was the last that was saved
        or restored.

        Raises CheckpointError where the one before could not be written, and where there is another
        of that name."""
        if step == self._last:
            return
        self._better(scores)
        self.wait()
        if os.path.lexists(self._of(step)):
            raise CheckpointError(
                f"{self.folder}: checkpoint {step} is there already, of an earlier run; move it and"
                " those after it away, or give another folder"
            )
        arrays = jax.tree.map(
            jnp.copy, named(state, IN_FILES)
        )  # as the next step reuses the buffers
        about = ocp.args.JsonSave({**self._about, "also": dict(self._also())})
        what = ocp.args.Composite(state=ocp.args.StandardSave(arrays), about=about)
        with self._told(f"checkpoint {step} could not be written; what was whole before still is"):
            self._saving = step
            self._manager.save(
                step, args=what, metrics=dict(scores) if scores else None, force=True
            )  # whatever else is there
        self._last = step

    def restore(self, like: TrainState, step: int | None = None) -> TrainState:
        """The state of ``step`` (the last one, if not given), on the devices of ``like``, whose
        arrays it must have by name, shape and dtype.

        Raises:
            CheckpointError: there is none, it is damaged, or it is of another model, optimizer or
                program.
        """
        steps = self.steps
        step = step if step is not None else max([*steps, *self.unlike], default=None)
        others = ", ".join(str(other) for other in steps if other != step) or "none"
        hint = "; move its folder away to go on from the one before" if set(steps) - {step} else ""
        if step in self.unlike:
            raise CheckpointError(
                f"{self.folder}: checkpoint {step} cannot be read; others: {others} (it has no"
                f" {LIST}: it is damaged, or not of this version of jaxcnn){hint}"
            )
        if step is None or step not in steps:
            there = ", ".join(map(str, steps)) or "none"
            raise CheckpointError(
                f"{self.folder}: there is no checkpoint{'' if step is None else f' {step}'} (there:"
                f" {there})"
            )
        wanted = named(like, IN_FILES)
        with self._told(f"checkpoint {step} cannot be read; others: {others}", hint):
            self._check_bytes(step)
            with quiet():
                self._check_about(step, self._about_of(step))
                self._check_arrays(step, wanted, self._manager.item_metadata(step)["state"])
                what = ocp.args.Composite(state=ocp.args.StandardRestore(wanted))
                found = self._manager.restore(step, args=what)["state"]
        self._last = step
        return jax.tree.unflatten(jax.tree.structure(like), [found[name] for name in wanted])

    def kept_with(self, step: int) -> dict[str, Any]:
        """What ``also`` had to say when the checkpoint of that step was written, and
        :meth:`restore` has found whole."""
        return dict(self._about_of(step).get("also") or {})

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
            self._until_closed.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _of(self, step: int) -> Path:
        return self.folder / str(step)

    def _sum(self) -> None:
        """In orbax's thread, in the first process, when all files are there but the last, under a
        name for the time being."""
        unfinished = [
            path
            for path in self.folder.iterdir()
            if path.name.startswith(f"{self._saving}{UNFINISHED}")
        ]
        for path in unfinished or [self._of(self._saving)]:
            write_digests(path, later=LATER)

    def _check_scores(self) -> None:
        """As orbax reads those of all checkpoints when it opens the folder."""
        for path in self.folder.iterdir() if self._score is not None else ():
            if path.name.isdecimal() and (path / LIST).exists():
                try:
                    check_digests(path, below="metrics/")
                except OutsideError as error:
                    raise CheckpointError(
                        f"{self.folder}: checkpoint {path.name} is damaged ({error}); move its"
                        " folder away to go on with the others"
                    ) from None

    def _about_of(self, step: int) -> Any:
        return self._manager.restore(step, args=ocp.args.Composite(about=ocp.args.JsonRestore()))[
            "about"
        ]

    def _check_bytes(self, step: int) -> None:
        """Every process reads a part, and all hear of what one has found."""
        problem = ""
        try:
            check_digests(self._of(step), part=jax.process_index(), of=jax.process_count())
        except OutsideError as error:
            problem = str(error)
        if problem := first_problem(problem):
            raise OutsideError(problem)

    def _check_about(self, step: int, about: Any) -> None:
        if not isinstance(about, dict) or any(
            about.get(name) != value for name, value in FORMAT.items()
        ):
            raise CheckpointError(
                f"{self.folder}: checkpoint {step} was not written by this version of jaxcnn"
                f" ({about!r:.80}); give another folder"
            )
        for name, value in self._about["about"].items():
            if about["about"].get(name) != value:
                raise CheckpointError(
                    f"{self.folder}: checkpoint {step} has {name} {about['about'].get(name)!r},"
                    f" this run {value!r}; give another folder, or the same settings"
                )

    def _check_arrays(self, step: int, wanted: dict[str, Any], there: Any) -> None:
        for name in sorted({*wanted, *there}):
            mine, its = (side.get(name) for side in (wanted, there))
            same = (
                mine is not None
                and its is not None
                and tuple(mine.shape) == tuple(its.shape)
                and mine.dtype == its.dtype
            )
            if not same:
                raise CheckpointError(
                    f"{self.folder}: checkpoint {step} is of another model or optimizer: {name} is"
                    f" {_shown(its)} there, {_shown(mine)} here"
                )

    @contextlib.contextmanager
    def _told(self, what: str, hint: str = "") -> Iterator[None]:
        try:
            yield
        except CheckpointError:
            raise
        except Exception as error:  # whatever orbax and tensorstore raise
            reason = " ".join(str(error).split()) or type(error).__name__
            reason = next((known for known in map(os.strerror, DISK) if known in reason), reason)
            raise CheckpointError(
                printable(f"{self.folder}: {what} ({reason:.300}){hint}")
            ) from error


class _Foreign:
    """Keeps what has something in it that was not written with it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        return [bool(foreign(self._folder / str(found.step))) for found in checkpoints]


@contextlib.contextmanager
def _plainly(folder: Path) -> Iterator[Path]:
    """A path to ``folder`` in which orbax and tensorstore find nothing but a path, where they would
    take ``[0.1]`` for a pattern."""
    if PLAIN.fullmatch(str(folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="jaxcnn-") as aside:
        link = Path(aside, "checkpoints")
        link.symlink_to(folder, target_is_directory=True)
        yield link


def _shown(array: Any) -> str:
    return "nothing" if array is None else show(jax.ShapeDtypeStruct(array.shape, array.dtype))
