"""Is the value right, and the same whenever it is asked for? Determinism, NaN and infinity, the
value, and that compiling changes nothing."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn._core.compiler import FLAG
from jaxcnn.verify._numerics.comparison import compare, error, same
from jaxcnn.verify._probe import Probe, finite
from jaxcnn.verify._report import Failure
from jaxcnn.verify._subject import Arrays, is_array, quick, widest


def determinism(probe: Probe) -> list[Failure]:
    """The same call gives the same bits, eager and compiled."""
    probe.need_structure()
    arrays = probe.subject.arrays
    again = probe.subject.pull(probe.subject.f)(arrays, probe.u)
    failures = _bits(probe, "two equal calls", again, probe.eager)
    if not failures and probe.traceable:
        failures = _bits(
            probe, "two runs of one compiled program", probe.f(arrays, probe.u), probe.compiled
        )
    return failures


def _bits(
    probe: Probe, how: str, got: tuple[Arrays, Arrays], want: tuple[Arrays, Arrays]
) -> list[Failure]:
    names = [*(f"output[{i}]" for i in range(len(got[0]))), *probe.subject.names]
    for name, a, b in zip(names, [*got[0], *got[1]], [*want[0], *want[1]], strict=True):
        x, y = widest(a), widest(b)
        if not same(x, y).all() and error(a, b) > probe.bits:
            worst = float(np.abs(np.where(same(x, y), 0, x - y)).max())
            return [
                Failure(
                    "determinism",
                    name,
                    f"{how} differ by up to {worst:.3g}",
                    "the rule is not a function of its inputs: a random generator, a counter or"
                    " other state outside, or an unordered sum",
                )
            ]
    return []


def not_finite(probe: Probe) -> list[Failure]:
    """No nan where there is a derivative; infinities only where the reference has them."""
    value, gradient = probe.compiled
    names = [*(f"output[{i}]" for i in range(len(value))), *probe.subject.names]
    wanted = [*probe.oracle[0], *probe.oracle[1]] if probe.subject.reference is not None else None
    failures = []
    for i, (name, got) in enumerate(zip(names, [*value, *gradient], strict=True)):
        a = widest(got)
        bad = ~np.isfinite(a)
        if wanted is not None:
            bad &= np.isfinite(widest(wanted[i])) if np.shape(wanted[i]) == a.shape else False
        elif i < len(value):
            bad = np.zeros(a.shape, bool)
        else:
            bad = np.isnan(a)
        if bad.any():
            at = tuple(int(k[0]) for k in np.nonzero(bad))
            expected = "" if wanted is None else f", expected {widest(wanted[i])[at]:.10g}"
            failures.append(
                Failure(
                    "NaN and infinity",
                    name,
                    f"first at {list(at)}: got {a[at]}{expected}; {int(bad.sum())} of {a.size}"
                    " elements",
                    "0/0, ∞·0 or an overflow that must be kept out before it is computed (a `where`"
                    " afterwards is too late)",
                )
            )
    if not finite(value):
        probe.notes["NaN and infinity"] = (
            "some outputs are not finite; their cotangents are taken as 0"
        )
    return failures


def value(probe: Probe) -> list[Failure]:
    """The function equals its reference, and under differentiation what it is outside."""
    names = [f"output[{i}]" for i in range(len(probe.compiled[0]))]
    outside = probe.primal(probe.subject.arrays)
    failures = compare(
        "value",
        names,
        probe.compiled[0],
        outside,
        probe.tolerance,
        probe.noises_of_value,
        cause=(
            "under differentiation the forward of the rule returns another value than the function"
            " does outside"
        ),
    )
    if probe.subject.reference is None or failures:
        return failures
    got, want = (_outputs(probe, f) for f in (probe.subject.f, probe.subject.reference))
    if len(got) != len(want):
        return [
            Failure(
                "value",
                "outputs",
                f"the function returns {len(got)} arrays, the reference {len(want)}",
            )
        ]
    number = 0
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        if jnp.issubdtype(a.dtype, jnp.inexact):
            probe.record("value", error(a, b), probe.tolerance.rtol)
            failures += compare(
                "value",
                [f"output[{i}]"],
                [a],
                [b],
                probe.tolerance,
                [lambda _, k=number, n=n: n(k) for n in probe.noises_of_value],
            )
            number += 1
        elif a.shape != b.shape or not bool((a == b).all()):
            failures.append(
                Failure(
                    "value",
                    f"output[{i}]",
                    f"{a.dtype}{list(a.shape)} differs from the reference's"
                    f" {b.dtype}{list(b.shape)}",
                )
            )
    return failures


def _outputs(probe: Probe, f: Callable[..., Any]) -> Arrays:
    """All arrays that ``f`` returns, integers too."""

    def run(arrays: Any) -> Arrays:
        return [x for x in jax.tree.leaves(f(*probe.subject.rebuild(arrays))) if is_array(x)]

    return (quick(run) if probe.traceable else run)(probe.subject.arrays)


def jit(probe: Probe) -> list[Failure]:
    """Eager equals compiled, value and gradient."""
    if not probe.traceable:
        return [
            Failure(
                "jit",
                "f",
                f"cannot be compiled: {probe.untraceable}",
                "Python control flow on traced values: use lax.cond, lax.select or jnp.where",
            )
        ]
    names = [f"output[{i}]" for i in range(len(probe.eager[0]))]
    cause = (
        "the rule behaves otherwise when compiled: does it look at whether its arrays are traced,"
        " or keep state?"
    )
    answer = probe.compiled
    if probe.faults:  # elsewhere they are cured; here is what a user's own jit would give
        answer = probe.f.careful.plain(probe.subject.arrays, probe.u)  # type: ignore[attr-defined]
        cause = f"the compiler, not the rule: {' and '.join(probe.faults)}; right with {FLAG}"
    outputs, gradients = (
        compare("jit", names, got, want, probe.tolerance, noises, cause=cause)
        for names, got, want, noises in (
            (names, answer[0], probe.eager[0], probe.noises_of_value),
            (probe.subject.names, answer[1], probe.eager[1], probe.noises_of_gradient),
        )
    )
    return outputs + gradients


def describe(f: Any) -> str:
    """A name for a function, as a reader would write it."""
    name = (
        getattr(f, "__qualname__", None) or getattr(f, "__name__", None) or getattr(f, "name", None)
    )
    return name or (
        describe(f.func) if hasattr(f, "func") else repr(f) if not inspect.isfunction(f) else "f"
    )
