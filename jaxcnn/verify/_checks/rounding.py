"""Does the rule round well? Value and gradient in float32 (bfloat16, …) against the float64 answer
at the same inputs, in units in the last place."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.verify import _trace as trace
from jaxcnn.verify._numerics.comparison import Tolerance, compare, error
from jaxcnn.verify._probe import REFUSALS, Probe, Skip, shaken_answers
from jaxcnn.verify._report import Failure, in_words
from jaxcnn.verify._subject import (
    Arrays,
    Pull,
    Subject,
    differentiable,
    generator,
    like,
    quick,
    widest,
)


def in_dtype(probe: Probe, dtype: Any) -> list[Failure]:
    """The error in ``dtype`` is no more than its sums must have, or than a few times the
    reference's own."""
    probe.need_first_order()
    if not probe.traceable:
        raise Skip("the function cannot be compiled")
    name = f"in {jnp.dtype(dtype).name}"
    eps = float(jnp.finfo(dtype).eps)
    if float(jnp.finfo(probe.subject.leaves[0].dtype).eps) >= eps:
        raise Skip("the answer to compare with is no more precise")
    try:
        with jax.enable_x64(probe.x64):  # as the user's process is
            narrow = probe.given.astype(dtype)
            shapes = jax.eval_shape(narrow.primal(narrow.f), narrow.arrays)
            u = [like(c, s) for c, s in zip(probe.u, shapes, strict=True)]
            value, gradient = quick(narrow.pull(narrow.f))(narrow.arrays, u)
    except REFUSALS as problem:
        if any(leaf.dtype == jnp.dtype(dtype) for leaf in probe.given.leaves):
            return [Failure(name, "f", f"raised {in_words(problem, 300)}")]
        raise Skip(f"the function refuses {name}: {type(problem).__name__}") from None
    # the same rounded numbers, in full precision
    exact_at = widened(probe, narrow)
    wide_u = [like(c, o) for c, o in zip(u, probe.u, strict=True)]
    judge = probe.reference if probe.subject.reference is not None else probe.f
    true_value, true_gradient = judge(exact_at.arrays, wide_u)
    if _draws(probe) and any(
        error(a, b) > math.sqrt(eps) for a, b in zip(value, true_value, strict=True)
    ):
        raise Skip("the function draws random numbers, which are others in another dtype")
    limit = float(jnp.finfo(dtype).max)
    tolerance = probe.allowing(Tolerance.of(max(eps, probe.tolerance.eps), probe.tolerance.terms))
    noise = _unavoidable(
        probe, narrow, exact_at, u, wide_u, (true_value, true_gradient), eps, tolerance.caution
    )
    tiny = max(float(jnp.finfo(dtype).tiny) * 64, probe.atol)
    tolerance = Tolerance(tolerance.floor, tolerance.floor, eps, tiny=tiny)
    deep = functools.cache(lambda: _of_every_step(probe, exact_at, wide_u, eps))
    outputs = [f"output[{i}]" for i in range(len(value))]
    failures = []
    for names, got, want, slack in (
        (outputs, value, true_value, noise[0]),
        (probe.subject.names, gradient, true_gradient, noise[1]),
    ):
        # What no number of this dtype can hold is no error of the rule
        reachable = [
            np.where((np.abs(widest(w)) < limit / 4) & ~np.isnan(s), widest(w), widest(g))
            for g, w, s in zip(got, want, slack, strict=True)
        ]
        for number, elements in (
            probe.kinked.items() if want is true_gradient and probe.disputed else ()
        ):
            # judged by the check of kinks
            reachable[number].flat[elements] = widest(got[number]).flat[elements]
        for g, w in zip(got, reachable, strict=True):
            probe.record(name, error(g, w), tolerance.floor)
        side = 0 if want is true_value else 1
        failures += compare(
            name,
            names,
            got,
            reachable,
            tolerance,
            [
                lambda i, slack=slack: np.nan_to_num(slack[i]),
                lambda i, side=side: deep()[side][i],
            ],
        )
    return [_explained(f, name) for f in failures]


def _draws(probe: Probe) -> bool:
    """Whether the function draws random numbers."""
    names = {eqn.primitive.name for eqn, _ in trace.equations(probe.program.jaxpr)}
    return any(name.startswith(("random_bits", "random_gamma", "threefry2x32")) for name in names)


def widened(probe: Probe, narrow: Subject) -> Subject:
    """The point of ``narrow``, with the floats of the probe's precision."""
    moved = [
        like(widest(few), wide) if differentiable(wide) else wide
        for few, wide in zip(narrow.arrays, probe.subject.arrays, strict=True)
    ]
    return dataclasses.replace(probe.subject, args=probe.subject.rebuild(moved))


def _of_every_step(
    probe: Probe, at: Subject, u: Arrays, eps: float
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What rounding every step to ``eps`` does where terms cancel: of the reference; of the
    function where there is none, and for arrays of which nothing is left but rounding."""
    own = moved(at.pull(at.f), probe.f(at.arrays, u), at, u, eps)
    if probe.subject.reference is None:
        return own[0], own[1]
    still = probe.reference(at.arrays, u)
    found = moved(at.pull(probe.subject.reference), still, at, u, eps)
    for side in (0, 1):
        for i, (mine, true) in enumerate(zip(own[side], still[side], strict=True)):
            size = np.abs(np.nan_to_num(widest(true))).max(initial=0.0)
            if np.shape(mine) == np.shape(true) and size <= mine.max(initial=0.0):
                found[side][i] = np.maximum(found[side][i], mine)
    return found[0], found[1]


def moved(
    pull: Pull, still: tuple[Arrays, Arrays], at: Subject, u: Arrays, eps: float
) -> list[list[np.ndarray]]:
    """What rounding every step to ``eps`` does to each value and gradient."""
    found = [[np.zeros(np.shape(a)) for a in part] for part in still]
    for draw in shaken_answers(pull, at.arrays, u, eps=eps / 2):
        for into, was, now in zip(found, still, draw, strict=True):
            for i, (a, b) in enumerate(zip(was, now, strict=True)):
                change = np.nan_to_num(np.abs(widest(a) - widest(b)), posinf=0.0)
                into[i] = np.asarray(np.maximum(into[i], change))
    return found


def _explained(failure: Failure, name: str) -> Failure:
    cause = failure.cause
    if failure.mismatch is None or not np.isfinite(failure.mismatch.got).all():
        cause = (
            f"overflow or 0/0 {name} where float64 still copes: rescale before exponentials,"
            " squares and quotients"
        )
    elif not cause:
        cause = (
            f"right in float64, badly rounded {name}: a difference of large numbers, or a sum kept"
            " in too few bits"
        )
    return Failure(failure.check, failure.where, failure.message, cause, failure.mismatch)


def _unavoidable(
    probe: Probe,
    narrow: Any,
    exact_at: Any,
    u: Arrays,
    wide_u: Arrays,
    truth: tuple[Arrays, Arrays],
    eps: float,
    caution: float,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What the reference loses in this dtype, and what a change in the last place of the inputs
    does in float64; nan where the reference itself gives no number."""
    factors = [(1 + eps, 1.0), (1 - eps, 1.0), (1.0, 1 + eps)]
    judge = probe.reference if probe.subject.reference is not None else probe.f
    spread = [[np.zeros(np.shape(a)) for a in part] for part in truth]
    rng = generator(probe.seed, 31)
    for on_x, on_u in factors:
        leaves = [
            like(widest(x) * (1 + (on_x - 1) * rng.choice([-1.0, 1.0], np.shape(x))), x)
            for x in exact_at.leaves
        ]
        moved = judge(exact_at.put(leaves), [like(widest(c) * on_u, c) for c in wide_u])
        for into, was, now in zip(spread, truth, moved, strict=True):
            for i, (a, b) in enumerate(zip(was, now, strict=True)):
                change = np.nan_to_num(np.abs(widest(a) - widest(b)), posinf=0.0)
                large = np.abs(np.nan_to_num(widest(a), posinf=0, neginf=0)).max(initial=0.0)
                into[i] = np.asarray(
                    np.maximum(into[i], np.where(change > 1e3 * eps * large, 0.0, change))
                )
    if probe.subject.reference is not None:
        try:
            own = quick(narrow.pull(probe.subject.reference))(narrow.arrays, u)
        except REFUSALS:
            own = truth
        for into, was, now in zip(spread, truth, own, strict=True):
            for i, (a, b) in enumerate(zip(was, now, strict=True)):
                gap = np.abs(widest(a) - widest(b))
                lost = np.isfinite(widest(a)) & ~np.isfinite(widest(b))
                into[i] = np.asarray(
                    np.where(
                        lost,
                        np.nan,
                        np.maximum(into[i], np.nan_to_num(gap, posinf=0.0) / caution * 16),
                    )
                )
    return spread[0], spread[1]
