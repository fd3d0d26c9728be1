"""OPS × cases × properties. There is no code here for any single op."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from every import ALL, TIERED, reference, show, subject, without_contracts
from jaxcnn.ops import OPS
from jaxcnn.verify import derivatives, sharding, transforms
from jaxcnn.verify.report import difference

pytestmark = pytest.mark.usefixtures("x64")

KINKS = [pytest.param(op, kink, id=f"{op.name}: {kink.label}") for op in OPS for kink in op.kinks]
BAD = [pytest.param(op, bad, id=f"{op.name}: {bad.label}") for op in OPS for bad in op.bad]


@pytest.mark.parametrize(("op", "case"), ALL)
def test_value_and_gradient_equal_the_reference(op, case):
    failures = derivatives.against_oracle(subject(op, case), tolerance=case.tolerance)
    assert not failures, show(failures)


@pytest.mark.parametrize(("op", "case"), ALL)
def test_finite_differences(op, case):
    failures = derivatives.against_differences(subject(op, case))
    assert not failures, show(failures)


@pytest.mark.parametrize(("op", "case"), TIERED)
def test_backward_is_linear(op, case):
    failures = derivatives.linear(subject(op, case))
    assert not failures, show(failures)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize(("op", "case"), TIERED)
def test_dtypes(op, case, dtype):
    failures = derivatives.in_dtype(subject(op, case), dtype)
    assert not failures, show(failures)


@pytest.mark.parametrize(("op", "case"), TIERED)
def test_second_order(op, case):
    failures = derivatives.second_order(subject(op, case))
    assert not failures, show(failures)


@pytest.mark.parametrize(("op", "case"), TIERED)
def test_jit_scan_and_checkpoint(op, case):
    checked = subject(op, case)
    failures = [*transforms.jit(checked), *transforms.scan_and_checkpoint(checked)]
    assert not failures, show(failures)


@pytest.mark.parametrize(("op", "case"), TIERED)
def test_vmap(op, case):
    failures = transforms.vmap(subject(op, case))
    assert not failures, show(failures)


@pytest.mark.slow
@pytest.mark.parametrize(("op", "case"), ALL)
def test_vmap_over_every_choice(op, case):
    failures = transforms.vmap(subject(op, case), every=True)
    assert not failures, show(failures)


@pytest.mark.parametrize(("op", "case"), TIERED)
def test_shard_map(op, case):
    failures = sharding.mapped(subject(op, case))
    assert not failures, show(failures)


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["Auto", "Explicit"])
@pytest.mark.parametrize(("op", "case"), TIERED)
def test_meshes(op, case, axis_type):
    failures = sharding.on_mesh(subject(op, case, batch=8), axis_type)
    assert not failures, show(failures)


@pytest.mark.parametrize(("op", "case"), ALL)
def test_explicit_halves_equal_the_wired_op(op, case):
    checked = subject(op, case)
    cotangents_of_y = checked.cotangents(1)

    def by_hand(*args):
        y, saved = op.run(*args, **case.static)
        return jax.tree.leaves(y), op.pull(saved, jax.tree.unflatten(jax.tree.structure(y), cotangents_of_y))

    value, cotangents = jax.jit(by_hand)(*checked.args)
    wired_value, wired = jax.jit(checked.pull(checked.f))(checked.leaves, cotangents_of_y)
    # Not to the bit: compiled as two programs, the same operations may be fused in other ways.
    for got, want in zip([*value, *jax.tree.leaves(cotangents)], [*wired_value, *wired], strict=True):
        assert difference(got, want) <= 1e-12


@pytest.mark.parametrize(("op", "case"), ALL)
def test_plain_is_open_to_forward_mode(op, case):
    checked = subject(op, case)
    tangents = checked.leaves
    _, got = jax.jvp(checked.primal(lambda *a: op.plain(*a, **case.static)), (checked.leaves,), (tangents,))
    _, want = jax.jvp(checked.primal(lambda *a: reference(op)(*a, **case.static)), (checked.leaves,), (tangents,))
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * max(1.0, float(np.abs(b).max(initial=0))))


@pytest.mark.parametrize(("op", "kink"), KINKS)
def test_kinks(op, kink):
    inputs = [jnp.asarray(value, "float64") for value in kink.inputs]
    failures = derivatives.kink(lambda *a: op(*a, **kink.static), tuple(inputs), kink.gradient)
    assert not failures, show(failures)


@pytest.mark.parametrize(("op", "bad"), BAD)
def test_bad_calls_are_refused(op, bad):
    bare = without_contracts(op)
    for call in (bare, bare.plain, bare.run, jax.jit(lambda *a, **k: bare(*a, **k), static_argnames=tuple(bad.static))):
        with pytest.raises(bad.error) as caught:
            call(*bad.inputs, **bad.static)
        assert bad.message in str(caught.value)
        assert str(caught.value).startswith(f"{op.name}: ")


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_every_op_brings_its_proof(op):
    assert op.reference is not None
    assert len(op.cases) >= 2
    assert op.bad
    assert op.equation
    assert op.keeps
    assert op.__doc__
    assert len({case.label for case in op.cases}) == len(op.cases)
