"""A whole run: steps, looks at the test set, reports, and callbacks that may end it.

>>> import jax, jax.numpy as jnp, optax
>>> from jaxcnn import models, ops
>>> recipe = Recipe(models.mlp((8, 2)), ops.softmax_cross_entropy, optax.adam(0.1))
>>> x, labels = jnp.array([[0.0, 1.0], [1.0, 0.0]] * 10), jnp.array([0, 1] * 10)
>>> state, reports = fit(
...     recipe, (x, labels), test=(x, labels), key=jax.random.key(0), batch_size=4, epochs=3
... )
>>> int(state.step), reports[-1].scores
(15, {'accuracy': 1.0})
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import numpy as np

from jaxcnn._core.errors import check_counts
from jaxcnn._core.keys import threefry
from jaxcnn.train._autopsy import Finding, autopsy
from jaxcnn.train._evaluate import Evaluate, make_evaluate
from jaxcnn.train._halt import until_bad
from jaxcnn.train._older import or_its_parts
from jaxcnn.train._recipe import Recipe
from jaxcnn.train._source import Arrays, Batches, Shuffled, Source, Together
from jaxcnn.train._step import TrainState, create, make_step


class Report(NamedTuple):
    """Where a run is: ``step`` of ``steps`` steps are taken, ``epoch`` epochs (NaN where that is
    unknown).

    ``losses`` (steps,) are those of the steps since the last report; ``scores`` those of the test
    set, where it was looked at now, else None. Of several runs at once these are means, and
    ``each`` has the report of every run."""

    step: int
    steps: int
    epoch: float
    losses: np.ndarray
    scores: dict[str, float] | None
    each: "tuple[Report, ...] | None" = None

    @property
    def loss(self) -> float:
        """The mean of the ``losses`` that are finite; NaN where none is."""
        finite = self.losses[np.isfinite(self.losses)]
        return float(finite.mean()) if finite.size else math.nan


Callback: TypeAlias = Callable[[Report, TrainState], Any]
"""Called after every report; the run ends if it returns True. The next step reuses the buffers of
the train state: copy what is to be kept."""


class DivergedError(ArithmeticError):
    """A loss or a gradient was not finite, in the step whose number is ``step`` (the first is 0).

    ``state`` is the train state before that step (of several runs, of the one that diverged);
    ``finding`` says which layer and op made the first such number, None where the step repeated
    without its microbatches and layout has none."""

    def __init__(self, step: int, loss: float, state: TrainState, finding: Finding | None) -> None:
        self.step, self.loss, self.state, self.finding = step, loss, state, finding
        what = "a gradient is not finite" if math.isfinite(loss) else f"the loss is {loss}"
        where = f" ({finding})" if finding else ""
        super().__init__(
            f"fit: {what} in step {step}{where}; try a smaller learning rate or clipped gradients,"
            " or look for NaN in the data"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """From one process to another, and copied, by what it was made of; what it is made of is
        not its message."""
        return type(self), (self.step, self.loss, self.state, self.finding), self.__dict__


@or_its_parts("model", "loss", "optimizer", "data")
def fit(
    recipe: Recipe,
    data: Arrays | Iterator[Arrays],
    *,
    key: jax.Array,
    batch_size: int = 128,
    epochs: int | None = None,
    steps: int | None = None,
    test: Arrays | None = None,
    evaluate_every: int | None = None,
    not_finite: Literal["stop", "skip"] = "stop",
    report_every: int = 50,
    callbacks: Sequence[Callback] = (),
    start: TrainState | None = None,
) -> tuple[TrainState, list[Report]]:
    """Train by ``recipe``; the last train state, and all reports.

    Everything is a function of (data, key, start): what is in a step, dropout and augmentation are
    drawn from ``key`` and the step's number, so that a run that goes on from ``start`` ends as one
    that was never stopped, to the bit where JAX gives the same bits twice: it promises no order of
    sums to several threads of a CPU (JAX issue 39741), nor to other devices; there losses differ by
    rounding.

    Args:
        data: arrays (x, target) of all examples, kept on the device and shuffled anew in every
            epoch; or an iterator of batches (x, target), of each process its own part; where a run
            goes on, the iterator, too, has to go on from there.
        key: of all that is drawn. An array of keys (n,) makes n runs at once, by ``vmap``, each
            with its own parameters and order of the examples, as it would be alone; the train state
            then has an axis (n,) in front of every array.
        epochs, steps: how long, by one of the two; for an iterator by ``steps``, unless it has
            ``per_epoch``, as :class:`jaxcnn.data.Stream` does.
        test: examples to look at every ``evaluate_every`` steps (an epoch, where that is known) and
            at the end, by the recipe's ``measures``; the averaged parameters, where it has an
            ``average``.
        not_finite: whether a step whose loss or gradient is not finite, which changes nothing, ends
            the run.
        report_every: steps in one compiled program, from one report to the next.
        start: a train state to go on from; its ``step`` says where. Its buffers are reused: take
            the one that is returned.

    Raises:
        ValueError: a setting is out of range, or x and target differ in length.
        DivergedError: a loss or a gradient is not finite, unless ``not_finite="skip"``.
    """
    check_counts("fit", batch_size=batch_size, report_every=report_every)
    given = {"epochs": epochs, "steps": steps, "evaluate_every": evaluate_every}
    check_counts("fit", **{name: value for name, value in given.items() if value is not None})
    key = threefry("fit", key, several=True)
    if key.ndim and (isinstance(data, Iterator) or recipe.layout is not None):
        raise ValueError(
            "fit: several runs at once (`key` is an array) need `data` as arrays, and no `layout`"
        )
    keys = jax.vmap(jax.random.split)(key) if key.ndim else jax.random.split(key)
    first, rest = keys[..., 0], keys[..., 1]
    source: Source
    if isinstance(data, Iterator):
        source = Batches(data, rest, recipe.layout)
    else:
        kind = Together if key.ndim else Shuffled
        source = kind(data, batch_size, report_every, rest, recipe.layout)
    total, looks = _steps(epochs, steps, source.per_epoch), evaluate_every or source.per_epoch or 0
    step, stops = make_step(recipe, guard=True), not_finite == "stop"
    run, evaluate = source.runner(until_bad(step) if stops else step), make_evaluate(recipe)
    state = _first_state(recipe, source, first) if start is None else start
    at, reports = int(np.ravel(state.step)[0]), []
    while at < total:
        count = min(report_every, total - at, looks - at % looks if looks else total)
        carry, metrics = run((state, np.ones(key.shape, bool)) if stops else state, at, count)
        state = carry[0] if stops else carry
        losses, finite = (np.asarray(metrics[name])[:count] for name in ("loss", "finite"))
        if stops and not finite.all():
            bad, *which = np.argwhere(~finite)[0].tolist()  # and of which run, if there are several
            raise _diverged(recipe, source, at + bad, which, float(losses[bad, *which]), state)
        at = at + count
        epoch = at / source.per_epoch if source.per_epoch else math.nan
        looked = test is not None and (at == total or (looks and at % looks == 0))
        alone = [
            Report(
                at,
                total,
                epoch,
                losses[:, *which],
                _scores(evaluate, _of(state, *which), test) if looked else None,
            )
            for which in np.ndindex(key.shape)
        ]
        reports.append(_together(alone) if key.ndim else alone[0])
        answers = [callback(reports[-1], state) for callback in callbacks]
        if any(isinstance(answer, bool | np.bool) and answer for answer in answers):
            break
    return state, reports


def _first_state(recipe: Recipe, source: Source, key: jax.Array) -> TrainState:
    """A fresh train state for what the source holds; one for each of several keys."""
    prepare: Any = recipe.prepare or (lambda x: x)
    shape = jax.eval_shape(prepare, source.example).shape[1:]

    def new(key: jax.Array) -> TrainState:
        return create(recipe, key, shape)

    return jax.vmap(new)(key) if key.ndim else new(key)


def _diverged(
    recipe: Recipe, source: Source, step: int, which: list[int], loss: float, state: TrainState
) -> DivergedError:
    """What to raise for that step, of that run if there are several, whose train state is the one
    before it."""
    own, policy = _of(state, *which), recipe.policy
    x, target, key = recipe.inputs(*source.batch(step, *which), source.step_key[*which], step)
    fixed = 1.0 if policy is None else policy.fixed_scale
    scale = fixed if own.scale is None else own.scale.value
    done = dataclasses.replace(recipe, prepare=None, prepare_target=None)  # as `inputs` did both
    finding = autopsy(done, own.params, own.state, x, target, key, scale=scale)
    return DivergedError(step, loss, own, finding)


def _of(state: TrainState, *which: int) -> TrainState:
    """The train state of one run of several."""
    return jax.tree.map(lambda leaf: leaf[*which], state) if which else state


def _scores(evaluate: Evaluate, state: TrainState, test: Any) -> dict[str, float]:
    return evaluate(state.params if state.average is None else state.average, state.state, *test)


def _together(alone: Sequence[Report]) -> Report:
    """The report of several runs: means, and each."""
    scores = [report.scores for report in alone if report.scores is not None]
    means = (
        {name: float(np.mean([own[name] for own in scores])) for name in scores[0]}
        if scores
        else None
    )
    return alone[0]._replace(
        losses=np.mean([report.losses for report in alone], 0), scores=means, each=tuple(alone)
    )


def _steps(epochs: int | None, steps: int | None, per_epoch: int | None) -> int:
    if (epochs is None) == (steps is None):
        raise ValueError(
            f"fit: give either `epochs` or `steps`; got epochs={epochs}, steps={steps}"
        )
    if steps is not None:
        return steps
    if per_epoch is None:
        raise ValueError(
            "fit: an iterator does not say what an epoch is; give `steps` instead of `epochs`"
        )
    return (epochs or 0) * per_epoch
