"""Which rules a gradient ran, and what it cost, against what was declared."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn import Op, ops, verify

X, W = np.linspace(-1, 1, 2 * 5 * 5 * 3).reshape(2, 5, 5, 3), np.full((3, 3, 3, 4), 0.1)


def in_loops(x):
    def body(c, _):
        return ops.tanh(c) * 1.5, ops.relu(c)

    c, _ = jax.lax.scan(body, x, None, length=4)
    either = jax.lax.cond(x[0] > 0, lambda z: ops.sigmoid(z).sum(), lambda z: z.sum(), x)
    again = jax.checkpoint(lambda x: jax.vmap(ops.elu)(x).sum())(x)
    return c.sum() + either + again + jax.lax.stop_gradient(ops.gelu(x)).sum()


def test_the_rules_that_ran_are_counted():
    report = verify.check(in_loops, jnp.arange(1.0, 4.0), only="rules")
    assert report.ok, str(report)
    ran = {name: backward for name, (_, backward) in report.rules.items()}
    assert ran == {"tanh": 4, "relu": 0, "sigmoid": 1, "elu": 1, "gelu": 0}
    assert report.rules["tanh"] == (4, 4)
    assert report.rules["relu"] == (4, 0)
    assert report.json()["rules"]["gelu"] == [1, 0]


def test_a_rule_of_somebody_else_is_counted():
    @jax.custom_vjp
    def handed_on(x):
        return x

    handed_on.defvjp(lambda x: (x, None), lambda _, dy: (dy,))
    report = verify.check(lambda x: handed_on(x) * 2, jnp.ones(2), only="rules")
    assert report.rules == {"handed_on": (1, 1)}


def test_what_is_declared_must_run():
    f = lambda x, w: ops.relu(ops.conv(x, w)) + jax.lax.stop_gradient(ops.conv(x, w))  # noqa: E731
    assert verify.check(f, X, W, only="rules", expect_rule=("conv", "relu")).ok
    report = verify.check(f, X, W, only="rules", expect_rule="tanh")
    assert "the backward of tanh did not run" in str(report)
    assert "the function does not call it (rules that it calls: conv, relu)" in str(report)
    stopped = lambda x: x + jax.lax.stop_gradient(ops.relu(x))  # noqa: E731
    report = verify.check(stopped, X, only="rules", expect_rule="relu")
    assert "nothing that is differentiated depends on it" in report.reason


def test_a_rule_where_none_can_be_counted_is_not_called_missing():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("data")
    mapped = jax.shard_map(lambda x: ops.relu(x), mesh=mesh, in_specs=spec, out_specs=spec)
    verdict = verify.check(mapped, jnp.ones(2), only="rules", expect_rule="relu").verdicts[0]
    assert verdict.status == "undecided"
    assert "rules inside of shard_map" in verdict.note


def test_no_rule_and_nothing_declared_is_no_failure():
    verdict = verify.check(jnp.sin, jnp.ones(2), only="rules").verdicts[0]
    assert (verdict.status, verdict.note) == ("skipped", "no hand-written rule")


def keeps_everything(x, w):
    y, saved = ops.conv.forward(x, w)
    return y, (saved, jnp.sin(x))


wasteful = Op(
    "wasteful", keeps_everything, lambda r, dy: ops.conv.backward(r[0], dy), ops.conv.reference
)


def test_bytes_that_are_kept():
    lean = verify.check(ops.conv, X, W, only="cost", limits={"residual_bytes": 0})
    assert lean.ok, str(lean)
    report = verify.check(wasteful, X, W, only="cost", limits={"residual_bytes": 0})
    kept = X.size * jnp.result_type(float).itemsize
    assert report.costs["residual_bytes"] == kept
    assert f"{kept:,} bytes are kept for the backward" in str(report)


def test_all_costs_are_measured_where_limits_are_given():
    report = verify.check(ops.conv, X, W, only="cost", limits={})
    assert set(report.costs) == {
        "residual_bytes",
        "temporary_bytes",
        "flops",
        "traces",
        "compilations",
    }
    products = 2 * 3 * 25 * 9 * 3 * 4 * 2  # forward, dx and dw: at most so many
    assert 0 < report.costs["flops"] < 4 * products
    assert (report.costs["traces"], report.costs["compilations"]) == (1, 0)
    assert not verify.check(ops.conv, X, W, only="cost", limits={"flops": 10}).ok


def test_a_function_that_compiles_anew_each_time_is_caught():
    def forgetful(x):
        return jax.jit(lambda y: jnp.sin(y) * 2)(x)

    report = verify.check(forgetful, jnp.ones(3), only="cost", limits={"compilations": 0})
    assert not report.ok
    assert "programs were compiled for a second equal gradient" in str(report)


def test_unknown_limits_are_refused():
    with pytest.raises(ValueError, match="there is no limit 'bytes'; choose from residual_bytes"):
        verify.check(jnp.sin, jnp.ones(2), limits={"bytes": 1})
