"""Is every component right in itself, the small beside the large? Value and gradient in float32
against float64, in units in the last place of each component."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.verify._checks.rounding import moved, widened
from jaxcnn.verify._numerics.comparison import Tolerance, compare
from jaxcnn.verify._probe import Probe, Skip
from jaxcnn.verify._report import Failure
from jaxcnn.verify._subject import generator, like, quick

MOST = 12  # one-hot cotangents
EPS, TINY = float(np.finfo(np.float32).eps), float(np.finfo(np.float32).tiny)


def componentwise(probe: Probe) -> list[Failure]:
    """Each component of value and gradient, for cotangents that are 1 at one place, is off by no
    more than the units in the last place that were asked for."""
    if not probe.ulps:
        raise Skip("`ulps` says how much each component may be off, and is 0")
    probe.need_first_order()
    if not probe.traceable:
        raise Skip("the function cannot be compiled")
    if float(jnp.finfo(probe.subject.leaves[0].dtype).eps) >= EPS:
        raise Skip("the answer to compare with is no more precise")
    with jax.enable_x64(probe.x64):
        narrow = probe.given.astype(jnp.float32)
        run = quick(narrow.pull(narrow.f))
        shapes = jax.eval_shape(narrow.primal(narrow.f), narrow.arrays)
    at = widened(probe, narrow)
    tolerance = Tolerance(probe.ulps * EPS, 0.0, EPS, tiny=TINY)
    outputs = [f"output[{i}]" for i in range(len(shapes))]
    for place, index in _places(shapes, probe.seed):
        u = [np.zeros(s.shape) for s in shapes]
        u[place][index] = probe.unit
        with jax.enable_x64(probe.x64):
            found = run(narrow.arrays, [like(c, s) for c, s in zip(u, shapes, strict=True)])
        wide_u = [like(c, o) for c, o in zip(u, probe.u, strict=True)]
        true = probe.f(at.arrays, wide_u)
        # how far float64 itself can be trusted
        unsure = functools.cache(
            lambda true=true, wide_u=wide_u: moved(
                at.pull(at.f), true, at, wide_u, float(np.finfo(np.float64).eps)
            )
        )
        cause = f"a small component has lost its digits (dy is 1 at {outputs[place]}{list(index)})"
        for side, names in enumerate((outputs, probe.subject.names)):
            noise = lambda i, side=side, unsure=unsure: unsure()[side][i]  # noqa: E731
            failures = compare(
                "componentwise", names, found[side], true[side], tolerance, noise, cause=cause
            )
            if failures:
                return failures
    return []


def _places(shapes: Any, seed: int) -> list[tuple[int, tuple[int, ...]]]:
    """Elements of the outputs: all, or some of many."""
    every = [(i, index) for i, s in enumerate(shapes) for index in np.ndindex(s.shape)]
    if len(every) <= MOST:
        return every
    return [every[n] for n in generator(seed, 41).choice(len(every), MOST, replace=False)]
