"""OPS × cases × properties. There is no code here for any single op."""

import jax
import numpy as np
import pytest

from every import FIRST, reference, without_contracts
from jaxcnn._core.case import Draw
from jaxcnn.ops import OPS
from jaxcnn.verify._judge import CHECKS
from jaxcnn.verify._numerics.comparison import error
from jaxcnn.verify._prove import prove_case, prove_kinks, subject_of
from jaxcnn.verify._subject import quick

pytestmark = pytest.mark.usefixtures("x64")

# A wired op refuses forward mode, and so does the backward of an op whose rule calls another's
ALWAYS = {*CHECKS, "in float32", "in bfloat16"} - {"forward mode", "forward over reverse"}
# For these an input needs a leading axis that eight devices divide; the first case of every op has
# one
ON_MESHES = {"Auto mesh", "Explicit mesh"}
BAD = [pytest.param(op, bad, id=f"{op.name}: {bad.label}") for op in OPS for bad in op.bad]


@pytest.mark.parametrize(("op", "case"), FIRST)
def test_proof(op, case):
    """Every check; of an op's first case, and in the slow tier of all."""
    report = prove_case(op, case)
    assert report.ok, str(report)
    made = {verdict.name for verdict in report.verdicts if verdict.status == "holds"}
    always = ALWAYS if case is op.cases[0] else ALWAYS - ON_MESHES
    if (
        case.label == "far out"
    ):  # a slope below all rounding is undecided there; elementwise it is compared all the same
        always = always - {"finite differences"}
    assert made >= always, str(report)


@pytest.mark.parametrize(("op", "case"), FIRST)
def test_explicit_halves_equal_the_wired_op(op, case):
    checked = subject_of(op, case)
    cotangents_of_y = checked.cotangents(1)

    def by_hand(*args):
        y, saved = op.run(*args, **case.static)
        return jax.tree.leaves(y), op.pull(
            saved, jax.tree.unflatten(jax.tree.structure(y), cotangents_of_y)
        )

    value, cotangents = quick(by_hand)(*checked.args)
    wired_value, wired = quick(checked.pull(checked.f))(checked.arrays, cotangents_of_y)
    # Not to the bit: compiled as two programs, the same operations may be fused in other ways.
    for got, want in zip(
        [*value, *jax.tree.leaves(cotangents)], [*wired_value, *wired], strict=True
    ):
        assert error(got, want) <= 1e-12


@pytest.mark.parametrize(("op", "case"), FIRST)
def test_plain_is_open_to_forward_mode(op, case):
    checked = subject_of(op, case)
    tangents = checked.leaves

    def along(f, leaves):
        primal = checked.primal(lambda *a: f(*a, **case.static))
        return jax.jvp(lambda leaves: primal(checked.put(leaves)), (leaves,), (tangents,))[1]

    got, want = quick(lambda leaves: (along(op.plain, leaves), along(reference(op), leaves)))(
        checked.leaves
    )
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(
            a, b, rtol=1e-9, atol=1e-9 * max(1.0, float(np.abs(b).max(initial=0)))
        )


# Where every example has a key of its own, there is one key for each of four
EXPORTED = [
    param
    for param in FIRST
    if param.values[1].batched and param.values[1].label != "a key an example"
]


@pytest.mark.parametrize(("op", "case"), EXPORTED)
def test_a_batch_of_unknown_size_is_exported(op, case):
    """As a model is exported for serving: neither half of a rule needs the number of examples."""
    (n,) = jax.export.symbolic_shape("n")

    def unknown(index, arg):
        shape = (n, *arg.shape[1:]) if index in case.batched and arg.ndim else arg.shape
        return jax.ShapeDtypeStruct(shape, arg.dtype)

    def both(*args):
        y, saved = op.run(*args, **case.static)
        return y, op.pull(saved, y)

    args = [
        arg if arg is None else unknown(index, arg)
        for index, arg in enumerate(case.draw(0, "float64"))
    ]
    assert any(n in y.shape for y in jax.export.export(jax.jit(both))(*args).out_avals)


BY_EXAMPLE = [param for param in FIRST if param.values[0].norms and param.values[1].batched]


@pytest.mark.parametrize(("op", "case"), BY_EXAMPLE)
def test_norms_of_single_examples_are_those_of_their_gradients(op, case):
    """Beside the backward of each example alone."""
    args = case.draw(0, "float64")
    y, saved = quick(lambda *args: op.run(*args, **case.static))(*args)
    norms = quick(op.example_norms)(saved, jax.numpy.cos(y))
    alone = quick(lambda dy, *own: op.pull(op.run(*own, **case.static)[1], dy))
    for n in range(len(y)):
        own = [arg[n : n + 1] if index in case.batched else arg for index, arg in enumerate(args)]
        cotangents = alone(jax.numpy.cos(y[n : n + 1]), *own)
        for norm, cotangent in zip(norms, cotangents, strict=True):
            if norm is not None:
                np.testing.assert_allclose(
                    norm[n], np.linalg.norm(cotangent), rtol=1e-11, atol=1e-10
                )


@pytest.mark.parametrize(("op", "case"), BY_EXAMPLE)
@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_norms_of_single_examples_do_not_leave_the_range_of_float32(op, case, factor):
    """Where their squares would."""
    y, saved = quick(lambda *args: op.run(*args, **case.static))(*case.draw(0, "float32"))
    ordinary, extreme = (
        quick(op.example_norms)(saved, jax.numpy.cos(y) * scale)
        for scale in (np.float32(1), np.float32(factor))
    )
    for got, want in zip(extreme, ordinary, strict=True):
        if want is not None:
            np.testing.assert_allclose(np.float64(got) / factor, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("op", [op for op in OPS if op.kinks], ids=lambda op: op.name)
def test_kinks(op):
    report = prove_kinks(op)
    assert report.ok, str(report)
    assert len(report.verdicts) == len(op.kinks)


@pytest.mark.parametrize(("op", "bad"), BAD)
def test_bad_calls_are_refused(op, bad):
    bare, rng = without_contracts(op), np.random.default_rng(0)
    inputs = [each.sample(rng, None) if isinstance(each, Draw) else each for each in bad.inputs]
    for call in (
        bare,
        bare.plain,
        bare.run,
        jax.jit(lambda *a, **k: bare(*a, **k), static_argnames=tuple(bad.static)),
    ):
        with pytest.raises(bad.error) as caught:
            call(*inputs, **bad.static)
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
