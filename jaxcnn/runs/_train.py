"""One run: data, callbacks, :func:`jaxcnn.train.fit`, and what it leaves behind."""

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import data as sets
from jaxcnn import train
from jaxcnn._io.command import InputError, RunError, expect
from jaxcnn._io.files import write_file
from jaxcnn._io.lines import read_lines
from jaxcnn.runs import _components as build
from jaxcnn.runs._agreement import difference
from jaxcnn.runs._config import CONFIG, FREE, Config, settings_of
from jaxcnn.runs._dataset_of_run import RunData, load
from jaxcnn.runs._folder import RunFolder
from jaxcnn.runs._results import CURVES, METRICS, NORMS, RESULT, leave, model_names, say
from jaxcnn.runs._stopping import Stop
from jaxcnn.train._agree import each_says, first_problem
from jaxcnn.train._checkpoint import Checkpoints, remove_checkpoints
from jaxcnn.train._draw import history
from jaxcnn.train._logs import check_line, missing
from jaxcnn.train._progress import Plain, Progress
from jaxcnn.train._speed import flops, measure_peak

STATES, DEAD, CURVES_ELSEWHERE = "checkpoints", "post_mortem", "tensorboard"
REPORT = 50  # steps in one program
MOST = 2**31 - 1  # steps, whose number is an int32


def run(
    config: Config,
    *,
    resume: bool = False,
    overwrite: bool = False,
    at: Callable[[str], None] = lambda what: None,
    told: Mapping[str, str] | None = None,
) -> bool:
    """Train as ``config`` says and leave everything in ``config.out``; whether the run was
    interrupted.

    Args:
        at: is told what is being done, for whoever waits for this process.
        told: what else must be the same in all processes.

    Raises:
        InputError: something that was given cannot be used; nothing was changed then.
        RunError: the run could not go on; the message says where what there is lies.
    """
    began, console, first = time.perf_counter(), Plain(stderr=True), jax.process_index() == 0
    at("reading the data")
    folder, given, layout, model, shape, steps = _together(
        lambda: _prepare(config, resume, overwrite), told or {}, at
    )
    if overwrite and first:
        folder.clear()
    if first:
        folder.will_write(*_names(config))
    if first and not resume:
        write_file(config.out / CONFIG, config.text())
    recipe = build.recipe(config, model, given.classes, given.scale, layout, steps)
    key = build.keys(config)
    about = {
        "model": config.model,
        "checksum of the data": given.mark,
        "classes": given.classes,
        "seeds": config.seeds,
        "steps": steps,
        **_fixed(config),
    }
    with contextlib.ExitStack() as stack:
        stream = (
            stack.enter_context(
                contextlib.closing(sets.Stream(given.train, config.batch_size, seed=config.seed))
            )
            if config.stream
            else None
        )
        states = stack.enter_context(
            Checkpoints(
                config.out / STATES,
                every=config.checkpoint_every,
                keep=config.keep,
                score="accuracy",
                about=about,
                also=lambda: _read(stream),
            )
        )
        like = _fresh(recipe, key, shape)
        start = states.restore(like) if resume and (states.steps or states.unlike) else None
        ended = [name for name in (RESULT, *model_names(config)) if (config.out / name).exists()]
        if resume and start is None and ended:
            raise InputError(
                f"--resume: {config.out / STATES} has no checkpoint any more, though there is"
                f" {', '.join(ended)}; --overwrite begins anew"
            )
        start_at = 0 if start is None else int(np.ravel(start.step)[0])
        if stream is not None and start_at:
            _read_on(stream, states.kept_with(start_at))
        if first:
            parameters = sum(leaf.size for leaf in jax.tree.leaves(like.params)) // config.seeds
            going_on = f"; goes on from step {start_at:,} of {steps:,}" if resume else ""
            console.print(
                f"{config.model}, {parameters:,} parameters, on {given.name}: {given.classes}"
                f" classes, {given.per_epoch:,} steps an epoch{going_on}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
        stop, earlier = stack.enter_context(Stop()), _earlier(config.out / METRICS, start_at)
        patience = _patience(config, history(earlier)[1])
        for found in patience:
            if found.best_step >= 0 and found.best_step not in states.steps:
                raise InputError(
                    f"--resume: the best state so far, of step {found.best_step}, is no longer in"
                    f" {config.out / STATES}; --patience None goes on without it"
                )
        end = start_at if any(found.over for found in patience) else steps
        if first and resume:  # not before it is sure that the run can go on
            write_file(config.out / CONFIG, config.text())
        callbacks: list[Any] = []
        norms = None
        if config.watch_every:
            x, target = (part[: config.batch_size] for part in given.test)
            norms = train.Norms(recipe, x, target, every=config.watch_every)
            norms.restore(earlier)  # in every process, as all measure together
            callbacks.append(norms)
        if first:
            log = stack.enter_context(_log(config, start_at, norms))
            callbacks.append(log)
            if config.tensorboard:
                from jaxcnn.train._tensorboard import TensorBoard

                callbacks.append(
                    stack.enter_context(
                        TensorBoard(
                            config.out / CURVES_ELSEWHERE,
                            resume_at=start_at if start_at else None,
                            norms=norms,
                        )
                    )
                )
                folder.wrote(
                    *(
                        f"{CURVES_ELSEWHERE}/{path.name}"
                        for path in (config.out / CURVES_ELSEWHERE).iterdir()
                    )
                )
            share: Any = _speed(config, recipe, key, like, given) if console.is_terminal else {}
            callbacks.append(
                stack.enter_context(
                    Progress(steps, config.batch_size * config.seeds, console=console, **share)
                )
            )
        callbacks += [states, *patience, stop, lambda report, _: at(f"step {report.step:,}")]
        source = given.train if stream is None else stream
        try:
            state, _ = train.fit(
                recipe,
                source,
                key=key,
                batch_size=config.batch_size,
                steps=end,
                test=given.test,
                evaluate_every=given.per_epoch,
                not_finite=config.not_finite,
                report_every=min(REPORT, config.watch_every or REPORT),
                callbacks=callbacks,
                start=start,
            )
            states.save(int(np.ravel(state.step)[0]), state)
            states.wait()
        except train.DivergedError as error:
            with Checkpoints(config.out / DEAD, about=about) as dead:
                if error.step not in dead.steps:  # where a resumed run came to the same end
                    dead.save(error.step, error.state)
            rest = f", the checkpoints in {config.out / STATES}" if states.steps else ""
            raise RunError(
                f"{error}. The train state before that step is in {config.out / DEAD}{rest}"
            ) from None
        except sets.DataError as error:  # an image of a stream
            raise RunError(f"--data {error}; once it is mended, --resume goes on") from None
        except jax.errors.JaxRuntimeError as error:
            raise RunError(
                f"the devices gave up ({' '.join(str(error).split()):.160}); if memory ran out,"
                " give a smaller --batch-size, or --microbatch"
            ) from None
        done = int(np.ravel(state.step)[0])
        state = _best(patience, states, like, state)._replace(opt_state=())
        state = state if layout is None else layout.gather(state)
    if first:
        before = earlier[-1].get("seconds", 0.0) if earlier else 0.0
        known = leave(config, given, state, norms, stop.asked, began, before, shape)
        say(
            config,
            sorted({name.partition("/")[0] for name in folder.there()}),
            stop.asked,
            done,
            steps,
            known,
            console,
        )
    return stop.asked


def _names(config: Config) -> list[str]:
    """What this run writes."""
    return [
        CONFIG,
        METRICS,
        RESULT,
        CURVES,
        STATES,
        DEAD,
        *model_names(config),
        *(NORMS if config.watch_every else ()),
        *([CURVES_ELSEWHERE] if config.tensorboard else ()),
    ]


def _fixed(config: Config) -> dict[str, Any]:
    """The settings that a run keeps when it goes on."""
    return {name: value for name, value in json.loads(config.text()).items() if name not in FREE}


def _prepare(
    config: Config, resume: bool, overwrite: bool
) -> tuple[RunFolder, RunData, Any, Any, tuple[int, ...], int]:
    """All that can be found wrong before anything is written."""
    folder = RunFolder(config.out, {STATES: remove_checkpoints, DEAD: remove_checkpoints})
    _check_folder(folder, config, resume=resume, overwrite=overwrite)
    given, layout = load(config), build.layout(config)
    shape = jax.eval_shape(given.scale, given.test[0][:1]).shape[1:]
    model, steps = build.network(config, given.classes), config.epochs * given.per_epoch
    build.check_takes(model, shape, f"--model {config.model}")
    expect(
        steps <= MOST,
        "--epochs",
        f"at most {MOST // given.per_epoch} of {given.per_epoch} steps",
        config.epochs,
    )
    return folder, given, layout, model, shape, steps


def _together(
    prepare: Callable[[], Any], told: Mapping[str, str], at: Callable[[str], None]
) -> Any:
    """What ``prepare`` returns, where it could be done in all processes, and all have the same
    before them."""
    problem, found, mark = None, None, ""
    try:
        found = prepare()
        mark = found[1].mark
    except InputError as error:
        problem = error
    at("is ready")
    said = [
        json.loads(text)
        for text in each_says(
            json.dumps({"problem": str(problem or ""), "told": {**told, "the data": mark}})
        )
    ]
    if problem:
        raise problem
    for number, other in enumerate(said):
        if other["problem"]:
            raise RunError(f"process {number} could not begin ({other['problem']})")
        if unlike := difference(0, said[0]["told"], number, other["told"]):
            raise InputError(unlike)
    return found


def _check_folder(folder: RunFolder, config: Config, *, resume: bool, overwrite: bool) -> None:
    """InputError where ``--out`` holds a run that this one would destroy, something else, or not
    the run that is to go on."""
    kept = config.out / CONFIG
    folder.check_free(*_names(config))
    if not resume:
        if not overwrite and set(folder.there()) - {CONFIG}:
            raise InputError(
                f"--out {config.out} holds a run; --resume goes on with it, --overwrite begins"
                " anew, another --out leaves it alone"
            )
        return
    if not kept.exists():
        raise InputError(
            f"--resume: there is no run in {config.out}; leave --resume out to begin one"
        )
    before = settings_of(kept)
    for name, value in _fixed(config).items():
        if before.get(name) != value:
            raise InputError(
                f"--resume: {name} is {before.get(name)!r} in {kept}, now {value!r}; leave it out,"
                " or begin another run in another --out"
            )


def _fresh(recipe: train.Recipe, key: jax.Array, shape: tuple[int, ...]) -> train.TrainState:
    """A train state of the shape that this run's have."""

    def new(key: jax.Array) -> train.TrainState:
        return train.create(recipe, key, shape)

    return jax.vmap(new)(key) if key.ndim else new(key)


def _speed(
    config: Config,
    recipe: train.Recipe,
    key: jax.Array,
    like: train.TrainState,
    given: RunData,
) -> dict[str, float]:
    """Operations of a step of one device, and what that can do a second, for the progress bar."""
    if recipe.layout is not None or key.ndim:
        return {}
    x, target = (
        jax.ShapeDtypeStruct((config.batch_size, *part.shape[1:]), part.dtype)
        for part in given.test
    )
    dtype = jnp.float32 if recipe.policy is None else recipe.policy.compute
    # 16 bits may be slower
    peak = max(measure_peak(dtype=each) for each in {jnp.dtype(dtype), jnp.dtype("float32")})
    return {"flops_per_step": flops(train.make_step(recipe), like, x, target, key), "peak": peak}


def _read(stream: sets.Stream | None) -> dict[str, Any]:
    """What all processes have read, for a checkpoint."""
    if stream is None:
        return {}
    return sets.Stream.joined(
        [json.loads(text) for text in each_says(json.dumps(stream.get_state()))]
    )


def _read_on(stream: sets.Stream, state: Mapping[str, Any]) -> None:
    """Go on with the stream as the checkpoint has it. InputError in all processes where one would
    read something else."""
    problem = ""
    try:
        stream.set_state(state)
    except ValueError as error:
        problem = f"--resume: {error}"
    if problem := first_problem(problem):
        raise InputError(problem)


def _earlier(log: Path, at: int) -> list[dict[str, Any]]:
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


def _patience(config: Config, earlier: dict[int, dict[str, float]]) -> list[train.EarlyStopping]:
    """None or one callback, that knows of ``earlier`` looks."""
    if config.patience is None:
        return []
    found = train.EarlyStopping("accuracy", patience=config.patience)
    for step, scores in earlier.items():
        found(train.Report(step, step, math.nan, np.zeros(1), scores), None)
    return [found]


def _best(
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


def _log(config: Config, at: int, norms: train.Norms | None) -> train.JsonLines:
    try:
        return train.JsonLines(
            config.out / METRICS,
            resume_at=at if at else None,
            batch_size=config.batch_size * config.seeds,
            norms=norms,
        )
    except ValueError as error:
        raise InputError(str(error)) from None


def of(order: Any) -> Config:
    """The settings alone, of a command that has more."""
    return Config(
        **{field.name: getattr(order, field.name) for field in dataclasses.fields(Config)}
    )
