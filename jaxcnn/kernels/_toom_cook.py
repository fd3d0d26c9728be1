"""m results of a correlation with r taps for m + r − 1 multiplications instead of m·r (Toom 1963,
Cook 1966; Winograd 1980 for the bound).

Polynomials of degree below n = m + r − 1 are settled by their values at n points (one of them
infinity); so a product is made by evaluating, multiplying and interpolating. Transposed, that is a
correlation:

    y = A (G w ⊙ B x)        x: n numbers, w: r taps, y: m numbers, y[p] = Σ_k x[p + k] w[k]

The points decide the rounding: ±2⁄3 and ±3⁄2 err 1.2 times less than ±1, 2 and −½, and 1.5 times
less than the usual ±1 and ±2, by the estimate √Σ|A|²|G|²|B|². README.md beside this file has what
was measured.

>>> A, G, B = matrices(2, 3)
>>> x, w = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 0.0, -1.0])
>>> A @ ((G @ w) * (B @ x))
array([-2., -2.])
"""

import functools
import math
from collections.abc import Sequence
from fractions import Fraction

import jax
import numpy as np

# The finite points, by their number
POINTS = {
    count: tuple(map(Fraction, text.split()))
    for count, text in {3: "0 1 -1", 5: "0 2/3 -2/3 3/2 -3/2"}.items()
}


@functools.cache
def matrices(m: int, r: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A (m, n), G (n, r) and B (n, n), for n = 4 and 6. A and B are whole numbers, and so cost no
    rounding; the fractions are all in G."""
    points = POINTS[m + r - 2]
    others = [[q for q in points if q != p] for p in points]
    evaluate = [[p**k for k in range(r)] for p in points]
    scale = [
        math.prod((p - q for q in rest), start=Fraction(1))
        for p, rest in zip(points, others, strict=True)
    ]
    at_infinity = [Fraction(0)] * (r - 1) + [Fraction(1)]
    g = [*([v / s for v in row] for row, s in zip(evaluate, scale, strict=True)), at_infinity]
    a = [*([p**k for k in range(m)] for p in points), [Fraction(0)] * (m - 1) + [Fraction(1)]]
    b = [*(_with_roots(rest, m + r - 1) for rest in others), _with_roots(points, m + r - 1)]
    for rows in (a, b):
        for place, row in enumerate(rows):
            whole = math.lcm(*(v.denominator for v in row))
            rows[place] = [v * whole for v in row]
            g[place] = [v / whole for v in g[place]]
    return np.asarray(a, float).T, np.asarray(g, float), np.asarray(b, float)


def combine(matrix: np.ndarray, parts: Sequence[jax.Array]) -> list[jax.Array]:
    """matrix · parts, written out as sums: no multiplication by 0 or 1."""
    return [
        _sum([(c, part) for c, part in zip(row, parts, strict=True) if c])
        for row in matrix.tolist()
    ]


def _sum(terms: list[tuple[float, jax.Array]]) -> jax.Array:
    scaled = [part if c == 1 else -part if c == -1 else c * part for c, part in terms]
    return sum(scaled[1:], scaled[0])


def _with_roots(roots: Sequence[Fraction], length: int) -> list[Fraction]:
    """The coefficients, lowest first and filled up with 0, of the polynomial Π (x − root)."""
    found = [Fraction(1)]
    for root in roots:
        found = [
            up - root * own
            for up, own in zip([Fraction(0), *found], [*found, Fraction(0)], strict=True)
        ]
    return found + [Fraction(0)] * (length - len(found))
