"""Faults of XLA: each is known by version, shown by a probe in a process of its own, and cured."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxlib.version import __version__ as VERSION  # noqa: N812

from jaxcnn import layers, ops, train, verify
from jaxcnn._core import compiler
from jaxcnn._core.compiler import FAULTS, guarded, here, suspects
from jaxcnn.verify._commands.compiler import against_steps, programs

ROWS = 33_001
# Each prints whether the plain program, and the guarded one, are right
PROBES = {
    "a matrix product and a reduction of it in one fusion": """
rows = jnp.arange(3 * 33_001.0).reshape(-1, 3) / 1e4
program = jax.jit(lambda rows: jnp.sum((jnp.eye(3) @ rows.T) ** 2, 0))
args, want = (rows,), np.sum(np.asarray(rows) ** 2, 1)
""",
    "a product of seven or more axes": """
a = jnp.arange(288.0).reshape(2, 3, 2, 3, 2, 2, 2) / 288
program = jax.jit(lambda a, b: jnp.sum(a * b, 3))
args, want = (a, a + 1), np.sum(np.asarray(a) * (np.asarray(a) + 1), 3)
""",
}
HEAD = """
import sys
import jax, jax.numpy as jnp, numpy as np
from jaxcnn._core.compiler import guarded
"""
TAIL = """
chosen = guarded(program) if sys.argv[1] == "guarded" else program
print(bool(np.allclose(chosen(*args), want, rtol=1e-4)))
"""


def _probed(name: str, how: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HEAD + PROBES[name] + TAIL, how],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_is_where_the_table_says_and_cured(fault):
    cured = _probed(fault.name, "guarded")
    assert cured.returncode == 0, cured.stderr
    assert cured.stdout == "True\n"
    plain = _probed(fault.name, "plain")
    if VERSION not in fault.versions:
        assert plain.stdout == "True\n", plain.stderr
    elif fault is FAULTS[0]:  # the other is a fault of some machines
        assert plain.stdout == "False\n"


@pytest.mark.skipif(not here(), reason="this version of XLA has no known fault")
def test_the_compiler_is_named_and_no_rule():
    program = programs()["product, square, sum"](ROWS)
    (failure,) = against_steps("rows", program)
    assert "the compiler, not the rule: a matrix product and a reduction" in failure.cause
    assert compiler.FLAG in failure.cause
    assert against_steps("rows", program, guard=True) == []


def test_check_blames_the_compiler():
    @jax.custom_vjp
    def norms(rows):
        return jnp.sum((jnp.eye(3) @ rows.T) ** 2, 0)

    norms.defvjp(lambda rows: (norms(rows), rows), lambda rows, dy: (2 * dy[:, None] * rows,))
    rows = np.random.default_rng(1).standard_normal((ROWS, 3))
    report = verify.check(norms, rows, only=("value", "jit", "finite differences"))
    failed = [failure.check for failure in report.failures]
    assert failed == (["jit"] if here() else [])
    assert all(f.cause.startswith("the compiler, not the rule") for f in report.failures)


def test_equal_calls_that_differ_are_seen():
    count = iter(range(100))
    unsteady = jax.jit(
        lambda x: (
            x
            + jax.pure_callback(
                lambda: np.float32(next(count)), jax.ShapeDtypeStruct((), np.float32)
            )
            * 1e-7
        )
    )
    (failure,) = against_steps("noise", (unsteady, (jnp.ones(3),)))
    assert "equal calls give other bits" in failure.cause


def test_a_fault_is_found_in_the_text_of_its_fusion_alone():
    body = "  %d = f32[3,9] dot(%a, %b)\n  ROOT %r = f32[9] reduce(%d, %zero)\n"
    text = f"%fused (a: f32[3,3]) -> f32[9] {{\n{body}}}\n\nENTRY %main () -> f32[9] {{\n"
    ynn = (
        '  ROOT %f = f32[9] fusion(%a), kind=kCustom, calls=%fused, c={"kind":"__ynn_fusion"}\n}\n'
    )
    assert [fault.name for fault in suspects(text + ynn)] == [FAULTS[0].name]
    assert suspects(text + ynn.replace("__ynn_fusion", "loop")) == ()
    assert suspects(text.replace("dot(", "add(") + ynn) == ()
    wide = text.replace("dot(", "add(").replace("f32[3,9]", "f32[2,2,2,2,2,2,9]")
    assert [fault.name for fault in suspects(wide + ynn)] == [FAULTS[1].name]


def test_a_guarded_program_takes_keys_and_trees():
    draw = guarded(jax.jit(lambda key, tree: jax.random.normal(key, tree["x"].shape) + tree["s"]))
    key, tree = jax.random.key(3), {"x": np.ones(4), "s": 2.0}
    np.testing.assert_array_equal(draw(key, tree), draw.plain(key, tree))
    assert list(draw.met.values()) == [()] * bool(here())


def test_a_guarded_program_is_the_jitted_one_inside_of_others():
    inner = guarded(jax.jit(lambda x: jnp.sum(x**2)))
    assert jax.grad(inner)(3.0) == 6.0
    assert jax.jit(inner)(jnp.ones(4)) == 4.0
    _, total = jax.lax.scan(lambda c, x: (c, inner(x)), 0, jnp.ones((2, 3)))
    np.testing.assert_array_equal(total, [3.0, 3.0])


def test_a_step_works_inside_of_scan_jit_and_grad():
    model = layers.serial(scores=layers.dense(3))
    recipe = train.Recipe(model, ops.softmax_cross_entropy, optax.sgd(0.1))
    step = train.make_step(recipe)
    state = train.create(recipe, jax.random.key(0), (4,))
    x, y, key = jnp.ones((2, 4)), jnp.zeros(2, jnp.int32), jax.random.key(1)

    def loss_after(scale):
        return step(state, scale * x, y, key)[1]["loss"]

    alone = train.make_step(recipe)(jax.tree.map(jnp.copy, state), x, y, key)[1]["loss"]
    np.testing.assert_allclose(jax.jit(loss_after)(1.0), alone)
    assert np.isfinite(jax.jit(jax.grad(loss_after))(1.0))
    _, losses = jax.lax.scan(lambda s, _: step(s, x, y, key), state, None, 2)
    assert losses["loss"][1] < losses["loss"][0]
