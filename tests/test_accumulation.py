"""Sums of 16-bit numbers are kept in float32: seen in the programs of all rules, and in results
that thousands of terms do not make worse."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from every import FIRST
from jaxcnn import ops
from jaxcnn._core.case import Case, integers, normal, rows, values
from jaxcnn._core.op import Op
from jaxcnn._core.upcast import matmul, upcast
from jaxcnn.verify._precision import BOUND, measure
from jaxcnn.verify._trace import carried, equations

NARROW = (jnp.dtype("bfloat16"), jnp.dtype("float16"))
DTYPES = ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)]
SUMS = {"reduce_sum", "cumsum", "reduce_window_sum", "scatter-add", "add_any", "psum"}


def program(op: Op, case: Case, dtype: str) -> Any:
    """Forward and backward together."""

    def halves(*args: Any) -> Any:
        y, saved = op.run(*args, **case.static)
        return op.pull(saved, jax.tree.map(jnp.ones_like, y))

    return jax.make_jaxpr(halves)(*case.draw(0, dtype)).jaxpr


def summed_narrowly(jaxpr: Any) -> list[str]:
    """The equations that add up in 16 bits.

    A convolution of 16-bit arrays counts as one that does not: backends add up in float32 there
    whatever the dtype of the result, which the tests of values below show, while asking for a
    float32 result may cost a GPU its 16-bit units."""
    found = []
    for eqn, _ in equations(jaxpr):
        name = eqn.primitive.name
        narrow = any(getattr(v.aval, "dtype", None) in NARROW for v in eqn.invars)
        if name == "dot_general" and narrow and eqn.params["preferred_element_type"] != np.float32:
            found.append(str(eqn))
        if name in SUMS and narrow:
            found.append(str(eqn))
        if name == "scan":
            found += [
                f"carry {v.aval}"
                for v in eqn.invars[carried(eqn)]
                if getattr(v.aval, "dtype", None) in NARROW
            ]
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("op", "case"), FIRST)
def test_no_rule_adds_up_in_16_bits(op, case, dtype):
    assert not summed_narrowly(program(op, case, dtype))


def test_the_search_sees_every_way_of_adding_up():
    x = jnp.ones((4, 4), "bfloat16")
    for bad in (
        lambda x: x @ x,
        lambda x: jnp.einsum("ij,ij->i", x, x),
        lambda x: jnp.cumsum(x, 0),
        lambda x: jnp.zeros_like(x).at[0].add(x[0]),
        lambda x: jax.lax.scan(lambda total, row: (total + row, None), x[0], x)[0],
        lambda x: jax.lax.reduce_sum_p.bind(x, axes=(0,), out_sharding=None),
    ):
        assert summed_narrowly(jax.make_jaxpr(bad)(x).jaxpr)
    for good in (lambda x: x.sum(), lambda x: matmul(x, x), lambda x: upcast(x) @ upcast(x)):
        assert not summed_narrowly(jax.make_jaxpr(good)(x).jaxpr)


MANY = 4096
RAMP = np.linspace(0.5, 1.5, MANY)
# long sums of numbers of order 1, positive where the rule lets them be, so that nothing cancels
LARGE = [
    (ops.dense, Case("inputs", (rows(2, MANY, scale=MANY), rows(MANY, 3, scale=3), rows(3)))),
    (ops.dense, Case("outputs", (rows(2, 3, scale=3), rows(3, MANY, scale=MANY), rows(MANY, scale=MANY)))),
    (ops.dense, Case("examples", (rows(MANY, 3, scale=3), rows(3, 2), rows(2)))),
    (ops.conv, Case("inputs", (rows(1, 4, 4, 512, scale=512), rows(3, 3, 512, 2)), {"padding": "VALID"})),
    (ops.conv, Case("outputs", (rows(1, 4, 4, 2), rows(3, 3, 2, 512, scale=512)))),
    (ops.conv, Case("places", (rows(4, 32, 32, 2), rows(3, 3, 2, 2)))),
    (ops.conv, Case("depthwise", (rows(4, 32, 32, 2), rows(3, 3, 1, 2)), {"groups": 2})),
    (ops.conv_transpose, Case("inputs", (rows(1, 4, 4, 512, scale=512), rows(3, 3, 2, 512, scale=512)), {"stride": 2})),
    (ops.bias, Case("examples", (rows(MANY, 2), rows(2)))),
    (ops.patches, Case("taps", (rows(1, 80, 1),), {"window": 40})),
    (ops.max_pool, Case("taps", (normal(1, 80, 1),), {"window": 40, "stride": 1})),
    (ops.avg_pool, Case("taps", (rows(1, 80, 1),), {"window": 40, "stride": 1})),
    (ops.global_avg_pool, Case("places", (rows(1, 64, 64, 2),))),
    (ops.softmax, Case("classes", (values(RAMP[None]),))),
    (ops.log_softmax, Case("classes", (values(RAMP[None]),))),
    (ops.batch_norm, Case("examples", (normal(MANY, 2), rows(2), rows(2)))),
    (ops.layer_norm, Case("channels", (normal(2, MANY), rows(MANY, scale=MANY), rows(MANY, scale=MANY)))),
    (ops.group_norm, Case("places", (normal(1, 32, 32, 8), rows(8), rows(8)), {"groups": 2})),
    (ops.frozen_norm, Case("examples", (normal(MANY, 2), rows(2), rows(2), rows(2), rows(2)))),
    (ops.rnn, Case("steps, relu", (rows(1, 512, 2), rows(1, 2), rows(2, 2), values(np.eye(2)), rows(2)), {"activation": "relu"})),
    (ops.rnn, Case("inputs", (rows(2, 2, MANY), rows(2, 2), rows(MANY, 2), values(np.eye(2)), rows(2)))),
    (ops.softmax_cross_entropy, Case("classes", (values(RAMP[None]), integers(1, high=MANY)))),
    (ops.softmax_cross_entropy, Case("classes, rows", (values(RAMP[None]), rows(1, MANY, scale=MANY)))),
    (ops.sigmoid_cross_entropy, Case("classes", (values(RAMP[None]), integers(1, MANY, high=2)))),
    (ops.kl_divergence, Case("classes", (values(RAMP[None]), rows(1, MANY, scale=MANY)))),
    (ops.squared_error, Case("numbers", (values(RAMP[None]), values(-RAMP[None])))),
    (ops.l2, Case("numbers", (values(RAMP),))),
]  # fmt: skip


HEAVY = {"conv", "conv_transpose", "patches", "max_pool", "avg_pool"}  # to compile


def _param(number: int, op: Op, case: Case) -> Any:
    """In the ordinary tier each op's first, but for the heavy ones."""
    slow = op.name in HEAVY - {"conv"} or op is LARGE[number - 1][0]
    return pytest.param(op, case, id=f"{op.name}: {case.label}", marks=[pytest.mark.slow] * slow)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("op", "case"), [_param(number, *row) for number, row in enumerate(LARGE)])
def test_many_terms_cost_one_rounding(op, case, dtype):
    """And what the residuals, where they are kept in 16 bits, cost: that is none of the sum's."""
    args = case.draw(0, dtype)
    shapes = jax.eval_shape(lambda *args: jax.tree.leaves(op.run(*args, **case.static)[0]), *args)
    rng = np.random.default_rng(1)
    dy = [jnp.asarray(rng.uniform(0.5, 1.5, s.shape), s.dtype) for s in shapes]
    for row in measure(op, case, args, dy):
        allowed = 1 + row.bound - BOUND if row.dtype == dtype else row.bound
        assert row.eps <= allowed, row
