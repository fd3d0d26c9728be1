"""Is the derivative right? Against the oracle, against finite differences, at second order, and in lower precision."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.verify.report import Failure, compare
from jaxcnn.verify.subject import Arrays, Subject, random_like

FINE = 1e-10


def against_oracle(subject: Subject, *, seed: int = 0, tolerance: float = FINE) -> list[Failure]:
    """Value and every cotangent, elementwise, against the reference and its ``jax.vjp``."""
    assert subject.reference is not None
    cotangents = subject.cotangents(seed + 1)
    value, gradient = jax.jit(subject.pull(subject.f))(subject.leaves, cotangents)
    true_value, true_gradient = jax.jit(subject.pull(subject.reference))(subject.leaves, cotangents)
    outputs = [f"output {i}" for i in range(len(true_value))]
    return [
        *compare("value", outputs, value, true_value, tolerance),
        *compare("gradient", subject.names, gradient, true_gradient, tolerance),
    ]


def against_differences(subject: Subject, *, seed: int = 0, directions: int = 3, step: float = 1e-4) -> list[Failure]:
    """⟨gradient, v⟩ against the five-point central difference of φ(t) = ⟨u, f(x + t v)⟩ at t = 0.

    The tolerance adds what rounding does to φ, so that numbers at the level of noise never decide.
    """
    cotangents = subject.cotangents(seed + 1)
    f = jax.jit(subject.primal(subject.f))
    _, gradient = jax.jit(subject.pull(subject.f))(subject.leaves, cotangents)
    failures = []
    for number, (name, x, g) in enumerate(zip(subject.names, subject.leaves, gradient, strict=True)):
        for direction in range(directions):
            rng = np.random.default_rng([seed, number, direction])
            v = rng.uniform(-1, 1, x.shape)

            def along(t: float, number: int = number, x: Any = x, v: Any = v) -> Any:
                moved: Arrays = [*subject.leaves]
                moved[number] = x + t * v
                return np.array([np.vdot(u, y) for u, y in zip(cotangents, f(moved), strict=True)])

            one, two = along(step) - along(-step), along(2 * step) - along(-2 * step)
            numeric = float(((8 * one - two) / (12 * step)).sum())
            analytic = float(np.vdot(g, v))
            size = float(np.abs(np.asarray(g) * v).sum())
            magnitude = sum(
                float(np.abs(np.asarray(u) * y).sum()) for u, y in zip(cotangents, f(subject.leaves), strict=True)
            )
            allowed = 1e-8 * size + 64 * float(jnp.finfo(x.dtype).eps) * magnitude / step
            if not abs(numeric - analytic) <= allowed:
                message = (
                    f"directional derivative {analytic!r}, by finite differences {numeric!r}, allowed gap {allowed:.3g}"
                )
                failures.append(Failure("finite differences", name, message))
                break
    return failures


def linear(subject: Subject, *, seed: int = 0, tolerance: float = FINE) -> list[Failure]:
    """The backward is linear in its cotangent, zero gives zero, and each output's part stands alone."""
    u, v = subject.cotangents(seed + 1), subject.cotangents(seed + 2)
    zero = [jnp.zeros_like(c) for c in u]

    def pulls(leaves: Arrays, combinations: list[Arrays]) -> list[Arrays]:
        _, pull = jax.vjp(subject.primal(subject.f), leaves)
        return [pull(c)[0] for c in combinations]

    alone = [[c if i == j else z for j, (c, z) in enumerate(zip(u, zero, strict=True))] for i in range(len(u))]
    mixed = [2.0 * a - 3.0 * b for a, b in zip(u, v, strict=True)]
    at_u, at_v, at_mixed, at_zero, *parts = jax.jit(pulls)(subject.leaves, [u, v, mixed, zero, *alone])
    wanted = [2.0 * a - 3.0 * b for a, b in zip(at_u, at_v, strict=True)]
    failures = compare("linear in dy", subject.names, at_mixed, wanted, _loose(tolerance, at_u, at_v, wanted))
    failures += compare("zero in, zero out", subject.names, at_zero, [np.zeros(g.shape) for g in at_u], 0.0)
    summed = [sum(part[i] for part in parts) for i in range(len(at_u))]
    return failures + compare("one output at a time", subject.names, summed, at_u, _loose(tolerance, *parts, at_u))


def _loose(tolerance: float, *terms_and_sum: Arrays) -> float:
    """A sum may be smaller than its terms: measure its error by the terms."""
    *terms, total = terms_and_sum
    growth = 1.0
    for i, t in enumerate(total):
        size = float(np.abs(t).max(initial=0.0))
        largest = max(float(np.abs(term[i]).max(initial=0.0)) for term in terms)
        growth = max(growth, largest / size if size else 1.0)
    return tolerance * growth


def second_order(subject: Subject, *, seed: int = 0, tolerance: float = 1e-9) -> list[Failure]:
    """Derivatives of ⟨backward(x, u), v⟩ in x and u: reverse over reverse and forward over reverse, against the reference's."""
    assert subject.reference is not None
    u = subject.cotangents(seed + 1)
    v = random_like(subject.leaves, seed + 3)
    tangents = random_like([*subject.leaves, *u], seed + 4)
    count = len(subject.leaves)

    def both(f: Any) -> tuple[Arrays, Any]:
        def contracted(point: Arrays) -> Any:
            _, gradient = subject.pull(f)(point[:count], point[count:])
            return sum(jnp.vdot(a, b) for a, b in zip(gradient, v, strict=True))

        point = [*subject.leaves, *u]
        return jax.jit(lambda p: (jax.grad(contracted)(p), jax.jvp(contracted, (p,), (tangents,))[1]))(point)

    (reverse, forward), (true_reverse, true_forward) = both(subject.f), both(subject.reference)
    names = [*subject.names, *(f"cotangent {i}" for i in range(len(u)))]
    # What rounding leaves of derivatives that are zero must not decide: ⟨backward, v⟩ is linear in u and v
    noise = 64 * float(np.finfo(np.float64).eps) * _largest(u) * _largest(v)
    allowed = tolerance * _largest(true_reverse) + noise
    failures = []
    for name, got, want in zip(names, reverse, true_reverse, strict=True):
        gap = float(np.abs(np.asarray(got) - np.asarray(want)).max(initial=0.0))
        if not gap <= allowed:
            failures.append(Failure("reverse over reverse", name, f"differs by {gap:.3g}, allowed {allowed:.3g}"))
    spread = sum(float(np.abs(np.asarray(g) * t).sum()) for g, t in zip(true_reverse, tangents, strict=True))
    if not abs(float(forward) - float(true_forward)) <= tolerance * spread + noise * _largest(tangents):
        failures.append(Failure("forward over reverse", "directional", f"got {forward}, expected {true_forward}"))
    return failures


def _largest(arrays: Arrays) -> float:
    return max(float(np.abs(a).max(initial=0.0)) for a in arrays)


def in_dtype(subject: Subject, dtype: Any, *, seed: int = 0, units: float = 32.0) -> list[Failure]:
    """Value and gradient computed in ``dtype`` against the reference in float64 at the same (rounded) inputs.

    The error allowed is ``units`` × machine epsilon of ``dtype``, relative to the largest element. Dtypes of the results must be those of the inputs.
    """
    assert subject.reference is not None
    narrow = subject.astype(dtype)
    cotangents = [jnp.asarray(c, dtype) for c in subject.cotangents(seed + 1)]
    shapes = jax.eval_shape(narrow.primal(narrow.f), narrow.leaves)
    cotangents = [c.astype(s.dtype) for c, s in zip(cotangents, shapes, strict=True)]
    value, gradient = jax.jit(narrow.pull(narrow.f))(narrow.leaves, cotangents)
    wide = narrow.astype(jnp.float64)
    wide_cotangents = [jnp.asarray(c, jnp.float64) for c in cotangents]
    true_value, true_gradient = jax.jit(wide.pull(subject.reference))(wide.leaves, wide_cotangents)
    allowed = units * float(jnp.finfo(dtype).eps)
    check = f"in {jnp.dtype(dtype).name}"
    outputs = [f"output {i}" for i in range(len(value))]
    failures = compare(check, outputs, value, true_value, allowed)
    failures += compare(check, subject.names, gradient, true_gradient, allowed)
    for name, g, x in zip(subject.names, gradient, narrow.leaves, strict=True):
        if g.dtype != x.dtype:
            failures.append(Failure(check, name, f"gradient has dtype {g.dtype}, the input {x.dtype}"))
    return failures


def kink(f: Any, inputs: tuple[Any, ...], gradient: Any, *, step: float = 1e-4) -> list[Failure]:
    """At a point where the derivative jumps: the rule gives the declared value, and each element lies between the one-sided differences.

    ``gradient`` is declared for a cotangent of ones.
    """
    x, *rest = inputs

    def total(x: Any) -> Any:
        return jnp.sum(f(x, *rest))

    got = np.asarray(jax.grad(total)(x))
    failures = compare("kink, as declared", ["first input"], [got], [gradient], FINE)
    base = float(total(x))
    for index in np.ndindex(x.shape):
        bump = np.zeros(x.shape)
        bump[index] = step
        right, left = (float(total(x + bump)) - base) / step, (base - float(total(x - bump))) / step
        low, high = min(left, right), max(left, right)
        slack = 1e-3 * max(1.0, abs(low), abs(high)) if math.isfinite(low + high) else math.inf
        if not low - slack <= got[index] <= high + slack:
            failures.append(Failure("kink, in the interval", str(list(index)), f"{got[index]} outside [{low}, {high}]"))
    return failures
