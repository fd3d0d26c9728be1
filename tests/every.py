"""The table behind the suite: every case of every op, as something to check."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from jaxcnn.case import Case
from jaxcnn.op import Op
from jaxcnn.ops import OPS
from jaxcnn.verify import Subject

ALL = [pytest.param(op, case, id=f"{op.name}: {case.label}") for op in OPS for case in op.cases]
# Two cases of each op take every check in the ordinary run, the others in the slow tier.
TIERED = [
    pytest.param(op, case, id=f"{op.name}: {case.label}", marks=[pytest.mark.slow] if number >= 2 else [])
    for op in OPS
    for number, case in enumerate(op.cases)
]


def subject(op: Op, case: Case, *, batch: int | None = None, seed: int = 0) -> Subject:
    """The case in float64."""
    args = case.draw(seed, "float64", batch)
    return Subject(
        functools.partial(op, **case.static), args, functools.partial(reference(op), **case.static), case.batched
    )


def reference(op: Op) -> Callable[..., Any]:
    """The op's reference, which every op of the library has."""
    assert op.reference is not None
    return op.reference


def without_contracts(op: Op) -> Op:
    """The op as a user has it: in the suite, jaxtyping would refuse a bad call before the op's own check does."""
    return op.replace(forward=inspect.unwrap(op.forward))


def show(failures: list[Any]) -> str:
    return "\n".join(map(str, failures))
