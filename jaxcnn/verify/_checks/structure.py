"""Is the answer one at all? Captured arrays, the structure of the cotangents, and residuals
that are read when they are stale."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.verify import _trace as trace
from jaxcnn.verify._numerics.comparison import compare, error
from jaxcnn.verify._numerics.limits import TINY
from jaxcnn.verify._probe import Broken, Probe, Skip
from jaxcnn.verify._report import Failure, in_words
from jaxcnn.verify._subject import is_array, pairing, random_like, widest

REFUSING = "differentiation", "not implemented", "not differentiable", "not supported"
STEP = 1e-3  # of an input's size, by which it is moved to see whether the output moves with it


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
    given, run = probe.given, jax.eval_shape if probe.traceable else _call
    try:
        with jax.enable_x64(probe.x64):
            u = given.cotangents(probe.seed, 1)
            _, gradient = run(given.pull(given.f), given.arrays, u)
        _ = probe.compiled
    except Broken:
        raise
    except Exception as problem:
        return [_refused(probe, problem) or _raised(problem)]
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


def _refused(probe: Probe, problem: Exception) -> Failure | None:
    """The inputs in which the function cannot be differentiated, where it can in the others."""
    subject, alone = probe.subject, []
    for place in subject.places:
        one = dataclasses.replace(subject, argnums=(subject.paths[place],))
        try:
            jax.eval_shape(one.pull(one.f), one.arrays, probe.u)
        except Exception:
            alone.append(subject.paths[place])
    if not alone:
        return None
    others = [path for path in subject.names if path not in alone]
    text = str(problem).lower()
    says_so = isinstance(problem, NotImplementedError) or any(word in text for word in REFUSING)
    if not others and not says_so:  # a backward that fails, more likely
        return None
    hint = (
        f"leave {'it' if len(alone) == 1 else 'them'} out with"
        f" argnums={[path.removeprefix('args') for path in others]}"
        if others
        else "there is no gradient to prove"
    )
    return Failure(
        "structure",
        ", ".join(alone),
        f"refuses to be differentiated here: {in_words(problem, 300)}",
        f"the function has no derivative in {', '.join(alone)}, and says so: {hint}",
    )


def _raised(problem: Exception) -> Failure:
    text = str(problem).strip()
    words = in_words(problem, 600)
    if isinstance(problem, jax.errors.UnexpectedTracerError) or "reads the traced array" in text:
        return Failure(
            "captured tracers",
            "backward",
            words,
            "the rule reads a traced array that is not among its residuals, or keeps one from"
            " another call",
        )
    none = "got None" in text or "NoneType" in text
    return Failure(
        "structure",
        "backward",
        f"raised {words}",
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
                probe.noises_of_value,
            )
            wrong = (
                wrong
                and error(g, probe.oracle[1][number]) > 1e-6
                and float(np.abs(widest(probe.oracle[1][number])).max())
                > 1e3 * float(probe.noise[1][number].max())
            )
        else:
            direction = widest(
                random_like([probe.subject.leaves[number]], probe.seed, 5, number)[0]
            ) * probe.scale(number)
            at = probe.moved({number: direction})
            up, down = at(STEP), at(-STEP)
            change = abs(pairing(probe.u, up) - pairing(probe.u, down))
            # of a gradient that is 0 at the point alone, the slope goes to 0 with the step
            near = abs(pairing(probe.u, at(STEP / 8)) - pairing(probe.u, at(-STEP / 8)))
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
                bool(np.isfinite(change))
                and change > max(1e-9, 1e3 * probe.tolerance.eps) * size
                and 8 * near > change / 2
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
        [
            lambda i, source=source: 4 * source(i).max(initial=0.0)
            for source in probe.noises_of_gradient
        ],
        cause=cause,
    )
    return failures or compare(
        "stale residuals",
        subject.names,
        first,
        probe.eager[1],
        probe.tolerance,
        probe.noises_of_gradient,
        cause=cause,
    )
