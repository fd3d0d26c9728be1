"""What watches a run: norms, log, TensorBoard's files, a progress bar."""

import contextlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console

from jaxcnn import train
from jaxcnn._io.command import InputError
from jaxcnn.runs._config import Config
from jaxcnn.runs._preparation import CURVES_ELSEWHERE, Prepared
from jaxcnn.runs._results import METRICS
from jaxcnn.train._progress import Progress
from jaxcnn.train._speed import flops, measure_peak


def norms_of(config: Config, run: Prepared, earlier: Sequence[Any]) -> train.Norms | None:
    """That of --watch-every, in every process, as all measure together."""
    if not config.watch_every:
        return None
    x, target = (part[: config.batch_size] for part in run.data.test)
    norms = train.Norms(run.recipe, x, target, every=config.watch_every)
    norms.restore(earlier)
    return norms


def watchers(
    config: Config,
    run: Prepared,
    start_at: int,
    norms: train.Norms | None,
    console: Console,
    like: train.TrainState,
    stack: contextlib.ExitStack,
) -> list[Any]:
    """Log, TensorBoard's files and a progress bar, which the first process alone has."""
    resume_at = start_at if start_at else None
    try:
        log = train.JsonLines(
            config.out / METRICS,
            resume_at=resume_at,
            batch_size=config.batch_size * config.seeds,
            norms=norms,
        )
    except ValueError as error:
        raise InputError(str(error)) from None
    found: list[Any] = [stack.enter_context(log)]
    if config.tensorboard:
        from jaxcnn.train._tensorboard import TensorBoard

        curves = config.out / CURVES_ELSEWHERE
        board = TensorBoard(curves, resume_at=resume_at, norms=norms)
        found.append(stack.enter_context(board))
        run.folder.wrote(*(f"{CURVES_ELSEWHERE}/{path.name}" for path in curves.iterdir()))
    share: Any = _speed(config, run, like) if console.is_terminal else {}
    bar = Progress(run.steps, config.batch_size * config.seeds, console=console, **share)
    return [*found, stack.enter_context(bar)]


def _speed(config: Config, run: Prepared, like: train.TrainState) -> dict[str, float]:
    """Operations of a step of one device, and what that can do a second, for the progress bar."""
    recipe = run.recipe
    if recipe.layout is not None or run.key.ndim:
        return {}
    x, target = (
        jax.ShapeDtypeStruct((config.batch_size, *part.shape[1:]), part.dtype)
        for part in run.data.test
    )
    dtype = jnp.float32 if recipe.policy is None else recipe.policy.compute
    # 16 bits may be slower
    peak = max(measure_peak(dtype=each) for each in {jnp.dtype(dtype), jnp.dtype("float32")})
    step = train.make_step(recipe)
    return {"flops_per_step": flops(step, like, x, target, run.key), "peak": peak}
