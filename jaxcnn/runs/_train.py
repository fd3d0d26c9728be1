"""One run: data, callbacks, :func:`jaxcnn.train.fit`, and what it leaves behind."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxcnn import data as sets
from jaxcnn import train
from jaxcnn._io.command import InputError, RunError
from jaxcnn._io.files import write_file
from jaxcnn.runs._config import CONFIG, Config
from jaxcnn.runs._continuation import (
    best_state,
    earlier_lines,
    patience_of,
    read_on,
    what_was_read,
)
from jaxcnn.runs._preparation import DEAD, STATES, in_all, names, prepare
from jaxcnn.runs._results import (
    METRICS,
    RESULT,
    accuracy_on_test,
    leave,
    model_names,
    say,
    tell_data,
)
from jaxcnn.runs._stopping import Stop
from jaxcnn.runs._watchers import norms_of, watchers
from jaxcnn.train._agree import each_says
from jaxcnn.train._checkpoint import Checkpoints
from jaxcnn.train._draw import history
from jaxcnn.train._progress import Plain
from jaxcnn.train._speed import compilation

REPORT = 50  # steps in one program


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
        at: is called with what is being done, for whoever waits for this process.
        told: what else must be the same in all processes.

    Raises:
        InputError: something that was given cannot be used; nothing was changed then.
        RunError: the run could not go on; the message says where its files are.
    """
    began, console, first = time.perf_counter(), Plain(stderr=True), jax.process_index() == 0
    at("reading the data")
    own = in_all(lambda: prepare(config, resume=resume, overwrite=overwrite), told or {}, at)
    data, recipe, steps = own.data, own.recipe, own.steps
    if overwrite and first:
        own.folder.clear()
    if overwrite:
        each_says("")  # no other process writes there before the first has cleared it
    if first:  # that nothing else has these names was seen before the processes met
        own.folder.wrote(*names(config))
    if first and not resume:
        write_file(config.out / CONFIG, config.text())
    tested = None
    with contextlib.ExitStack() as stack:
        stream = (
            stack.enter_context(
                contextlib.closing(sets.Stream(data.train, config.batch_size, seed=config.seed))
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
                about=own.about(config),
                also=lambda: what_was_read(stream),
            )
        )
        like = own.fresh()
        start = states.restore(like) if resume and (states.steps or states.unlike) else None
        ended = [name for name in (RESULT, *model_names(config)) if (config.out / name).exists()]
        if resume and start is None and ended:
            raise InputError(
                f"--resume: {config.out / STATES} has no checkpoint any more, though there is"
                f" {', '.join(ended)}; --overwrite begins anew"
            )
        start_at = 0 if start is None else int(np.ravel(start.step)[0])
        if stream is not None and start_at:
            read_on(stream, states.kept_with(start_at))
        if first:
            parameters = sum(leaf.size for leaf in jax.tree.leaves(like.params)) // config.seeds
            going_on = f"; goes on from step {start_at:,} of {steps:,}" if resume else ""
            console.print(
                f"{config.model}, {parameters:,} parameters, on {data.name}: {data.classes}"
                f" classes, {data.per_epoch:,} steps an epoch{going_on}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
            tell_data(config, data, console)
        compiled = stack.enter_context(compilation())
        stop, earlier = stack.enter_context(Stop()), earlier_lines(config.out / METRICS, start_at)
        patience = patience_of(config, history(earlier)[1])
        for found in patience:
            if found.best_step >= 0 and found.best_step not in states.steps:
                raise InputError(
                    f"--resume: the best state so far, of step {found.best_step}, is no longer in"
                    f" {config.out / STATES}; --patience None goes on without it"
                )
        if first and resume:  # not before it is sure that the run can go on
            write_file(config.out / CONFIG, config.text())
        norms = norms_of(config, own, earlier)
        callbacks: list[Any] = [norms] if norms else []
        if first:
            callbacks += watchers(config, own, start_at, norms, console, like, stack)
        callbacks += [states, *patience, stop, lambda report, _: at(f"step {report.step:,}")]
        try:
            state, _ = train.fit(
                recipe,
                data.train if stream is None else stream,
                key=own.key,
                batch_size=config.batch_size,
                steps=start_at if any(found.over for found in patience) else steps,
                test=data.watched,
                evaluate_every=data.per_epoch,
                not_finite=config.not_finite,
                report_every=min(REPORT, config.watch_every or REPORT),
                callbacks=callbacks,
                start=start,
            )
            states.save(int(np.ravel(state.step)[0]), state)
            states.wait()
        except train.DivergedError as error:
            with Checkpoints(config.out / DEAD, about=own.about(config)) as dead:
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
        state = best_state(patience, states, like, state)._replace(opt_state=())
        state = state if recipe.layout is None else recipe.layout.gather(state)
        if first and data.validation is not None and not stop.asked:
            at("looking at the test images")
            tested = accuracy_on_test(recipe, state, data.test, config.seeds)
    if first:
        before = earlier[-1].get("seconds", 0.0) if earlier else 0.0
        known = leave(
            config, data, state, norms, stop.asked, began, before, sum(compiled), own.shape, tested
        )
        there = sorted({name.partition("/")[0] for name in own.folder.there()})
        say(config, there, stop.asked, done, steps, known, console)
    return stop.asked


def of(order: Any) -> Config:
    """The settings alone, of a command that has more."""
    return Config(
        **{field.name: getattr(order, field.name) for field in dataclasses.fields(Config)}
    )
