"""What a check found: for each check a verdict, and for each failure what ends the search for its
cause."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

Status = Literal["holds", "FAILED", "skipped", "undecided"]


def in_words(problem: Exception, most: int = 100) -> str:
    """The kind of an exception and the first lines of its message, if it has one.

    >>> in_words(ValueError("too small\\n\\nsee there")), in_words(NotImplementedError())
    ('ValueError: too small', 'NotImplementedError')
    """
    text = str(problem).strip().split("\n\n")[0][:most]
    return f"{type(problem).__name__}: {text}" if text else type(problem).__name__


@dataclasses.dataclass(frozen=True)
class Mismatch:
    """Two arrays that should agree and do not, at their worst element.

    Attributes:
        got, expected: the arrays, in NumPy, in at least float64.
        index: where |got − expected| / allowed is largest.
        relative: |got − expected| / |expected| there.
        ulps: |got − expected| in units in the last place of the dtype that was checked.
        off, total: how many elements are off, of how many.
        allowed: the largest difference that would have passed there.
        difference: what finite differences say at ``index`` (None where they were not asked or
            could not tell).
        pattern: how the wrong elements lie, in words (``all scaled by 0.5``); empty if none was
            recognised.
    """

    got: np.ndarray
    expected: np.ndarray
    index: tuple[int, ...]
    relative: float
    ulps: float
    off: int
    total: int
    allowed: float
    difference: float | None = None
    pattern: str = ""

    def __str__(self) -> str:
        at = f"at {list(self.index)} " if self.index else ""
        numeric = (
            "" if self.difference is None else f", by finite differences {self.difference:.10g}"
        )
        gap = abs(self.got[self.index] - self.expected[self.index])
        return (
            f"{at}got {self.got[self.index]:.10g}, expected"
            f" {self.expected[self.index]:.10g}{numeric}; off by {gap:.3g} where {self.allowed:.3g}"
            f" is allowed (relative {self.relative:.3g}, {self.ulps:.3g} ulps); {self.off} of"
            f" {self.total} elements are off"
        )


@dataclasses.dataclass(frozen=True)
class Failure:
    """One disagreement.

    Attributes:
        check: the name of the check.
        where: the input by its path (``args[0]['conv1']['kernel']``), or ``output[0]``, or the
            setting of the check.
        message: got, expected, and by how much.
        cause: a guess at the cause, one line; empty where there is none.
        mismatch: the two arrays, where the failure is one of arrays.
        code: a line of Python that shows it again.
    """

    check: str
    where: str
    message: str
    cause: str = ""
    mismatch: Mismatch | None = None
    code: str = ""

    def __str__(self) -> str:
        lines = [f"{self.check}: {self.where}: {self.message}"]
        if self.mismatch is not None and self.mismatch.pattern:
            lines.append(f"pattern: {self.mismatch.pattern}")
        if self.cause:
            lines.append(f"likely cause: {self.cause}")
        if self.code:
            lines.append(f"to see it again: {self.code}")
        return "\n    ".join(lines)

    def json(self) -> dict[str, Any]:
        """The failure as plain data, without the arrays."""
        row = {
            "check": self.check,
            "where": self.where,
            "message": self.message,
            "cause": self.cause,
            "code": self.code,
        }
        if (m := self.mismatch) is not None:
            row |= {
                "index": list(m.index),
                "got": _number(m.got[m.index]),
                "expected": _number(m.expected[m.index]),
                "finite_difference": _number(m.difference),
                "relative": _number(m.relative),
                "ulps": _number(m.ulps),
                "off": m.off,
                "total": m.total,
                "allowed": _number(m.allowed),
                "pattern": m.pattern,
            }
        return row


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What one check said.

    Attributes:
        name, why: the check, and in one line what it proves.
        status: ``holds``, ``FAILED``, ``skipped`` (it does not apply here: ``note`` says why) or
            ``undecided`` (rounding hides the answer).
        failures: what it found.
        note: what a reader should know: why it was skipped, which tolerance was used, what was
            taken for granted.
        worst: the largest error seen, relative to the largest element expected (nan if none was
            measured).
        allowed: the relative error allowed there (nan if none).
        seconds: how long it took.
    """

    name: str
    why: str
    status: Status
    failures: tuple[Failure, ...] = ()
    note: str = ""
    worst: float = math.nan
    allowed: float = math.nan
    seconds: float = 0.0

    def json(self) -> dict[str, Any]:
        """The verdict as plain data."""
        return {
            "name": self.name,
            "why": self.why,
            "status": self.status,
            "note": self.note,
            "worst": _number(self.worst),
            "allowed": _number(self.allowed),
            "seconds": round(self.seconds, 3),
            "failures": [f.json() for f in self.failures],
        }


@dataclasses.dataclass(frozen=True)
class Report:
    """The verdicts on one function at one point, in the order in which the checks were made.

    Attributes:
        name: the function.
        inputs: its inputs, by path: ``{"args[0]": "float32[3,4]"}``.
        dtype: the dtype that everything was computed in, where no other is named.
        verdicts: one a check.
        seed: what the random cotangents and directions were drawn from.
        rules: the hand-written rules that ran, each with how often: (forward, backward).
        costs: what the gradient costs, by the names of ``check``'s ``limits``.
    """

    name: str
    inputs: Mapping[str, str]
    dtype: str
    verdicts: tuple[Verdict, ...]
    seed: int = 0
    rules: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    costs: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def checks(self) -> dict[str, tuple[Failure, ...]]:
        """The failures of each check, by its name."""
        return {verdict.name: verdict.failures for verdict in self.verdicts}

    @property
    def failures(self) -> tuple[Failure, ...]:
        """All failures; the first is the one to read, the others may follow from it."""
        return tuple(failure for verdict in self.verdicts for failure in verdict.failures)

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return not self.failures

    @property
    def reason(self) -> str:
        """Why the function is rejected, in one line: the first failure, with its guess at the
        cause; empty if nothing failed."""
        if self.ok:
            return ""
        first = self.failures[0]
        return f"{first.check}: {first.where}: {first.cause or first.message}"

    @property
    def seconds(self) -> float:
        """How long all checks took."""
        return sum(verdict.seconds for verdict in self.verdicts)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        at = ", ".join(f"{path}: {shape}" for path, shape in self.inputs.items())
        counts = [
            f"{sum(v.status == s for v in self.verdicts)} {s}"
            for s in ("holds", "FAILED", "skipped", "undecided")
        ]
        head = (
            f"{self.name}: {'all checks hold' if self.ok else 'FAILED'}"
            f" ({', '.join(c for c in counts if c[0] != '0')}; {self.seconds:.1f} s)"
        )
        rows = []
        for v in self.verdicts:
            error = (
                ""
                if math.isnan(v.worst)
                else f"{v.worst:.1e} of {v.allowed:.0e}"
                if v.allowed > 0
                else f"{v.worst:.1e}"
            )
            rows.append(f"  {v.name:<20} {v.status:<10} {error:<18} {v.note}".rstrip())
        details = "".join(f"\n\n{failure}" for failure in self.failures)
        return "\n".join([head, f"  at {at}", *rows]) + details

    def json(self) -> dict[str, Any]:
        """The report as plain data, for ``json.dumps``."""
        return {
            "name": self.name,
            "ok": self.ok,
            "reason": self.reason,
            "inputs": dict(self.inputs),
            "dtype": self.dtype,
            "seed": self.seed,
            "seconds": round(self.seconds, 3),
            "rules": {name: list(ran) for name, ran in self.rules.items()},
            "costs": {name: _number(value) for name, value in self.costs.items()},
            "verdicts": [v.json() for v in self.verdicts],
        }


def broken(task: str, message: str, again: str) -> Report:
    """The report on a task that did not come to its end."""
    failure = Failure("run", task, message, code=again)
    return Report(
        task, {}, "", (Verdict("run", "the checks come to their end", "FAILED", (failure,)),)
    )


def _number(value: Any) -> float | str | None:
    """A float that JSON can hold: nan and infinities as words."""
    if value is None:
        return None
    if isinstance(value, complex | np.complexfloating):
        return str(value)
    return float(value) if math.isfinite(value) else str(float(value))
