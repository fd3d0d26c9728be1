"""The search for a call at which a rule is wrong: what it finds, how small it makes it, what it
leaves alone."""

import importlib
import pkgutil
import random
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import planted
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxcnn import Op, ops, verify
from jaxcnn.__main__ import main

PLANTED = [module.name for module in pkgutil.iter_modules(planted.__path__)]
FEW = {"conv_third_example"}  # the others in the slow tier


class Simplest:
    """Always the simplest choice."""

    def integer(self, low, high):
        return low

    def among(self, *values):
        return values[0]


class Random:
    """Choices without hypothesis."""

    def __init__(self, seed):
        self._random = random.Random(seed)

    def integer(self, low, high):
        return self._random.randint(low, high)

    def among(self, *values):
        return self._random.choice(values)


@pytest.mark.parametrize("op", ops.OPS, ids=lambda op: op.name)
def test_every_op_has_a_space_of_calls_that_it_takes(op):
    for choose in (Simplest(), *map(Random, range(20))):
        case = op.space(choose)
        jax.eval_shape(lambda *args, c=case: op.plain(*args, **c.static), *case.draw(0))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in FEW)) for n in PLANTED]
)
def test_a_fault_of_some_geometries_is_found_and_made_small(name):
    op = importlib.import_module(f"planted.{name}").op
    found = verify.fuzz(op, seconds=60)
    assert not found.ok
    assert found.report is not None
    assert not found.report.ok
    assert len(found.settings) <= 3
    assert sum(np.size(leaf) for leaf in jax.tree.leaves(found.args)) <= 64


def test_the_program_shows_the_failure_again(capsys):
    from planted.dense_leading_axes import op

    found = verify.fuzz(op, seconds=60)
    assert "from planted.dense_leading_axes import op" in found.program
    was = jax.config.read("jax_enable_x64")
    try:
        exec(found.program, {})
    finally:
        jax.config.update("jax_enable_x64", was)
    assert "gradient             FAILED" in capsys.readouterr().out


def test_a_right_op_is_left_alone():
    found = verify.fuzz(ops.dense, seconds=3)
    assert found
    assert found.calls > 1
    assert str(found).startswith("dense: no fault found (")


wrong_from_three = Op(
    "wrong_from_three",
    lambda x, *, scale=1.0: (scale * x.sum(), x),
    lambda x, dy, *, scale=1.0: (jnp.full_like(x, scale * dy if x.size < 3 or scale == 1 else dy),),
)
ROWS = hnp.arrays(np.float64, st.integers(0, 6), elements=st.floats(-2, 2))


def test_a_strategy_of_ones_own():
    calls = st.tuples(st.tuples(ROWS), st.fixed_dictionaries({"scale": st.floats(1, 4)}))
    found = verify.fuzz(wrong_from_three, calls, seconds=60)
    assert not found.ok
    assert found.args[0].shape == (3,)
    assert set(found.settings) == {"scale"}


def test_without_a_reference_differences_decide():
    right = verify.fuzz(lambda x: jnp.sin(x).sum(), st.tuples(ROWS), seconds=2)
    assert right.ok, right


def test_a_function_that_raises_is_a_failure():
    def only_short(x):
        if x.size > 4:
            raise RuntimeError("too long")
        return x.sum()

    found = verify.fuzz(only_short, st.tuples(ROWS), seconds=30)
    assert "RuntimeError: too long" in str(found)
    assert found.args[0].shape == (5,)


def test_shrinking_keeps_to_the_failure_that_was_found_first_with_checks_of_ones_own():
    """Wrong in one way from three numbers on, in another below."""
    two_faults = Op(
        "two_faults",
        lambda x: (x.sum(), x),
        lambda x, dy: (jnp.full_like(x, 2 * dy if x.size > 2 else dy * dy),),
    )
    rows = st.integers(1, 6).map(lambda n: (jnp.arange(1.0, n + 1),))
    found = verify.fuzz(two_faults, rows, seconds=30, only=("linear in dy", "finite differences"))
    assert found.report is not None
    kind = found.report.failures[0].check
    assert (found.args[0].size, kind) in ((3, "finite differences"), (1, "linear in dy"))


def test_a_setting_that_check_knows_too_is_bound_in_the_program(capsys):
    wrong = Op(
        "wrong",
        lambda x, *, seed=1: (x.sum() * seed, x),
        lambda x, dy, *, seed=1: (jnp.ones_like(x) * dy,),
    )
    calls = st.just(((jnp.ones(2),), {"seed": 3}))
    found = verify.fuzz(wrong, calls, seconds=20)
    assert "verify.check(functools.partial(wrong, seed=3), x, only=" in found.program
    exec(found.program, {"wrong": wrong})
    assert "FAILED" in capsys.readouterr().out


def test_the_command_prints_the_program_and_how_to_search_again() -> None:
    order = "--module planted.conv_third_example:op --fuzz 0.5 --seed 3"
    done = subprocess.run(
        [sys.executable, "-m", "jaxcnn", "verify", *order.split()],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "from planted.conv_third_example import op\n" in done.stdout
    assert "print(verify.check(op, x, w, reference=op.reference, only='gradient'" in done.stdout
    again = "verify --fuzz 0.5 --module planted.conv_third_example:op --seed 3 --html failures.html"
    assert again in done.stdout


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ("--fuzz 0", "--fuzz 0.0: expected minutes, more than 0"),
        ("--fuzz 1 --compiler", "--compiler and --fuzz exclude each other"),
        ("--fuzz 1 --strategy a:b", "--strategy and --reference go with --module"),
        ("--strategy a:b", "--strategy goes with --fuzz"),
        ("--fuzz 1 --module jax.numpy:sin", "with --fuzz needs --strategy"),
        ("--fuzz 1 --op conv --module jax.numpy:sin", "--op and --module exclude each other"),
    ],
)
def test_the_command_refuses(order: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", *order.split()]) == 2
    assert words in capsys.readouterr().err


def test_what_cannot_be_searched_is_refused():
    with pytest.raises(TypeError, match="a function needs a strategy"):
        verify.fuzz(jnp.sin)
    with pytest.raises(ValueError, match="`seconds` must be positive"):
        verify.fuzz(ops.relu, seconds=0)
    with pytest.raises(TypeError, match="must draw a tuple of arguments"):
        verify.fuzz(jnp.sin, ROWS)
    with pytest.raises(ValueError, match="there is no check 'nothing'"):
        verify.fuzz(ops.relu, only="nothing")
