"""The table behind the suite: every case of every op, as something to check."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from jaxcnn._core.case import Case
from jaxcnn._core.op import Op
from jaxcnn.ops import OPS


def _param(op: Op, case: Case, *, slow: bool) -> Any:
    return pytest.param(op, case, id=f"{op.name}: {case.label}", marks=[pytest.mark.slow] * slow)


# The others in the slow tier
FIRST = [_param(op, case, slow=case is not op.cases[0]) for op in OPS for case in op.cases]


def reference(op: Op) -> Callable[..., Any]:
    """The op's reference, which every op of the library has."""
    assert op.reference is not None
    return op.reference


def without_contracts(op: Op) -> Op:
    """The op as a user has it: in the suite, jaxtyping would refuse a bad call before the op's own
    check does."""
    forward = op.forward
    if isinstance(forward, functools.partial):
        return op.replace(
            forward=functools.partial(
                inspect.unwrap(forward.func), *forward.args, **forward.keywords
            )
        )
    return op.replace(forward=inspect.unwrap(forward))
