"""Is the rule as right at another point? One that reads a global array, which happens to be the
very input that is checked, is right at that input alone: the slip of notebooks.

Two points of the checker's own are tried: the elements in another order (rows still sum to 1,
matrices stay symmetric and positive definite), and all of them a little smaller (what was sorted
stays so). Without a reference a rule is wrong only where it is wrong at both, since either may
leave the domain on which it is right."""

import math
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxcnn._core.captures import reach
from jaxcnn._core.op import Op
from jaxcnn.verify import _trace as trace
from jaxcnn.verify._numerics.comparison import compare
from jaxcnn.verify._numerics.directional import contract, size_of_terms
from jaxcnn.verify._numerics.limits import OFF, STEEP, SURE
from jaxcnn.verify._numerics.slopes import slope
from jaxcnn.verify._probe import Probe, Skip, finite
from jaxcnn.verify._report import Failure
from jaxcnn.verify._subject import (
    Arrays,
    differentiable,
    generator,
    is_array,
    like,
    pairing,
    widest,
)

NAME = "another point"


def elsewhere(probe: Probe) -> list[Failure]:
    """At another point, which no array of the user's equals, the gradient is as right as here."""
    probe.need_first_order()
    if probe.kinked or probe.disputed or probe.complex or not probe.traceable:
        raise Skip("kinks, complex inputs or Python control flow")
    found: list[Failure] = []
    for arrays in _points(probe):
        there = _wrong_at(probe, arrays)
        if there and probe.subject.reference is not None:
            return there  # where the reference has the same value, and another gradient
        if not there:
            return []
        found = found or there
    return found


def _points(probe: Probe) -> list[Arrays]:
    rolled = [like(_rolled(widest(x)), x) if differentiable(x) else x for x in probe.subject.arrays]
    others = (rolled, probe.subject.put([probe.variants[i] for i in probe.subject.places]))
    return [
        arrays
        for arrays in others
        if any(
            not np.array_equal(widest(arrays[i]), widest(probe.subject.arrays[i]))
            for i in probe.subject.places
        )
    ]


def _rolled(x: np.ndarray) -> np.ndarray:
    return np.roll(x, [1] * x.ndim, list(range(x.ndim))) if x.ndim else x


def _wrong_at(probe: Probe, arrays: Arrays) -> list[Failure]:
    subject, u = probe.subject, probe.u
    value, gradient = probe.f(arrays, u)
    if not finite(value) or not finite(gradient):
        return []
    cause = _cause(probe)
    if subject.reference is not None:
        true_value, want = probe.reference(arrays, u)
        outputs = [""] * len(value)
        if compare(NAME, outputs, value, true_value, probe.tolerance, probe.noises_of_value):
            return []  # off the domain on which the two are the same function
        sources = [
            lambda i, source=source: OFF * source(i).max(initial=0.0)
            for source in probe.noises_of_gradient
        ]
        judged = [
            np.where(np.isfinite(widest(w)), widest(w), widest(g))
            for g, w in zip(gradient, want, strict=True)
        ]
        return compare(NAME, subject.names, gradient, judged, probe.tolerance, sources, cause=cause)
    rng = generator(probe.seed, 53)
    leaves = [arrays[i] for i in subject.places]
    v = [rng.choice([-1.0, 1.0], np.shape(x)) * np.abs(widest(x)) for x in leaves]

    def along(t: float) -> np.ndarray:
        moved = [like(widest(x) + t * d, x) for x, d in zip(leaves, v, strict=True)]
        return np.array(contract(u, probe.primal(subject.put(moved, arrays)), value))

    analytic = pairing(gradient, v)
    size = sum(float(np.abs(widest(g) * d).sum()) for g, d in zip(gradient, v, strict=True))
    s = slope(along, eps=probe.tolerance.eps, floor=size_of_terms(u, value))
    numeric, error = float(s.value), float(s.error)
    gap = abs(numeric - analytic)
    allowed = OFF * error + max(STEEP, probe.rtol) * size + probe.atol
    sure = math.isfinite(error) and error <= SURE * gap
    if not sure or probe.within(gap, allowed, dict(enumerate(v))):
        return []
    return [
        Failure(
            NAME,
            "all inputs",
            f"at another point the slope along a random direction is {numeric:.10g}, the rule says"
            f" {analytic:.10g}; they may differ by {allowed:.3g}",
            cause,
        )
    ]


def _cause(probe: Probe) -> str:
    """In words; with the names of the arrays that the backward holds and that equal an input or an
    output here."""
    known = [widest(a) for a in (*probe.subject.leaves, *probe.compiled[0])]
    names = {
        f"`{name}`"
        for bwd in trace.backwards(probe.program)
        for name, value in _arrays(bwd)
        if any(np.shape(value) == k.shape and np.allclose(widest(value), k, 1e-6) for k in known)
    }
    hint = f" ({', '.join(sorted(names))} equals an input or output of this call)" if names else ""
    return (
        "right at the point that was given and nowhere else: does the backward read an array from"
        f" outside, where it should read its residuals?{hint}"
    )


def _arrays(function: Any) -> Iterator[tuple[str, Any]]:
    """The arrays that a function reaches: by closure, default, binding, or as a global."""
    functions = [function]
    for name, value in reach(function) if function is not None else ():
        functions.append(value.backward if isinstance(value, Op) else value)
        if is_array(value) and not hasattr(value, "_trace"):
            yield name, value
    for one in functions:
        if isinstance(one, types.FunctionType):
            for name in one.__code__.co_names:
                value = one.__globals__.get(name)
                if is_array(value) and differentiable(value):
                    yield name, value
