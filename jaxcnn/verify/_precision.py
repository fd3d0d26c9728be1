"""What 16 bits cost: an op's value and cotangents under a policy, against its own rule in float64
at the same numbers.

    error = max |d − d₆₄| / max |d₆₄|          d each output, and the cotangent of each input

Inputs and incoming cotangents are rounded to the policy's ``compute`` dtype before either side sees
them: the error is the rule's, not that of the data. One rounding of the result is half an epsilon;
:data:`BOUND` leaves room for the roundings of a formula that is evaluated in 16 bits, while a sum
kept in 16 bits is far beyond it as soon as it is long. In float32 the sums themselves are rounded,
so there the bound grows with them
(:class:`jaxcnn.verify._numerics.comparison.Tolerance`). To either is added
twice what rounding the residuals alone does to a backward that is otherwise exact: a rule that
keeps y in 16 bits cannot know 1 − y² well where y is almost 1.

>>> from jaxcnn._core.case import normal
>>> cases = (Case("rows", (normal(4, 3),)),)
>>> square = Op("square", lambda x: (x * x, x), lambda x, dy: (2 * x * dy,), cases=cases)
>>> [(row.array, row.ok) for row in errors(square, Policy("bfloat16"))]
[('y', True), ('dx', True)]
"""

import inspect
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn._core.case import Case
from jaxcnn._core.errors import setting_error
from jaxcnn._core.op import Op
from jaxcnn.precision import Policy
from jaxcnn.verify._numerics.comparison import Tolerance, error
from jaxcnn.verify._subject import cast, differentiable, quick, random_like, widest
from jaxcnn.verify._trace import longest_sum

BOUND = 4.0  # epsilons, in 16 bits


class Row(NamedTuple):
    """One array of one case.

    Attributes:
        op, case, array: which; ``y`` or ``y[0]`` are outputs, ``dx`` the cotangent of x.
        dtype: of the array, as the rule returns it.
        error: relative to the largest number of the array; infinite where a number is lost.
        eps, bound: the error, and what is allowed, in epsilons of that dtype.
        lost: how many numbers are not finite where float64, rounded to that dtype, is (or the other
            way round).
    """

    op: str
    case: str
    array: str
    dtype: str
    error: float
    eps: float
    bound: float
    lost: int

    @property
    def ok(self) -> bool:
        """Whether the error is within its bound."""
        return self.eps <= self.bound


def errors(
    op: Op, policy: Policy, *, cases: Iterable[Case] | None = None, seed: int = 0
) -> list[Row]:
    """A row for each array of each case of ``op`` (or of ``cases``). Raises ValueError for a policy
    that computes in float64."""
    if policy.compute.itemsize > 4:
        raise setting_error(
            "errors", "policy", "one that computes in 16 or 32 bits", policy.compute.name
        )
    rows = []
    for case in op.cases if cases is None else cases:
        args = case.draw(seed, policy.compute)
        shapes = jax.eval_shape(
            lambda *args, case=case: jax.tree.leaves(op.run(*args, **case.static)[0]), *args
        )
        rows += measure(op, case, args, random_like(shapes, seed, 1))
    return rows


def measure(op: Op, case: Case, args: tuple[Any, ...], dy: list[Any]) -> list[Row]:
    """The rows of ``op`` at ``args``, with a cotangent for each output, as they are; ``case``
    brings label and settings."""

    def halves(args: tuple[Any, ...], dy: list[Any]) -> tuple[list[Any], list[Any]]:
        y, saved = op.run(*args, **case.static)
        leaves, tree = jax.tree.flatten(y)
        return leaves, [d for d in op.pull(saved, tree.unflatten(dy)) if d is not None]

    def exact_halves(
        args: tuple[Any, ...], dy: list[Any]
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """And the cotangents from residuals that were rounded as the rule rounds them."""
        y, saved = op.run(*args, **case.static)
        leaves, tree = jax.tree.flatten(saved)
        rounded = [x.astype(k.dtype).astype(x.dtype) for x, k in zip(leaves, kept, strict=True)]
        dy = jax.tree.unflatten(jax.tree.structure(y), dy)
        exact, from_rounded = (
            [d for d in op.pull(each, dy) if d is not None]
            for each in (saved, tree.unflatten(rounded))
        )
        return jax.tree.leaves(y), exact, from_rounded

    value, cotangents = quick(halves)(args, dy)
    terms = longest_sum(jax.make_jaxpr(halves)(args, dy).jaxpr)
    kept = jax.tree.leaves(jax.eval_shape(lambda *args: op.run(*args, **case.static)[1], *args))
    with jax.enable_x64(True):
        exactly = jax.tree.map(lambda x: cast(x, "float64") if differentiable(x) else x, (args, dy))
        true_value, true_cotangents, from_rounded = quick(exact_halves)(*exactly)
    outputs = ["y"] if len(value) == 1 else [f"y[{i}]" for i in range(len(value))]
    inputs = [
        f"d{name}" for name, arg in zip(_inputs(op), args, strict=False) if differentiable(arg)
    ]
    got, want = [*value, *cotangents], [*true_value, *true_cotangents]
    kept_costs = zip(outputs + inputs, got, want, [*true_value, *from_rounded], strict=True)
    return [_row(op, case, *each, terms) for each in kept_costs]


def worst(rows: Iterable[Row]) -> list[Row]:
    """Of each array of each op the row that is the largest part of its bound."""
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        before = found.get((row.op, row.array))
        if before is None or row.eps / row.bound > before.eps / before.bound:
            found[row.op, row.array] = row
    return list(found.values())


def _row(op: Op, case: Case, name: str, got: Any, want: Any, from_rounded: Any, terms: int) -> Row:
    limits = jnp.finfo(got.dtype)
    eps = float(limits.eps)
    true, mine = widest(want), widest(got)
    # Beyond the dtype's range, infinity is the right answer
    true = np.where(np.abs(true) > float(limits.max), np.copysign(math.inf, true), true)
    bound = BOUND if got.dtype.itemsize == 2 else Tolerance.of(eps, terms).floor / eps
    spent = error(from_rounded, want)
    bound += 2 * spent / eps if math.isfinite(spent) else 0.0
    off, lost = error(mine, true), int((np.isfinite(mine) != np.isfinite(true)).sum())
    return Row(op.name, case.label, name, got.dtype.name, off, off / eps, bound, lost)


def _inputs(op: Op) -> list[str]:
    parameters = inspect.signature(op.forward).parameters.values()
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
