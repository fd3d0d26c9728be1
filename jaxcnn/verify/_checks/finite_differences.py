"""The gradient against finite differences: along random directions, element by element where the
input is small, and the whole Jacobian where it is tiny.

A disagreement is followed to single elements before anything is said, since at a kink a finite
difference is not the derivative (see kinks.py)."""

import math

import numpy as np

from jaxcnn.verify._checks import kinks
from jaxcnn.verify._numerics import slopes
from jaxcnn.verify._numerics.comparison import Tolerance, compare
from jaxcnn.verify._numerics.directional import (
    contract,
    direction_of,
    element,
    relative,
    size_of_terms,
    slope_along,
    slope_at,
)
from jaxcnn.verify._numerics.limits import LARGE, NEGLIGIBLE, OFF, STEEP, SURE, TINY
from jaxcnn.verify._probe import Broken, Probe, Undecided
from jaxcnn.verify._report import Failure
from jaxcnn.verify._subject import Arrays, generator, is_complex, like, pairing, widest

# How many elements are looked at one by one from the start, and how many once something is
# wrong
FEW, MANY = 64, 400
OUTPUTS = 64


def against_differences(probe: Probe) -> list[Failure]:
    """⟨gradient, v⟩ against five-point central differences of ⟨u, f(x + t v)⟩, for each input."""
    if probe.failed & {"structure", "captured tracers", "determinism", "value", "gradient"}:
        raise Broken
    if all(not c.any() for c in probe.u):
        raise Undecided("no output is finite")
    failures: list[Failure] = []
    undecided = []
    for number, name in enumerate(probe.subject.names):
        x = probe.subject.leaves[number]
        if np.size(x) == 0:
            continue
        if np.size(x) <= FEW and not is_complex(x):
            suspects = [i for i in range(x.size) if not _agrees(probe, number, element(x, i))]
            decided = True
        else:
            # of each kind of direction one, where a look takes long
            looks = (0, 2) if np.size(x) > LARGE else range(4)
            verdicts = [_along(probe, number, k) for k in looks]
            decided = any(v is not None for v in verdicts)
            suspects = _search(probe, number) if False in verdicts else []
        found, unclear = _judge(probe, number, suspects)
        if found and probe.subject.reference is not None:
            probe.surrogate = True
            probe.notes["finite differences"] = (
                "the reference's own gradient is not the derivative of its value (stop_gradient,"
                " straight-through?); the rule agrees with it"
            )
            continue
        failures += found
        if not decided or (suspects and len(unclear) == len(suspects)):
            undecided.append(name)
    if not failures and probe.subject.reference is None and probe.traceable:
        failures += _jacobian(probe)
    if undecided and not failures:
        raise Undecided(f"rounding or jumps hide the slope of {', '.join(undecided)}")
    return failures


def _agrees(probe: Probe, number: int, v: np.ndarray) -> bool:
    """Whether one quick difference confirms the gradient along ``v``; False says only that a closer
    look is needed."""
    scale = probe.scale(number)
    g = widest(probe.compiled[1][number])
    analytic, size = float(np.real(np.sum(g * v))), float(np.abs(g * v).sum())
    terms = 64 * probe.tolerance.eps * size_of_terms(probe.u, probe.compiled[0])
    at = probe.moved({number: scale * v})
    for step in slopes.QUICK[:: -1 if np.size(g) > LARGE else 1]:
        measure = lambda t: np.array(contract(probe.u, at(t), probe.compiled[0]))  # noqa: E731
        numeric = float(slopes.quick(measure, step=step)) / scale
        slack = min(terms / (step * scale), 1e-4 * (size + TINY))
        if abs(numeric - analytic) <= max(1e-7, 100 * probe.tolerance.eps) * size + slack:
            return True  # nan agrees with nothing
    return False


def _along(probe: Probe, number: int, k: int) -> bool | None:
    """Whether the slope along one random direction is the gradient's; None if it cannot be told."""
    v = direction_of(probe, number, k)
    if not v.any():
        return None
    if _agrees(probe, number, v):
        return True
    g = widest(probe.compiled[1][number])
    analytic, size = float(np.real(np.sum(g * v))), float(np.abs(g * v).sum())
    s = slope_along(probe, number, v)
    gap = abs(float(s.value) - analytic)
    if gap <= OFF * s.error + STEEP * size:
        return True if s.error <= 1e-3 * max(size, abs(float(s.value))) else None
    return False


def _search(probe: Probe, number: int) -> list[int]:
    """The elements (by flat index) that may be wrong: all that a quick look does not clear, or a
    bisection's worth of them."""
    x = probe.subject.leaves[number]
    if is_complex(x):
        return [-1]
    if x.size <= MANY:
        return [i for i in range(x.size) if not _agrees(probe, number, element(x, i))]
    flat = widest(x).ravel()
    rng = generator(probe.seed, 17, number)
    v = rng.uniform(0.5, 1.5, flat.size) * rng.choice([-1, 1], flat.size)
    special = (flat == 0) | np.isin(
        flat, [u for u, c in zip(*np.unique(flat, return_counts=True), strict=True) if c > 1]
    )
    suspects: list[int] = []
    for group in (np.flatnonzero(~special), np.flatnonzero(special)):
        stack, looked = [group], 0
        while stack and len(suspects) < 24 and looked < 200:
            part = stack.pop()
            looked += 1
            w = np.zeros(flat.size)
            w[part] = v[part]
            if part.size == 0 or _agrees(probe, number, w.reshape(x.shape)):
                continue
            if part.size == 1:
                suspects.append(int(part[0]))
            else:
                stack += [part[: part.size // 2], part[part.size // 2 :]]
    return suspects


def _judge(probe: Probe, number: int, suspects: list[int]) -> tuple[list[Failure], list[int]]:
    """A closer look at each suspect: wrong, a kink (left to the check of kinks), or not to be
    told."""
    x = probe.subject.leaves[number]
    g = widest(probe.compiled[1][number])
    name = probe.subject.names[number]
    if suspects == [-1]:
        return [
            Failure(
                "finite differences",
                name,
                "the slope along random complex directions is not the gradient's (JAX pairs without"
                " conjugation)",
            )
        ], []
    want, slack, unclear = g.copy().ravel(), np.zeros(g.size), []
    for flat in suspects:
        s = slope_at(probe, number, flat)
        a = g.ravel()[flat]
        certain = math.isfinite(s.error) and s.error <= SURE * max(abs(a), abs(float(s.value)))
        gap, noises = abs(float(s.value) - a), probe.noises_of_gradient
        allowed = OFF * s.error + max(NEGLIGIBLE, probe.rtol) * abs(a) + probe.atol
        if any(
            gap <= allowed + probe.tolerance.caution * noise(number).ravel()[flat]
            for noise in noises
        ):
            if not certain:
                unclear.append(flat)
            continue
        if kinks.is_kink(probe, number, flat):
            probe.kinked.setdefault(number, []).append(flat)
        elif certain or (math.isfinite(s.error) and abs(float(s.value) - a) > 30 * s.error):
            want[flat], slack[flat] = float(s.value), OFF * s.error
        else:
            unclear.append(flat)
    tolerance = probe.allowing(Tolerance(STEEP, 0.0, probe.tolerance.eps))
    cause = probe.downcast(g, want.reshape(g.shape))
    if suspects and not want[suspects].any() and g.ravel()[suspects].all():
        cause = (
            "the output does not change with this input, yet the gradient is not 0. If on purpose"
            " (straight-through, a surrogate of a step): check(…, surrogate=g), with the function g"
            " whose derivative it is meant to have"
        )
    return (
        compare(
            "finite differences",
            [name],
            [g],
            [want.reshape(g.shape)],
            tolerance,
            cause=cause,
            noise=lambda _: slack.reshape(g.shape) / tolerance.caution,
            inputs=[widest(x)],
            numeric=lambda _, index: float(want.reshape(g.shape)[index]),
        ),
        unclear,
    )


def _jacobian(probe: Probe) -> list[Failure]:
    """Row by row, where there are few outputs and inputs: each one-hot cotangent's gradient along a
    random direction."""
    values = probe.compiled[0]
    outputs = sum(np.size(y) for y in values)
    if (
        outputs > OUTPUTS
        or probe.complex
        or sum(np.size(x) for x in probe.subject.leaves) > FEW
        or probe.kinked
    ):
        return []
    for number, name in enumerate(probe.subject.names):
        v = relative(probe, number)
        if v.size == 0:
            continue
        at = probe.moved({number: v})
        middle = (
            np.concatenate([np.real(widest(y)).ravel() for y in values]) if values else np.zeros(0)
        )
        every = slopes.slope(
            lambda t, at=at: np.concatenate([np.real(widest(y)).ravel() for y in at(t)]),
            eps=probe.tolerance.eps,
            floor=np.abs(middle).max(initial=0),
        )
        for k in range(outputs):
            g = probe.f(probe.subject.arrays, _one_hot(probe.u, k, probe.unit))[1][number]
            g = widest(g) / probe.unit
            analytic, size = pairing([g], [v]), float(np.abs(g * v).sum())
            numeric, allowed = (
                float(every.value[k]),
                OFF * float(every.error[k]) + max(NEGLIGIBLE, probe.rtol) * size + probe.atol,
            )
            sure = float(every.error[k]) <= SURE * max(abs(numeric), abs(analytic))
            if sure and not probe.within(abs(numeric - analytic), allowed, {number: v}):
                cause = (
                    "one row of the Jacobian is wrong, though all of them together looked right:"
                    " terms that cancel"
                )
                return [
                    Failure(
                        "finite differences",
                        name,
                        f"output element {k}: the slope along a random direction is {numeric:.10g},"
                        f" the rule says {analytic:.10g}",
                        cause,
                    )
                ]
    return []


def _one_hot(u: Arrays, k: int, one: float) -> Arrays:
    flat = np.zeros(sum(np.size(c) for c in u))
    flat[k] = one
    parts = np.split(flat, np.cumsum([np.size(c) for c in u])[:-1])
    return [like(p.reshape(c.shape) * (widest(c) != 0), c) for p, c in zip(parts, u, strict=True)]
