"""Is the first derivative right? Linear in the cotangent, equal to the oracle's, and the adjoint of
the forward derivative."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np

from jaxcnn.verify._checks import kinks
from jaxcnn.verify._numerics import slopes
from jaxcnn.verify._numerics.comparison import NARROW, Tolerance, compare, error
from jaxcnn.verify._numerics.directional import contract, relative, size_of_terms
from jaxcnn.verify._numerics.limits import LARGE, OFF, STEEP
from jaxcnn.verify._probe import REFUSALS, Probe, Skip, Undecided
from jaxcnn.verify._report import Failure
from jaxcnn.verify._subject import Arrays, like, pairing, quick, random_like, widest

ON_PURPOSE = (
    "If on purpose, as where gradients are clipped: check(…, linear=False) judges it at small"
    " cotangents"
)
FLOAT16 = float(np.finfo(np.float16).eps)  # overflows soon


def linear(probe: Probe) -> list[Failure]:
    """The backward is linear in its cotangent, zero gives zero, and each output's part stands
    alone."""
    names, u = probe.subject.names, probe.u
    v = [
        widest(c) * (widest(a) != 0) for c, a in zip(random_like(u, probe.seed, 2), u, strict=True)
    ]

    def pull(cotangents: Arrays) -> Arrays:
        cast = [like(c, a) for c, a in zip(cotangents, u, strict=True)]
        return probe.f(probe.subject.arrays, cast)[1]

    zero = [like(np.zeros(c.shape), c) for c in u]
    at_u, at_v, at_zero = probe.compiled[1], pull(v), pull(zero)
    at_mixed = pull([2.0 * widest(a) - 3.0 * b for a, b in zip(u, v, strict=True)])
    wanted = [2.0 * widest(a) - 3.0 * widest(b) for a, b in zip(at_u, at_v, strict=True)]
    failures = [
        Failure(
            "linear in dy",
            name,
            f"a cotangent of zeros gives a gradient of up to {np.abs(widest(g)).max():.3g}",
            "backward adds a term that does not depend on dy (weight decay, noise, a constant)",
        )
        for name, g in zip(names, at_zero, strict=True)
        if np.nan_to_num(widest(g)).any() and not np.isnan(widest(g)).any()
    ]
    # infinite slopes have no sums
    wanted = [
        np.where(np.isfinite(widest(a)) & np.isfinite(widest(b)), w, widest(got))
        for a, b, w, got in zip(at_u, at_v, wanted, at_mixed, strict=True)
    ]
    failures += compare(
        "linear in dy",
        names,
        at_mixed,
        wanted,
        _backward_tolerance(probe),
        [
            lambda i: _sum_noise(probe, at_u[i], at_v[i], wanted[i]),
            lambda i: 5 * probe.shaken[1][i],
        ],
        cause=(
            "backward is not linear in dy: it clips, normalises, rounds or squares the cotangent."
            f" {ON_PURPOSE}"
        ),
    )
    if not failures:  # clipping shows at large cotangents, underflow at small ones
        most = 16.0 if max(probe.tolerance.eps, probe.backward_eps) == FLOAT16 else 1024.0
        for factor in (most, 1 / most):
            scaled = [widest(g) / factor for g in pull([widest(c) * factor for c in u])]
            failures = failures or compare(
                "linear in dy",
                names,
                scaled,
                at_u,
                _backward_tolerance(probe),
                [lambda i: _sum_noise(probe, at_u[i]), lambda i: 2 * probe.shaken[1][i]],
                cause=(
                    f"backward is not linear in dy: {factor:g} × dy does not give {factor:g} × the"
                    f" gradient (clipping, overflow, underflow). {ON_PURPOSE}"
                ),
            )
    if len(u) > 1 and not failures:
        parts = [
            pull([c if i == j else z for j, (c, z) in enumerate(zip(u, zero, strict=True))])
            for i in range(len(u))
        ]
        summed = [sum(widest(part[i]) for part in parts) for i in range(len(at_u))]
        failures += compare(
            "linear in dy",
            names,
            summed,
            at_u,
            probe.tolerance,
            [
                lambda i: _sum_noise(probe, *(part[i] for part in parts), at_u[i]),
                lambda i: len(parts) * probe.shaken[1][i],
            ],
            cause="one output's cotangent at a time does not add up to all at once",
        )
    return failures


def _backward_tolerance(probe: Probe) -> Tolerance:
    """A backward that rounds is wrong, but not for being not linear: the checks of the gradient say
    what is the matter."""
    return Tolerance.of(max(probe.tolerance.eps, probe.backward_eps), probe.tolerance.terms)


def _sum_noise(probe: Probe, *terms: Any) -> float:
    """A sum may be smaller than its terms: its rounding is theirs."""
    finite = [np.abs(w[np.isfinite(w)]).max(initial=0.0) for w in map(widest, terms)]
    return probe.tolerance.floor * float(max(finite, default=0.0))


def gradient(probe: Probe) -> list[Failure]:
    """Every cotangent, elementwise, against the reference's ``jax.vjp``; elements at a kink are
    left to the check of kinks."""
    _, got = probe.compiled
    _, want = probe.oracle
    reached = [np.isfinite(widest(w)) for w in want]
    if not all(r.all() for r in reached):
        probe.notes["gradient"] = (
            "the reference's own gradient is not finite somewhere; finite differences decide there"
        )
    judged = [
        np.where(r, widest(w), widest(g)) if np.shape(g) == np.shape(w) else w
        for g, w, r in zip(got, want, reached, strict=True)
    ]
    for g, w in zip(got, judged, strict=True):
        probe.record("gradient", error(g, w), probe.tolerance.rtol)
    leaves = [widest(x) for x in probe.subject.leaves]
    failures = compare(
        "gradient",
        probe.subject.names,
        got,
        judged,
        probe.tolerance,
        probe.noises_of_gradient,
        leaves,
        exchange=True,
        numeric=lambda number, index: kinks.at_element(probe, number, index),
    )
    kept = _on_the_whole(probe, got, judged) if not failures else []
    for failure in failures:
        number = probe.subject.names.index(failure.where)
        failure = dataclasses.replace(
            failure, cause=probe.downcast(got[number], judged[number]) or failure.cause
        )
        if failure.mismatch is not None and kinks.only_kinks(probe, number, failure.mismatch):
            probe.disputed.append(failure)
        else:
            kept.append(failure)
    return kept


def _on_the_whole(probe: Probe, got: Arrays, want: Arrays) -> list[Failure]:
    """In 16 bits each element may be off by several percent, but all of them together by no common
    factor."""
    for name, g, w in zip(probe.subject.names, map(widest, got), map(widest, want), strict=True):
        square = float(np.real(np.vdot(w, w)))
        factor = float(np.real(np.vdot(w, g))) / square if square else 1.0
        if probe.tolerance.eps > NARROW and abs(factor - 1) > 4 * probe.tolerance.eps:
            return [
                Failure(
                    "gradient",
                    name,
                    f"on the whole the gradient is {factor:.3g} × expected; rounding explains"
                    f" {4 * probe.tolerance.eps:.2g}",
                    f"every element is about {factor:.3g} × expected: a constant factor is wrong or"
                    " missing",
                )
            ]
    return []


def adjoint(probe: Probe) -> list[Failure]:
    """⟨u, J v⟩ = ⟨Jᵀu, v⟩ over all inputs at once, J v by forward mode through the reference, or by
    finite differences."""
    probe.need_first_order()
    subject = probe.subject
    v = [like(relative(probe, i), leaf) for i, leaf in enumerate(subject.leaves)]
    analytic = pairing(probe.compiled[1], v)
    size = sum(
        float(np.abs(widest(g) * widest(d)).sum())
        for g, d in zip(probe.compiled[1], v, strict=True)
    )
    if not math.isfinite(analytic):
        raise Undecided("the gradient is not finite")
    if (reference := subject.reference) is not None:
        forward = quick(
            lambda leaves, v: jax.jvp(
                lambda x: subject.primal(reference)(subject.put(x)), (leaves,), (v,)
            )[1]
        )
        try:
            tangents = forward(subject.leaves, v)
        except TypeError:
            raise Skip("the reference refuses forward mode") from None
        numeric, allowed = (
            pairing(probe.u, tangents),
            max(probe.tolerance.rtol, 1e-9) * size + probe.atol,
        )
        how = "by forward mode through the reference"
    else:
        along_v = lambda t: np.array([_contract(probe, t, v)])  # noqa: E731
        if sum(d.size for d in v) > LARGE and any(
            abs(float(slopes.quick(along_v, step=h)[0]) - analytic) <= STEEP * size
            for h in reversed(slopes.QUICK)
        ):
            return []
        s = slopes.slope(along_v, eps=probe.tolerance.eps, floor=_floor(probe))
        numeric, allowed, how = (
            float(s.value[0]),
            OFF * float(s.error[0]) + max(STEEP, probe.rtol) * size + probe.atol,
            "by finite differences",
        )
        if not math.isfinite(allowed) or allowed > 0.1 * max(
            abs(analytic), abs(numeric), size / 100
        ):
            raise Undecided("rounding or a kink hides the slope along a random direction")
    if not math.isfinite(numeric):
        raise Undecided("J v is not finite")
    probe.record(
        "adjoint", abs(numeric - analytic) / size if size else 0.0, allowed / size if size else 0.0
    )
    along = {i: widest(d) for i, d in enumerate(v)}
    if probe.kinked or probe.within(abs(numeric - analytic), allowed, along):
        return []
    return [
        Failure(
            "adjoint",
            "all inputs",
            f"⟨Jᵀu, v⟩ = {analytic:.12g}, ⟨u, J v⟩ = {numeric:.12g} {how}; they may differ by"
            f" {allowed:.3g}",
        )
    ]


def _contract(probe: Probe, t: float, v: Arrays) -> float:
    moved = [
        like(widest(x) + t * widest(d), x) for x, d in zip(probe.subject.leaves, v, strict=True)
    ]
    return contract(probe.u, probe.primal(probe.subject.put(moved)), probe.compiled[0])


def _floor(probe: Probe) -> float:
    return size_of_terms(probe.u, probe.compiled[0])


def forward_mode(probe: Probe) -> list[Failure]:
    """Forward mode through the function itself: right, or refused (as every ``custom_vjp``
    must)."""
    probe.need_first_order()
    subject = probe.subject
    v = random_like(subject.leaves, probe.seed, 11)
    try:
        tangents = quick(
            lambda leaves, v: jax.jvp(
                lambda x: subject.primal(subject.f)(subject.put(x)), (leaves,), (v,)
            )[1]
        )(subject.leaves, v)
    except REFUSALS as problem:
        raise Skip(f"refused by JAX with {type(problem).__name__}, as custom_vjp does") from None
    got, want = pairing(probe.u, tangents), pairing(probe.compiled[1], v)
    size = sum(
        float(np.abs(widest(g) * widest(d)).sum())
        for g, d in zip(probe.compiled[1], v, strict=True)
    )
    along, allowed = (
        {i: widest(d) for i, d in enumerate(v)},
        probe.tolerance.rtol * size + probe.atol,
    )
    if not math.isfinite(got) or probe.within(abs(got - want), allowed, along):
        return []
    return [
        Failure(
            "forward mode",
            "all inputs",
            f"⟨u, J v⟩ = {got:.12g}, but ⟨Jᵀu, v⟩ = {want:.12g}",
            "jvp and vjp of the function disagree",
        )
    ]
