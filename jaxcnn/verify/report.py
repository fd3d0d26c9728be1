"""What a check found: nothing, or where two arrays that should agree do not."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Failure:
    """One disagreement, at its worst element."""

    check: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.check}: {self.where}: {self.message}"


@dataclasses.dataclass(frozen=True)
class Report:
    """The checks that were made, each with its failures."""

    checks: Mapping[str, tuple[Failure, ...]]

    @property
    def failures(self) -> tuple[Failure, ...]:
        """All failures."""
        return tuple(failure for found in self.checks.values() for failure in found)

    @property
    def ok(self) -> bool:
        """Whether every check held."""
        return not self.failures

    def __str__(self) -> str:
        table = "\n".join(f"  {name:<20} {'FAILED' if found else 'ok'}" for name, found in self.checks.items())
        details = "".join(f"\n{failure}" for failure in self.failures)
        return f"{'all checks hold' if self.ok else 'FAILED'}\n{table}{details}"


def wide(array: Any) -> np.ndarray:
    """The array in NumPy's float64, whatever JAX is set to."""
    return np.asarray(array).astype(np.float64)


def difference(got: Any, want: Any) -> float:
    """max |got − want| / max |want|; infinite where one of them is not finite and the other is not the same."""
    a, b = wide(got), wide(want)
    if a.shape != b.shape:
        return np.inf
    if a.size == 0:
        return 0.0
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        gap = np.where(same, 0.0, np.abs(a - b))
    if not np.isfinite(gap).all():
        return np.inf
    scale = np.abs(b[np.isfinite(b)]).max(initial=0.0)
    worst = gap.max()
    return float(worst / scale) if scale > 0 else float(worst)


def compare(
    check: str, names: Sequence[str], got: Sequence[Any], want: Sequence[Any], tolerance: float
) -> list[Failure]:
    """A failure for each array whose :func:`difference` exceeds ``tolerance``."""
    failures = []
    if len(got) != len(want):
        return [Failure(check, "tree", f"{len(got)} arrays for {len(want)}")]
    for name, a, b in zip(names, got, want, strict=True):
        error = difference(a, b)
        if error <= tolerance:
            continue
        if np.shape(a) != np.shape(b):
            failures.append(Failure(check, name, f"shape {np.shape(a)}, expected {np.shape(b)}"))
            continue
        gap = np.abs(wide(a) - wide(b))
        worst = np.unravel_index(np.argmax(np.where(np.isfinite(gap), gap, np.inf)), gap.shape)
        at = tuple(map(int, worst))
        failures.append(
            Failure(check, name, f"at {list(at)} got {np.asarray(a)[at]!s}, expected {np.asarray(b)[at]!s}; "
                                 f"max |difference| / max |expected| = {error:.3g} > {tolerance:.3g}")
        )  # fmt: skip
    return failures
