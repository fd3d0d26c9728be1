"""Where a function has a kink, the rule must give something between the one-sided slopes, and
(given a reference) what the reference gives.

Two inputs that are tied share a kink: along the direction in which both grow, the function may be
smooth again, so a rule that hands each of them the whole cotangent is found there though each
element alone lies in its interval."""

import itertools
import math

import numpy as np

from jaxcnn.verify._numerics.directional import Slope, element, sides, slope_at, step_at
from jaxcnn.verify._numerics.limits import APART, BENT, NEGLIGIBLE, OFF, SURE, TINY
from jaxcnn.verify._probe import Broken, Probe
from jaxcnn.verify._report import Failure, Mismatch
from jaxcnn.verify._subject import is_complex, like, widest

# How many elements of an input are looked at closely, and how many of them in pairs
LOOK, PAIRS = 24, 8


def at_element(probe: Probe, number: int, index: tuple[int, ...]) -> float | None:
    """What finite differences say at one element; None where they cannot tell."""
    x = probe.subject.leaves[number]
    if is_complex(x):
        return None
    s = slope_at(probe, number, int(np.ravel_multi_index(index, np.shape(x))) if index else 0)
    return s.value if s.error <= SURE * abs(s.value) + 1e-12 else None


def is_kink(probe: Probe, number: int, flat: int) -> bool:
    """Whether the slopes from the left and the right settle on different numbers."""
    left, right = sides(probe, _along(probe, (number, flat)), step_at(probe, number, flat))
    return _apart(left, right)


def _apart(left: Slope, right: Slope) -> bool:
    if not (math.isfinite(left.error) and math.isfinite(right.error)):
        return False
    return abs(left.value - right.value) > APART * (left.error + right.error) + BENT * max(
        abs(left.value), abs(right.value)
    )


def only_kinks(probe: Probe, number: int, found: Mismatch) -> bool:
    """Whether all elements that are off (as many as are looked at) lie at kinks; they are
    remembered."""
    x = probe.subject.leaves[number]
    if is_complex(x):
        return False
    off = np.flatnonzero(
        np.abs(found.got - found.expected).ravel()
        > NEGLIGIBLE * np.abs(found.expected).max(initial=TINY)
    )
    at = [int(i) for i in off[:LOOK] if is_kink(probe, number, int(i))]
    if not at or len(at) < len(off[:LOOK]):
        return False
    probe.kinked.setdefault(number, []).extend(
        i for i in at if i not in probe.kinked.get(number, [])
    )
    return True


def kinks(probe: Probe) -> list[Failure]:
    """At the kinks that were met: within the one-sided slopes, ties together too, and as the
    reference has it."""
    if probe.failed & {"structure", "captured tracers", "determinism"}:
        raise Broken
    failures = []
    for number, elements in probe.kinked.items():
        failures += _inside(probe, number, elements[:LOOK])
    failures = failures or _tied(probe)
    if not failures and probe.strict_kinks:
        failures = [
            Failure(
                "kinks",
                f.where,
                f.message,
                "at a kink the rule follows another convention than the reference (both lie between"
                " the one-sided slopes); `strict_kinks=False` lets either pass",
                f.mismatch,
            )
            for f in probe.disputed
        ]
    met = sum(map(len, probe.kinked.values()))
    probe.notes.setdefault("kinks", f"{met} elements at kinks" if met else "none met")
    return failures


def _inside(probe: Probe, number: int, elements: list[int]) -> list[Failure]:
    g = widest(probe.compiled[1][number])
    for flat in elements:
        left, right = sides(probe, _along(probe, (number, flat)), step_at(probe, number, flat))
        if not _between(float(g.ravel()[flat]), left, right):
            at = [int(i) for i in np.unravel_index(flat, g.shape)]
            return [
                Failure(
                    "kinks",
                    probe.subject.names[number],
                    f"at {at} the rule gives {g.ravel()[flat]:.10g}, outside the one-sided slopes"
                    f" {left.value:.10g} and {right.value:.10g}",
                    "at a kink (or tie) the rule gives no derivative of either side: the wrong"
                    " branch, or a tie counted twice?",
                )
            ]
    return []


def _between(got: float, left: Slope, right: Slope) -> bool:
    low, high = min(left.value, right.value), max(left.value, right.value)
    slack = OFF * max(left.error, right.error) + 1e-5 * max(abs(low), abs(high))
    return low - slack <= got <= high + slack


def _tied(probe: Probe) -> list[Failure]:
    """Pairs of kinks that touch: along both at once, for positive cotangents, so that what is a
    maximum stays one."""
    places = [
        (number, flat) for number, elements in probe.kinked.items() for flat in elements[:PAIRS]
    ][: 2 * PAIRS]
    u = [like(np.abs(widest(c)), c) for c in probe.u]
    if len(places) < 2:
        return []
    gradient = probe.f(probe.subject.arrays, u)[1]
    got = {(number, flat): float(widest(gradient[number]).ravel()[flat]) for number, flat in places}
    alone = {
        place: sides(probe, _along(probe, place), step_at(probe, *place), u) for place in places
    }
    for a, b in itertools.combinations(places, 2):
        both = sides(probe, _along(probe, a, b), min(step_at(probe, *a), step_at(probe, *b)), u)
        touching = any(
            abs(side.value - x.value - y.value) > 1e-3 * (abs(x.value) + abs(y.value))
            for side, x, y in zip(both, alone[a], alone[b], strict=True)
        )
        if touching and not _between(got[a] + got[b], *both):
            subject = probe.subject
            places = [(n, np.unravel_index(k, np.shape(subject.leaves[n]))) for n, k in (a, b)]
            names = [f"{subject.names[n]}{[int(i) for i in place]}" for n, place in places]
            return [
                Failure(
                    "kinks",
                    probe.subject.names[a[0]],
                    f"{names[0]} and {names[1]} are tied: together they get {got[a] + got[b]:.10g},"
                    f" where the slope along both is {both[0].value:.10g} to {both[1].value:.10g}",
                    "tied elements share one derivative: does each of them get the whole cotangent"
                    " (a tie counted twice), or none?",
                )
            ]
    return []


def _along(probe: Probe, *places: tuple[int, int]) -> dict[int, np.ndarray]:
    """The direction in which these elements grow together."""
    directions: dict[int, np.ndarray] = {}
    for number, flat in places:
        directions[number] = np.asarray(
            directions.get(number, 0) + element(probe.subject.leaves[number], flat)
        )
    return directions
