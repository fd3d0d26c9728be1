"""Is the second derivative right? The backward is differentiated in its turn: against the
reference's, or against finite differences of the backward."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.verify._numerics import slopes
from jaxcnn.verify._numerics.comparison import Tolerance, compare, error
from jaxcnn.verify._numerics.directional import contract, element, size_of_terms
from jaxcnn.verify._numerics.domains import fits
from jaxcnn.verify._numerics.limits import APART, BENT, LARGE, NEGLIGIBLE, OFF, STEEP, SURE, TINY
from jaxcnn.verify._probe import REFUSALS, Broken, Probe, Skip, Undecided
from jaxcnn.verify._report import Failure, Mismatch, in_words
from jaxcnn.verify._subject import Arrays, generator, like, pairing, quick, random_like, widest
from jaxcnn.verify._trace import equations

LOOK = 16
CUT_OFF = (
    "the first derivative is right and its own derivative is not: stop_gradient, a rounded or"
    " integer residual, or a callback in the rule cuts it off"
)


def _contracted(probe: Probe, f: object) -> Callable[[Arrays, Arrays], Any]:
    """⟨backward(x, u), v⟩ as a function of the point [x…, u…] and v."""
    subject, count = probe.subject, len(probe.subject.leaves)
    pull = subject.pull(f)  # type: ignore[arg-type]

    def contracted(point: Arrays, v: Arrays) -> Any:
        _, gradient = pull(subject.put(point[:count]), point[count:])
        return sum(jnp.sum(a * b) for a, b in zip(gradient, v, strict=True))

    return contracted


def _direction(probe: Probe, number: int = 3) -> Arrays:
    """What the gradient is contracted with."""
    return random_like(probe.subject.leaves, probe.seed, number)


def _twice(probe: Probe, f: object) -> Callable[[Arrays], Arrays]:
    """Reverse over reverse: v ↦ the gradient of ⟨backward(x, u), v⟩ in x and u."""
    compiled = quick(jax.grad(_contracted(probe, f)))
    # The probe keeps this: with a way back to the probe, neither would be freed with the report,
    # and what JAX cached for them in float64 would be met by the user's float32
    return functools.partial(compiled, [*probe.subject.leaves, *probe.u])


def _second(probe: Probe) -> Arrays:
    """The function's second derivative; a refusal by JAX is honest, a wrong number is not."""
    probe.need_first_order()
    if probe.complex:
        raise Skip("complex inputs")
    if probe.disputed:
        raise Skip("at a kink the rule and the reference follow different conventions")
    if probe.surrogate:
        raise Skip(
            "the gradient is not the derivative of the value, nor is the reference's: a second"
            " derivative is a matter of convention"
        )
    if not probe.traceable:
        raise Skip("the function cannot be traced")
    if probe.reversed_twice is None:
        try:
            probe.twice = _twice(probe, probe.subject.f)
            probe.reversed_twice = probe.twice(_direction(probe))
        except Exception as problem:
            raise Skip(f"refused with {in_words(problem)}") from None
    return probe.reversed_twice


def reverse_over_reverse(probe: Probe) -> list[Failure]:
    """The backward's own gradient: against the reference's, or against finite differences of the
    backward."""
    reverse = _second(probe)
    names = [*probe.subject.names, *(f"cotangent of output[{i}]" for i in range(len(probe.u)))]
    try:
        want = (
            _twice(probe, probe.subject.reference)(_direction(probe))
            if probe.subject.reference is not None
            else None
        )
    except Exception:  # a reference that cannot be differentiated twice is no judge
        want = None
    v = _direction(probe)
    if want is None:
        return second_by_differences(probe, names, reverse, v)
    largest = _largest(want)
    noise = 8 * probe.tolerance.eps * max(_largest(probe.u) * _largest(v), largest)
    for r, w in zip(reverse, want, strict=True):
        probe.record("reverse over reverse", error(r, w), 1e-8)
    judged = [
        np.where(np.isfinite(widest(w)), widest(w), widest(r))
        for r, w in zip(reverse, want, strict=True)
    ]
    tolerance = Tolerance(max(1e-8, probe.tolerance.rtol * 10), 0.0, probe.tolerance.eps)
    failures = compare(
        "reverse over reverse",
        names,
        reverse,
        judged,
        tolerance,
        lambda _: (
            (
                max(1e-10, probe.tolerance.floor) / probe.tolerance.caution
                + 8 * _relative_noise(probe)
            )
            * largest
            + noise
        ),
        cause=CUT_OFF,
    )
    return [
        f
        for f in failures
        if f.where not in probe.subject.names
        or f.mismatch is None
        or not jumps_twice(probe, probe.subject.names.index(f.where), f.mismatch, v)
    ]


def forward_over_reverse(probe: Probe) -> list[Failure]:
    """Forward mode through the backward agrees with reverse mode through it."""
    reverse = _second(probe)
    if "reverse over reverse" in probe.failed:
        raise Broken
    contracted, v = _contracted(probe, probe.subject.f), _direction(probe)
    point = [*probe.subject.leaves, *probe.u]
    tangents = random_like(point, probe.seed, 4)
    try:
        got = float(
            quick(lambda p: jax.jvp(lambda p: contracted(p, v), (p,), (tangents,))[1])(point)
        )
    except REFUSALS as problem:
        raise Skip(
            f"refused by JAX with {type(problem).__name__}: the backward itself calls a"
            " hand-written rule"
        ) from None
    want = pairing(reverse, tangents)
    spread = sum(
        float(np.abs(widest(g) * widest(t)).sum()) for g, t in zip(reverse, tangents, strict=True)
    )
    noise = (
        64 * probe.tolerance.eps * max(_largest(probe.u) * _largest(v) * _largest(tangents), spread)
    )
    if (
        not math.isfinite(want)
        or abs(got - want) <= max(1e-8, 10 * probe.tolerance.rtol) * spread + noise
    ):
        return []
    return [
        Failure(
            "forward over reverse",
            "all inputs",
            f"got {got:.10g}, reverse over reverse says {want:.10g}",
        )
    ]


def symmetry(probe: Probe) -> list[Failure]:
    """⟨H v, w⟩ = ⟨v, H w⟩ for the second derivative H, as for that of any function."""
    of_v = _second(probe)
    if {"reverse over reverse", "forward over reverse"} & probe.failed:
        raise Broken
    if probe.kinked or probe.small:
        raise Skip("at a kink, or a backward that is not linear on purpose")
    count = len(probe.subject.leaves)
    v, w = _direction(probe), _direction(probe, 5)
    of_w = probe.twice(w)
    left, right = pairing(of_v[:count], w), pairing(of_w[:count], v)
    spread = sum(
        float(np.abs(widest(h) * widest(d)).sum())
        for part, along in ((of_v, w), (of_w, v))
        for h, d in zip(part[:count], along, strict=True)
    )
    noise = 64 * probe.tolerance.eps * _largest(probe.u) * _largest(v) * _largest(w)
    allowed = (max(BENT, 10 * probe.tolerance.rtol) + 8 * _relative_noise(probe)) * spread + noise
    gap = abs(left - right)
    if not gap > allowed:  # nan decides nothing
        return []
    if domains := {domain for leaf in probe.subject.leaves for domain in fits(leaf)}:
        raise Undecided(
            f"the inputs are {', '.join(sorted(domains))}: off that, the gradient need not be one"
        )
    found = f"along two random directions {left:.10g} and {right:.10g}"
    program = jax.make_jaxpr(probe.subject.pull(probe.subject.f))(probe.subject.arrays, probe.u)
    if any(
        eqn.primitive.name == "stop_gradient" or "callback" in eqn.primitive.name
        for eqn, _ in equations(program.jaxpr)
    ):
        probe.notes["symmetry"] = f"not symmetric, as stop_gradient or a callback may want: {found}"
        return []
    cause = "the first derivative is right and its own derivative is that of no function"
    return [Failure("symmetry", "all inputs", f"the second derivative is not: {found}", cause)]


def _relative_noise(probe: Probe) -> float:
    """How ill-conditioned the gradient is: its measured noise, of its size."""
    sizes = [
        (float(n.max(initial=0.0)), float(np.abs(np.nan_to_num(widest(g))).max(initial=0.0)))
        for n, g in zip(probe.noise[1], probe.compiled[1], strict=True)
    ]
    return min(1.0, max((n / g for n, g in sizes if g > 0), default=0.0))


def _largest(arrays: Arrays) -> float:
    return max(
        (
            float(np.abs(np.nan_to_num(widest(a), posinf=0, neginf=0)).max(initial=0.0))
            for a in arrays
        ),
        default=0.0,
    )


def second_by_differences(
    probe: Probe, names: list[str], reverse: Arrays, v: Arrays
) -> list[Failure]:
    """d⟨backward(x, u), v⟩ by differences of the backward itself, along random directions in each
    input and cotangent.

    A disagreement counts where every direction shows it, the one that moves all elements alike and
    the one that moves each by its own size, and where the slopes from both sides are the same (a
    second derivative may jump at the point)."""
    count = len(probe.subject.leaves)
    point = [widest(p) for p in (*probe.subject.leaves, *probe.u)]
    base = probe.compiled[1]
    floor = size_of_terms(v, base)
    failures = []
    for number, (name, got) in enumerate(zip(names, reverse, strict=True)):
        rng = generator(probe.seed, 23, number)
        scale = probe.scale(number) if number < count else 1.0
        alike = rng.standard_normal(point[number].shape) * scale
        disagreements = []
        for d in (alike, alike * np.abs(point[number]) / scale):
            if not d.any():
                continue

            def along(t: float, number: int = number, d: np.ndarray = d) -> np.ndarray:
                cast = [*probe.subject.leaves, *probe.u]
                cast[number] = like(point[number] + t * d, cast[number])
                return np.array(
                    contract(v, probe.f(probe.subject.put(cast[:count]), cast[count:])[1], base)
                )

            analytic, size = pairing([got], [d]), float(np.abs(widest(got) * d).sum())
            # one quick look that agrees is enough, as all directions must disagree
            steps = slopes.QUICK[:: -1 if d.size > LARGE else 1]
            gaps = (abs(float(slopes.quick(along, step=h)) - analytic) for h in steps)
            if any(gap <= max(STEEP, probe.rtol) * size for gap in gaps):
                disagreements.append("")
                break
            disagreements.append(_disagreement(along, analytic, size, probe.tolerance.eps, floor))
        if disagreements and all(disagreements):
            failures.append(Failure("reverse over reverse", name, disagreements[0], CUT_OFF))
    return failures


def _disagreement(
    along: slopes.Measure, analytic: float, size: float, eps: float, floor: float
) -> str:
    """In words; empty where they agree or nothing can be told."""
    s = slopes.slope(along, eps=eps, floor=floor)
    value, error = float(s.value), float(s.error)
    gap = abs(value - analytic)
    if gap <= OFF * error + NEGLIGIBLE * size or error > SURE * gap:
        return ""
    return (
        ""
        if _jumps(along, eps, floor)
        else (
            f"derivative of the backward along a random direction {analytic:.10g}, by finite"
            f" differences {value:.10g}"
        )
    )


def _jumps(along: slopes.Measure, eps: float, floor: float) -> bool:
    """Whether the slope differs from side to side."""
    left, right = slopes.one_sided(along, eps=eps, floor=floor)
    apart = abs(float(left.value - right.value))
    return not apart <= APART * float(left.error + right.error) + BENT * max(
        abs(float(left.value)), abs(float(right.value))
    )


def jumps_twice(probe: Probe, number: int, found: Mismatch, v: Arrays) -> bool:
    """Whether all elements whose second derivative is off (as many as are looked at) lie where the
    first derivative has a kink."""
    x = probe.subject.leaves[number]
    off = np.flatnonzero(
        np.abs(found.got - found.expected).ravel()
        > NEGLIGIBLE * np.abs(found.expected).max(initial=TINY)
    )[:LOOK]
    base = probe.compiled[1]
    floor = size_of_terms(v, base)
    for flat in off:
        direction = element(x, int(flat)) * (
            abs(float(widest(x).ravel()[flat])) or min(1.0, probe.scale(number))
        )

        def along(t: float, direction: np.ndarray = direction) -> np.ndarray:
            leaves = [*probe.subject.leaves]
            leaves[number] = like(widest(x) + t * direction, x)
            return np.array(contract(v, probe.f(probe.subject.put(leaves), probe.u)[1], base))

        if not _jumps(along, probe.tolerance.eps, floor):
            return False
    return True
