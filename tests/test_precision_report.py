"""``python -m jaxcnn precision``: what is measured, what is flagged, what is printed and
written."""

import json
from argparse import ArgumentParser
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jaxcnn._core.case import Case, rows, values
from jaxcnn._core.op import Op
from jaxcnn.ops import OPS
from jaxcnn.precision import Policy
from jaxcnn.verify._commands import precision
from jaxcnn.verify._precision import BOUND, Row, errors, worst

LIGHT = {"dense", "bias", "tanh", "layer_norm", "l2", "squared_error"}  # to compile


def one_after_the_other(x):
    return jax.lax.scan(lambda total, row: (total + row, None), jnp.zeros_like(x[0]), x)[0], x


def spread(x, dy):
    return (jnp.broadcast_to(dy, x.shape),)


CASES = (Case("4096 rows", (rows(4096, 3, scale=3.0),)),)
NARROW = Op("narrow", one_after_the_other, spread, cases=CASES)
GOOD = Op("good", lambda x: (x.sum(0), x), spread, cases=CASES)
SQUARES = Case("300", (values([300.0]),))
OVERFLOW = Op(
    "overflow", lambda w: ((w * w).sum() / 2, w), lambda w, dy: (w * dy,), cases=(SQUARES,)
)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("op", [pytest.param(op, id=op.name, marks=[pytest.mark.slow] * (op.name not in LIGHT)) for op in OPS])  # fmt: skip
def test_every_op_is_within_its_bounds(op, dtype):
    found = errors(op, Policy(dtype), cases=op.cases[:1] if op.name in LIGHT else None)
    assert all(row.ok for row in found), [row for row in found if not row.ok]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_sum_in_16_bits_is_flagged(dtype):
    value, cotangent = errors(NARROW, Policy(dtype))
    assert (value.array, value.dtype, value.bound, value.ok) == ("y", dtype, BOUND, False)
    assert value.eps > 5 * BOUND
    assert (cotangent.array, cotangent.error, cotangent.ok) == ("dx", 0.0, True)
    assert all(row.ok for row in errors(GOOD, Policy(dtype)))


def test_in_float32_the_bound_grows_with_the_sum():
    value, _ = errors(NARROW, Policy("float32"))
    assert value.ok
    assert value.bound == 64 * 4096**0.5


def test_a_number_that_is_lost_is_no_number():
    """300² is beyond float16, half of it is not."""
    value, cotangent = errors(OVERFLOW, Policy("float16"))
    assert (value.error, value.lost, value.ok) == (float("inf"), 1, False)
    assert cotangent.ok
    assert all(row.ok for row in errors(OVERFLOW, Policy("bfloat16")))


def test_infinity_is_right_beyond_the_range():
    square = Op("square", lambda x: (x * x, x), lambda x, dy: (2 * x * dy,), cases=(SQUARES,))
    value, _ = errors(square, Policy("float16"))
    assert (value.error, value.lost, value.ok) == (0.0, 0, True)


def test_what_is_kept_in_16_bits_widens_the_bound():
    """1 − y² where y is almost 1 is known no better than y."""
    saturated = Op("tanh", lambda x: (y := jnp.tanh(x), y), lambda y, dy: ((1 - y * y) * dy,))
    value, cotangent = errors(saturated, Policy("bfloat16"), cases=[Case("2.5", (values([2.53]),))])
    assert value.bound == BOUND
    assert cotangent.bound > 2 * BOUND
    assert cotangent.ok


def test_the_worst_of_each_array():
    def row(case: str, array: str, eps: float, bound: float = 4.0) -> Row:
        return Row("op", case, array, "bfloat16", eps / 128, eps, bound, 0)

    found = worst(
        [row("a", "y", 1.0), row("b", "y", 2.0), row("c", "y", 3.0, 40.0), row("a", "dx", 0.0)]
    )
    assert [(r.case, r.array) for r in found] == [("b", "y"), ("a", "dx")]


def test_a_policy_without_anything_more_precise_is_refused():
    with pytest.raises(
        ValueError,
        match=r"errors: setting `policy` must be one that computes in 16 or 32 bits, got",
    ):
        errors(GOOD, Policy("float64"))


def run(*options: str) -> int:
    parser = ArgumentParser()
    precision.add_options(parser)
    return precision.run(parser.parse_args(options), [GOOD, NARROW, OVERFLOW])


def test_the_command_prints_writes_and_judges(tmp_path, capsys):
    assert run("--policy", "float16", "--json", str(tmp_path / "a.json")) == 1
    said = capsys.readouterr()
    assert said.err == "beyond their bounds in float16: narrow, overflow\n"
    lines = [line.split() for line in said.out.splitlines()]
    assert lines[0] == ["op", "array", "error", "eps", "bound", "worst", "case"]
    assert [(line[0], line[1], "✓" in line) for line in lines[1:]] == [
        ("good", "y", True),
        ("good", "dx", True),
        ("narrow", "y", False),
        ("narrow", "dx", True),
        ("overflow", "y", False),
        ("overflow", "dw", True),
    ]
    assert "not finite" in said.out.splitlines()[5]
    found = json.loads((tmp_path / "a.json").read_text())
    assert (found["ok"], found["policy"], len(found["rows"])) == (False, "float16", 6)
    assert (found["rows"][4]["error"], found["rows"][4]["lost"]) == (None, 1)


def test_the_command_as_markdown(capsys):
    assert run("--op", "good", "--markdown") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {8}
    assert lines[2].startswith("| good | y | ")


@pytest.mark.parametrize(("options", "words"), [
    (["--op", "god"], "--op god: there is no such op; did you mean good?"),
    (["--json", "no/such/folder.json"], "its folder does not exist"),
    (["--json", str(Path.cwd().anchor)], "is a folder"),
])  # fmt: skip
def test_bad_usage(options, words, capsys):
    assert run(*options) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert words in said.err
    assert not said.out
