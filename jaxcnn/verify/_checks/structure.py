"""Is the answer one at all? Captured arrays, the structure of the cotangents, and residuals
that are read when they are stale."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.verify import _trace as trace
from jaxcnn.verify._numerics.comparison import compare, error
from jaxcnn.verify._numerics.limits import TINY
from jaxcnn.verify._probe import Probe, Skip
from jaxcnn.verify._report import Failure
from jaxcnn.verify._subject import is_array, pairing, random_like, widest


def captured(probe: Probe) -> list[Failure]:
    """A backward reads its residuals only: what it closes over gets no gradient, and JAX says
    nothing."""
    if not probe.traceable:
        raise Skip("the function cannot be traced")
    return [
        Failure(
            "captured tracers",
            variable,
            f"the rule of {rule} reads {variable} ({shape}), which depends on the inputs and is not"
            " among its residuals",
            f"{variable} is captured: make it an input of the rule and return it in the residuals,"
            " or its gradient is lost",
        )
        for rule, variable, shape in trace.captures(probe.program, probe.dependent, probe.smooth)
    ]


def structure(probe: Probe) -> list[Failure]:
    """One cotangent an input, of its shape and dtype, none silently ``None``; checked in the user's
    own dtypes."""
    given = probe.given
    u = given.cotangents(probe.seed + 1)
    try:
        _, gradient = (jax.eval_shape if probe.traceable else _call)(
            given.pull(given.f), given.arrays, u
        )
        _ = probe.compiled
    except Exception as problem:
        return [_raised(problem)]
    failures = []
    for name, x, g in zip(given.names, given.leaves, gradient, strict=True):
        if g.dtype != x.dtype or g.shape != x.shape:
            what = f"the cotangent is {g.dtype}{list(g.shape)}, the input {x.dtype}{list(x.shape)}"
            failures.append(
                Failure(
                    "structure",
                    name,
                    what,
                    f"backward returns {g.dtype} for an input of {x.dtype}: JAX does not check"
                    " dtypes",
                )
            )
        elif getattr(g, "weak_type", False) and not getattr(x, "weak_type", False):
            failures.append(
                Failure(
                    "structure",
                    name,
                    "the cotangent is weakly typed, the input is not",
                    "backward returns a Python number: give it the input's dtype",
                )
            )
    silent = _returns_none(probe)
    for number in _cut_off(probe):
        name = probe.subject.names[number]
        cause = (
            "backward returns None for it, which JAX takes for zeros"
            if name in silent
            else ("backward returns None or zeros for it, or stop_gradient cuts it off")
        )
        failures.append(
            Failure(
                "structure",
                name,
                "the gradient is 0 for every element, but the output changes with this input",
                cause,
            )
        )
    return failures


def _call(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


def _raised(problem: Exception) -> Failure:
    text = str(problem).strip()
    first = text.split("\n\n")[0][:600]
    if isinstance(problem, jax.errors.UnexpectedTracerError) or "reads the traced array" in text:
        return Failure(
            "captured tracers",
            "backward",
            f"{type(problem).__name__}: {first}",
            "the rule reads a traced array that is not among its residuals, or keeps one from"
            " another call",
        )
    none = "got None" in text or "NoneType" in text
    return Failure(
        "structure",
        "backward",
        f"raised {type(problem).__name__}: {first}",
        (
            "backward returns None for an input that has a derivative"
            if none
            else (
                "the backward cannot be run: look at the shapes, the number and the tree of what it"
                " returns"
            )
        ),
    )


def _returns_none(probe: Probe) -> list[str]:
    """The inputs for which a bare ``custom_vjp`` function returns ``None``, by path."""
    f, given = probe.subject.f, probe.subject
    if not isinstance(f, jax.custom_vjp) or f.nondiff_argnums or getattr(f, "bwd", None) is None:
        return []
    try:
        y, residuals = f.fwd(*given.args)  # type: ignore[attr-defined]
        cotangents = f.bwd(residuals, jax.tree.map(jnp.ones_like, y))  # type: ignore[attr-defined]
        return [
            p
            for i, arg in enumerate(given.args)
            if cotangents[i] is None and is_array(arg)
            for p in [f"args[{i}]"]
        ]
    except Exception:  # a rule that cannot be called by hand is judged by its numbers
        return []


def _cut_off(probe: Probe) -> list[int]:
    """The leaves whose gradient is zero everywhere while the output (or the reference's gradient)
    says otherwise."""
    _, gradient = probe.compiled
    found = []
    for number, g in enumerate(gradient):
        if np.size(g) == 0 or widest(g).any():
            continue
        if probe.subject.reference is not None:
            wrong = bool(widest(probe.oracle[1][number]).any()) and not compare(
                "",
                [""],
                probe.compiled[0][:1],
                probe.oracle[0][:1],
                probe.tolerance,
                probe.noise_of_value,
            )
            wrong = (
                wrong
                and error(g, probe.oracle[1][number]) > 1e-6
                and float(np.abs(widest(probe.oracle[1][number])).max())
                > 1e3 * float(probe.noise[1][number].max())
            )
        else:
            direction = widest(
                random_like([probe.subject.leaves[number]], [probe.seed, 5, number])[0]
            ) * probe.scale(number)
            at = probe.moved({number: direction})
            up, down = at(1e-3), at(-1e-3)
            change = abs(pairing(probe.u, up) - pairing(probe.u, down))
            size = max(
                np.sqrt(
                    sum(
                        float((np.abs(widest(c) * widest(y)) ** 2).sum())
                        for c, y in zip(probe.u, up, strict=True)
                    )
                ),
                TINY,
            )
            wrong = (
                bool(np.isfinite(change)) and change > max(1e-9, 1e3 * probe.tolerance.eps) * size
            )
        if wrong:
            found.append(number)
    return found


def stale(probe: Probe) -> list[Failure]:
    """Two forwards before the first backward: each backward must belong to its own forward."""
    probe.need_structure()
    subject = probe.subject
    if all(
        np.array_equal(widest(a), widest(b))
        for a, b in zip(subject.leaves, (probe.variants[i] for i in subject.places), strict=True)
    ):
        raise Skip("all inputs are zero: there is no other point to call at")
    pulls = []
    for arrays in (subject.arrays, probe.variants):
        moved = lambda leaves, arrays=arrays: subject.primal(subject.f)(subject.put(leaves, arrays))  # noqa: E731
        pulls.append(jax.vjp(moved, [arrays[i] for i in subject.places])[1])
    first, other = pulls[0](probe.u)[0], pulls[1](probe.u)[0]
    cause = (
        "the backward uses what another call left behind: residuals must be returned, not kept in a"
        " list, a global or an attribute"
    )
    there = probe.f(probe.variants, probe.u)[1]
    failures = compare(
        "stale residuals",
        subject.names,
        other,
        there,
        probe.tolerance,
        lambda i: 4 * probe.noise[1][i].max(initial=0.0),
        cause=cause,
    )
    return failures or compare(
        "stale residuals",
        subject.names,
        first,
        probe.eager[1],
        probe.tolerance,
        probe.noise_of_gradient,
        cause=cause,
    )
