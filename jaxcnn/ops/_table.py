"""The table of ops, made from the ops themselves: ``python -m jaxcnn ops`` and the README show it.

Bytes are measured, not declared: the forward of the op's first case is traced in float32, and what
its residuals hold beyond its inputs and outputs is divided by the number of elements of its (first)
output."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxcnn._core.op import Op
from jaxcnn._core.residuals import size, trace
from jaxcnn._io.columns import columns
from jaxcnn.ops import OPS

HEADER = ("op", "equation", "kept", "bytes an element, beyond inputs and output")


def own_bytes(op: Op[..., Any, Any]) -> float:
    """Bytes that ``op`` keeps for each element of its output, beyond what its neighbours hold
    anyway."""
    case = op.cases[0]
    args = case.draw(0, jnp.float32)
    forward = functools.partial(op.forward, **{**op.fixed, **case.static})
    kept = trace(forward, *args)
    y, _ = jax.eval_shape(forward, *args)
    return size(kept.own) / jax.tree.leaves(y)[0].size


def rows() -> list[tuple[str, str, str, str]]:
    """One row an op."""
    return [(op.name, op.equation, op.keeps, f"{own_bytes(op):.3g}") for op in OPS]


def text() -> str:
    """Aligned columns."""
    lines = columns([HEADER, *rows()])
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def markdown() -> str:
    """A Markdown table."""
    lines = [
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
        for row in [HEADER, *rows()]
    ]
    return "\n".join([lines[0], "|---" * len(HEADER) + "|", *lines[1:]])
