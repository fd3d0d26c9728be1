"""When do two arrays agree? Elementwise, within what rounding in this dtype, over sums of this
length, may do.

An element may be off by ``rtol`` of itself, by ``floor`` of the largest element, and by ``noise``:
what a change of the inputs in their last place does to it, measured."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxcnn.verify._numerics import patterns
from jaxcnn.verify._report import Failure, Mismatch
from jaxcnn.verify._subject import widest

CAUTION = 64.0
NARROW = 1e-5  # no 32-bit dtype has an epsilon above this


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """Relative to each element, and to the largest; made from a machine epsilon and the length of
    the longest sum."""

    rtol: float
    floor: float
    eps: float
    tiny: float = 0.0
    terms: int = 1

    @classmethod
    def of(cls, eps: float, terms: int = 1) -> "Tolerance":
        """eps × max(64 √terms, terms/4): sums in random order, and sums of one sign added one after
        the other.

        In 16 bits it is 8 eps: what is rounded there is sums that are kept in 32, a few times over.
        """
        grown = 8 * eps if eps > NARROW else eps * max(64 * math.sqrt(max(terms, 1)), terms / 4)
        return cls(rtol=max(1e-9, grown), floor=max(1e-12, grown), eps=eps, terms=terms)

    def allowed(self, want: np.ndarray, noise: Any = 0.0) -> np.ndarray:
        """The difference allowed at each element."""
        sizes = np.where(np.isfinite(want), np.abs(want), 0.0)
        return np.asarray(
            self.rtol * sizes
            + self.floor * sizes.max(initial=0.0)
            + self.caution * noise
            + self.tiny
        )

    @property
    def caution(self) -> float:
        """How much larger than the measured noise an honest difference may be: two algorithms, a
        handful of samples. 16 bits have no room for it."""
        return 2.0 if self.eps > NARROW else CAUTION

    def __str__(self) -> str:
        return f"{self.rtol:.1e} of each element + {self.floor:.1e} of the largest"


def same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Equal, counting nan as equal to nan."""
    return np.asarray((a == b) | (np.isnan(a) & np.isnan(b)))


def error(got: Any, want: Any) -> float:
    """max |got − want| / max |want|; infinite where one is finite and the other is not, or the
    shapes differ."""
    a, b = widest(got), widest(want)
    if a.shape != b.shape:
        return math.inf
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(a - b)
        worst, largest = float(gap.max(initial=0.0)), np.abs(b).max(initial=0.0)
        if not math.isfinite(worst):  # which makes the next three passes worth their time
            gap = np.where(same(a, b), 0.0, gap)
            if not np.isfinite(gap).all():
                return math.inf
            worst, largest = float(gap.max()), np.abs(b[np.isfinite(b)]).max(initial=0.0)
    return worst / float(largest) if largest > 0 else worst


def mismatch(
    got: Any, want: Any, tolerance: Tolerance, noise: Any = 0.0, x: Any = None
) -> tuple[Mismatch, patterns.Pattern] | None:
    """Where ``got`` is further from ``want`` than allowed, and what pattern that makes; None if
    nowhere. The shapes must be equal."""
    a, b = widest(got), widest(want)
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(a - b)
        least = tolerance.floor * np.abs(b).max(initial=0.0) + tolerance.tiny
        if gap.max(initial=0.0) <= least < math.inf:
            return None
        allowed = tolerance.allowed(b, noise)
        gap = np.where(same(a, b), 0.0, gap)
        gap = np.where(np.isfinite(gap), gap, np.inf)
        off = np.asarray(gap > allowed)
        if not off.any():
            return None
        excess = np.where(off, gap / np.where(allowed > 0, allowed, np.finfo(float).tiny), 0.0)
        index = tuple(
            int(i)
            for i in np.unravel_index(
                np.argmax(np.where(off, np.minimum(excess, 1e300), -1)), off.shape
            )
        )
        size = abs(b[index]) if np.isfinite(b[index]) else math.nan
        relative = float(gap[index] / size) if size else math.inf
        ulp = (
            tolerance.eps * 2.0 ** math.floor(math.log2(size))
            if size and math.isfinite(size)
            else tolerance.eps
        )
    pattern = patterns.recognise(a, b, off, None if x is None else widest(x))
    ulps = float(gap[index] / ulp)
    return (
        Mismatch(a, b, index, relative, ulps, int(off.sum()), off.size, float(allowed[index])),
        pattern,
    )


def compare(
    check: str,
    names: Sequence[str],
    got: Sequence[Any],
    want: Sequence[Any],
    tolerance: Tolerance,
    noise: Callable[[int], Any] | Sequence[Callable[[int], Any]] = (),
    inputs: Sequence[Any] | None = None,
    cause: str = "",
    exchange: bool = False,
    numeric: Callable[[int, tuple[int, ...]], float | None] | None = None,
) -> list[Failure]:
    """A failure for each array that is off, beyond ``noise`` of the array of that number (the
    largest of several). ``cause`` overrides the guess; ``exchange`` looks for swapped arrays;
    ``numeric`` asks finite differences at the worst element."""
    if len(got) != len(want):
        return [Failure(check, "tree", f"{len(got)} arrays for {len(want)}")]
    failures = []
    for i, (name, a, b) in enumerate(zip(names, got, want, strict=True)):
        if np.shape(a) != np.shape(b):
            failures.append(
                Failure(check, name, f"shape {np.shape(a)}, expected {np.shape(b)}", cause)
            )
            continue
        x = None if inputs is None else inputs[i]
        where_off, largest = mismatch(a, b, tolerance, 0.0, x), np.zeros(())
        # what rounding does is measured only where it is needed, the cheapest measure first
        for measure in (noise,) if callable(noise) else noise:
            if where_off is not None:
                largest = np.maximum(largest, measure(i))
                where_off = mismatch(a, b, tolerance, largest, x)
        if where_off is None:
            continue
        found, guess = where_off
        if exchange:
            guess = (
                patterns.exchanged([widest(g) for g in got], [widest(w) for w in want], names, i)
                or guess
            )
        found = dataclasses.replace(
            found, pattern=guess.words, difference=numeric(i, found.index) if numeric else None
        )
        failures.append(Failure(check, name, str(found), cause or guess.cause, found))
    return failures
