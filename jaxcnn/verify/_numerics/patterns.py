"""What do the wrong elements have in common? A pattern in words, and a guess at its cause.

Patterns are looked for from the most to the least telling, and named only where they explain all of
the difference (to a part in 10⁶ of it, or to the precision of a narrower dtype).

>>> import numpy as np
>>> want = np.array([[1.0, -2.0], [3.0, 0.5]])
>>> recognise(want / 4, want, np.ones((2, 2), bool))
Pattern(words='all elements are 0.25 × expected', cause='every element is 0.25 × expected:
1/4, the number of elements: mean taken for sum?')
>>> recognise(want.T, want, want != want.T).words
'transposed: axes 0 and 1 are exchanged'
"""

import itertools
import math
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np

from jaxcnn.verify._numerics import locations
from jaxcnn.verify._numerics.limits import ALIKE, TINY
from jaxcnn.verify._numerics.locations import NONE, Pattern

NEAR_ONE = 1e-3  # a factor that is nearer to 1 is no factor that somebody forgot


def recognise(
    got: np.ndarray, want: np.ndarray, off: np.ndarray, x: np.ndarray | None = None
) -> Pattern:
    """The first pattern that fits; ``off`` marks the elements that disagree, ``x`` is the input
    that they are the gradient of."""
    got, want, off = np.atleast_1d(got), np.atleast_1d(want), np.atleast_1d(off)
    if not np.isfinite(got).all():
        return _not_finite(got, want)
    if not np.isfinite(want).all() or got.size == 0:
        return NONE
    for look in (_zero, _scaled, _negated_part, _moved, _rounded):
        if found := look(got, want, off):
            return found
    if found := locations.confined(off) or locations.tied(
        off, None if x is None else np.atleast_1d(x)
    ):
        return found
    for look in (_scaled_along, _all_but_first, _offset, _shuffled):
        if found := look(got, want, off):
            return found
    return NONE


def exchanged(
    got: Sequence[np.ndarray], want: Sequence[np.ndarray], names: Sequence[str], number: int
) -> Pattern:
    """Whether ``got[number]`` is another input's gradient."""
    for other, b in enumerate(want):
        if (
            other != number
            and b.size > 1
            and _close(got[number], b)
            and not _close(want[number], b)
        ):
            return Pattern(
                f"equals the gradient of {names[other]}",
                f"the cotangents of {names[number]} and {names[other]} are swapped: backward"
                " returns them in the wrong order?",
            )
    return NONE


def _close(a: np.ndarray, b: np.ndarray, rtol: float = ALIKE) -> bool:
    if a.shape != b.shape:
        return False
    return bool(np.abs(a - b).max(initial=0.0) <= rtol * np.abs(b).max(initial=0.0))


def _not_finite(got: np.ndarray, want: np.ndarray) -> Pattern:
    bad = ~np.isfinite(got) & np.isfinite(want)
    kind = "nan" if np.isnan(got[bad]).any() else "infinite"
    if not bad.any():
        return NONE
    return Pattern(
        f"{int(bad.sum())} elements are {kind}",
        f"{kind} where the derivative is finite: 0/0, ∞·0 or an overflow that a `where` should keep"
        " out before it is computed",
    )


def _zero(got: np.ndarray, want: np.ndarray, off: np.ndarray) -> Pattern:
    if got.any():
        return NONE
    return Pattern(
        "all elements are 0",
        "the gradient is 0 everywhere: backward returns None or zeros for it, stop_gradient cuts"
        " it, or the rule reads it past its residuals",
    )


def _scaled(got: np.ndarray, want: np.ndarray, off: np.ndarray) -> Pattern:
    factor = _ratio(got, want)
    if factor is None:
        return NONE
    if abs(factor - 1) < NEAR_ONE:
        return Pattern(
            f"all elements are {factor:.10g} × expected",
            f"right to {abs(factor - 1):.2g}: every element is {factor:.10g} × expected; a constant"
            " of too few digits, or a step in lower precision?",
        )
    return Pattern(
        f"all elements are {factor:.6g} × expected",
        f"every element is {factor:.6g} × expected: {_factor_cause(factor, got.shape)}",
    )


def _ratio(got: np.ndarray, want: np.ndarray) -> float | None:
    square = np.vdot(want, want).real
    if not square:
        return None
    factor = float(np.vdot(want, got).real / square)
    return (
        factor
        if _close(got, factor * want) and not math.isclose(factor, 1.0, abs_tol=1e-12)
        else None
    )


def _factor_cause(factor: float, shape: tuple[int, ...]) -> str:
    size = math.prod(shape)
    if math.isclose(factor, -1, rel_tol=ALIKE):
        return "a wrong sign?"
    counts = {
        size: "the number of elements",
        **{n: f"the length of axis {a}" for a, n in enumerate(shape)},
    }
    counts |= {
        math.prod(shape[i:j]): f"the size of axes {i} to {j - 1}"
        for i, j in itertools.combinations(range(len(shape) + 1), 2)
        if j > i + 1
    } | counts
    for count, words in counts.items():
        if count > 1 and math.isclose(factor, 1 / count, rel_tol=ALIKE):
            return f"1/{count}, {words}: mean taken for sum?"
        if count > 1 and math.isclose(factor, count, rel_tol=ALIKE):
            return f"{words}: sum taken for mean?"
    if factor > 0:
        for n in (2, 3, 4, 5, 6, 7, 8, 9, 10, 16, 25, 32, 64, 100):
            if math.isclose(factor, 1 / n, rel_tol=ALIKE):
                return f"a factor {n} is missing, or a mean over {n} is taken twice?"
            if math.isclose(factor, n, rel_tol=ALIKE):
                return f"a factor {n} too many, or a sum where a mean over {n} is meant?"
    return "a constant factor is wrong or missing"


def _negated_part(got: np.ndarray, want: np.ndarray, off: np.ndarray) -> Pattern:
    if 0 < off.sum() < off.size and _close(got[off], -want[off]):
        return Pattern(
            f"{int(off.sum())} elements have the wrong sign",
            "the sign of some elements is wrong: the wrong branch, or abs for a signed value?",
        )
    return NONE


def _moves(want: np.ndarray) -> Iterator[tuple[np.ndarray, str, str]]:
    axes = range(want.ndim)
    for a, b in itertools.combinations(axes, 2):
        if want.shape[a] == want.shape[b]:
            yield (
                np.swapaxes(want, a, b),
                f"transposed: axes {a} and {b} are exchanged",
                "transposed operand in a product?",
            )
    for count in range(1, min(want.ndim, 3) + 1):
        for chosen in itertools.combinations(axes, count):
            named = "axis " + ", ".join(map(str, chosen))
            yield (
                np.flip(want, chosen),
                f"flipped along {named}",
                f"flipped along {named}: convolution for correlation, or a reversed scan?",
            )
    for axis in axes:
        for by in (1, -1, 2, -2):
            if want.shape[axis] > abs(by) + 1:
                yield (
                    np.roll(want, by, axis),
                    f"shifted by {by} along axis {axis}",
                    (
                        f"shifted by {by} along axis {axis}: an off-by-one, or padding on the wrong"
                        " side?"
                    ),
                )


def _moved(got: np.ndarray, want: np.ndarray, off: np.ndarray) -> Pattern:
    for moved, words, cause in _moves(want) if want.size > 1 else ():
        if _close(got, moved):
            return Pattern(words, cause)
        # what comes in at the end need not be what went out at the other
        if words.startswith("shifted"):
            axis, by = int(words.split()[-1]), int(words.split()[2])
            inside = np.moveaxis(np.ones(want.shape, bool), axis, 0)
            inside[:by] = by < 0
            inside[by:] &= by > 0
            inside = np.moveaxis(inside, 0, axis)
            if want[inside].any() and _close(got[inside], moved[inside]):
                return Pattern(words, cause)
    return NONE


def _rounded(got: np.ndarray, want: np.ndarray, off: np.ndarray) -> Pattern:
    if np.iscomplexobj(want) or off.mean() < 0.3 or off.size < 3:
        return NONE
    relative = np.abs(got - want)[off] / np.maximum(np.abs(want[off]), TINY)
    typical = float(np.median(relative))
    for dtype, low, high in (
        ("bfloat16", 2e-4, 8e-3),
        ("float16", 2e-5, 1e-3),
        ("float32", 2e-9, 2e-7),
    ):
        narrow = got.astype(jnp.bfloat16 if dtype == "bfloat16" else dtype).astype(np.float64)
        if np.array_equal(narrow, got) and low <= typical <= high:
            return Pattern(
                f"every element is a number of {dtype}",
                f"backward computes or rounds in {dtype}: a downcast?",
            )
    return NONE


def _all_but_first(got: np.ndarray, want: np.ndarray, off: np.ndarray) -> Pattern:
    if (
        off.ndim == 0
        or len(off) < 3
        or off[0].any()
        or not off[1:].reshape(len(off) - 1, -1).any(1).all()
    ):
        return NONE
    return Pattern(
        "every row but the first of axis 0",
        "only the first row of axis 0 is right: wrong for batches of more than one, or a carry that"
        " is lost?",
    )


def _scaled_along(got: np.ndarray, want: np.ndarray, off: np.ndarray) -> Pattern:
    for axis in range(want.ndim):
        others = tuple(a for a in range(want.ndim) if a != axis)
        if not others or math.prod(want.shape[a] for a in others) < 3:
            continue
        square = np.real(want * want.conj()).sum(others, keepdims=True)
        factor = np.where(
            square > 0,
            np.real(got * want.conj()).sum(others, keepdims=True) / np.where(square > 0, square, 1),
            0,
        )
        if _close(got, factor * want):
            return Pattern(
                f"each slice of axis {axis} is scaled by a factor of its own",
                f"a factor that varies along axis {axis} is wrong or missing (the first:"
                f" {factor.ravel()[0]:.6g})",
            )
    return NONE


def _offset(got: np.ndarray, want: np.ndarray, off: np.ndarray) -> Pattern:
    gap = got - want
    scale = np.abs(gap).max()
    if want.size > 2 and np.abs(gap - gap.mean()).max() <= ALIKE * scale:
        return Pattern(
            f"all elements are too large by {gap.mean():.6g}",
            "the difference is one constant: the mean (or sum) over all elements is missing or"
            " added?",
        )
    for axis in range(want.ndim):
        if (
            want.shape[axis] > 2
            and np.abs(gap - gap.mean(axis, keepdims=True)).max() <= ALIKE * scale
        ):
            return Pattern(
                f"the difference is constant along axis {axis}",
                f"a term that is constant along axis {axis} is missing: the mean or sum over it?",
            )
    if want.ndim > 1:
        for axis in range(want.ndim):
            others = tuple(a for a in range(want.ndim) if a != axis)
            if (
                np.abs(gap - gap.mean(others, keepdims=True)).max() <= ALIKE * scale
                and math.prod(want.shape[a] for a in others) > 2
            ):
                return Pattern(
                    f"the difference depends on axis {axis} alone",
                    f"a term that depends on axis {axis} alone is missing: a mean or sum over the"
                    " others?",
                )
    return NONE


def _shuffled(got: np.ndarray, want: np.ndarray, off: np.ndarray) -> Pattern:
    if np.iscomplexobj(want) or want.size < 3 or not want.any():
        return NONE
    if _close(np.sort(got, axis=None), np.sort(want, axis=None)):
        return Pattern(
            "the same numbers in another order",
            "the numbers are right and lie in the wrong places: a reshape or transposition of"
            " axes?",
        )
    return NONE
