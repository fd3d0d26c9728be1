"""Slopes of ⟨u, f⟩ at the point of a probe: along a direction in one input, or at one of its
elements."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxcnn.verify._numerics import slopes
from jaxcnn.verify._numerics.limits import TINY
from jaxcnn.verify._probe import Probe
from jaxcnn.verify._subject import Arrays, generator, is_complex, widest


class Slope(NamedTuple):
    """A number and how far to trust it."""

    value: float
    error: float


def contract(u: Arrays, y: Arrays, y0: Arrays) -> float:
    """Re Σ u (y − y0): differences first, so that large values do not drown small changes; where u
    is 0 nothing counts."""
    total = 0.0
    for c, a, b in zip(u, y, y0, strict=True):
        w, gap = widest(c), widest(a) - widest(b)
        if not w.all():
            gap = np.where(w == 0, 0, gap)
        total += float(np.real(np.sum(w * gap)))
    return total


def size_of_terms(u: Arrays, y: Arrays) -> float:
    """√Σ|u y|²: what rounding in y does to ⟨u, y⟩, in units of epsilon."""
    parts = [
        np.abs(
            np.where(widest(c) == 0, 0, widest(c) * np.nan_to_num(widest(a), posinf=0, neginf=0))
        )
        ** 2
        for c, a in zip(u, y, strict=True)
    ]
    return math.sqrt(sum(float(p.sum()) for p in parts))


def element(x: Any, flat: int) -> np.ndarray:
    """The direction in which one element alone grows."""
    v = np.zeros(np.size(x))
    v[flat] = 1.0
    return v.reshape(np.shape(x))


def direction_of(probe: Probe, number: int, k: int) -> np.ndarray:
    """Random directions: two that move all elements alike, two that move each by its own size
    (these stay within the domain of a logarithm)."""
    x = probe.subject.leaves[number]
    rng = generator(probe.seed, 41, number, k)
    v = rng.uniform(0.2, 1, np.shape(x)) * rng.choice([-1.0, 1.0], np.shape(x))
    if is_complex(x):
        v = v * np.exp(2j * math.pi * rng.uniform(size=np.shape(x)))
    return np.asarray(v if k < 2 else v * np.abs(widest(x)) / probe.scale(number))


def relative(probe: Probe, number: int) -> np.ndarray:
    """A direction of random signs that moves each element by its own size, and zeros by no more
    than 1: steps along it stay local."""
    x = np.abs(widest(probe.subject.leaves[number]))
    v = direction_of(probe, number, 0)
    return np.asarray(
        np.where(v == 0, 0, v / np.maximum(np.abs(v), TINY))
        * np.where(x == 0, min(1.0, probe.scale(number)), x)
    )


def slope_along(probe: Probe, number: int, v: np.ndarray, scale: float = 0.0) -> Slope:
    """d⟨u, f(x + t v)⟩/dt with an error."""
    scale = scale or probe.scale(number)
    at = probe.moved({number: scale * v})
    s = slopes.slope(
        lambda t: np.array(contract(probe.u, at(t), probe.compiled[0])),
        eps=probe.tolerance.eps,
        floor=size_of_terms(probe.u, probe.compiled[0]),
    )
    return Slope(float(s.value) / scale, float(s.error) / scale)


def slope_at(probe: Probe, number: int, flat: int) -> Slope:
    """The slope at one element."""
    return _settled(probe, number, flat)[0]


def step_at(probe: Probe, number: int, flat: int) -> float:
    """The scale on which the function is smooth around one element."""
    return _settled(probe, number, flat)[1]


def _settled(probe: Probe, number: int, flat: int) -> tuple[Slope, float]:
    """The slope by the smallest scale that settles it: the element's own size, that of the others,
    or 1.

    A large step may find a perfectly steady slope that has nothing to do with the point (tanh seen
    from afar is a step), so the surest answer is not the best one."""
    if (number, flat) not in probe.settled:
        sizes = np.abs(np.real(widest(probe.subject.leaves[number]))).ravel()
        others = sizes[np.isfinite(sizes) & (sizes > 0)]
        own = [float(sizes[flat])] if np.isfinite(sizes[flat]) and sizes[flat] > 0 else []
        scales = sorted(
            {
                *own,
                *(map(float, (others.min(), np.median(others))) if others.size else ()),
                probe.scale(number),
                1.0,
            }
        )
        v = element(probe.subject.leaves[number], flat)
        answers = []
        analytic = abs(float(np.real(widest(probe.compiled[1][number]).ravel()[flat])))
        for scale in scales:
            answers.append((slope_along(probe, number, v, scale), scale))
            s = answers[-1][0]
            if s.error <= 1e-3 * max(abs(s.value), analytic):
                break
        else:
            answers.sort(key=lambda a: a[0].error)
            answers.append(answers[0])
        probe.settled[number, flat] = answers[-1]
    return probe.settled[number, flat]


def sides(
    probe: Probe, directions: Mapping[int, np.ndarray], scale: float, u: Arrays | None = None
) -> tuple[Slope, Slope]:
    """The slopes from the left and the right, along a direction in one leaf or in several."""
    u = probe.u if u is None else u
    at = probe.moved({number: scale * v for number, v in directions.items()})
    left, right = slopes.one_sided(
        lambda t: np.array(contract(u, at(t), probe.compiled[0])),
        eps=probe.tolerance.eps,
        floor=size_of_terms(u, probe.compiled[0]),
    )
    return Slope(float(left.value) / scale, float(left.error) / scale), Slope(
        float(right.value) / scale, float(right.error) / scale
    )
