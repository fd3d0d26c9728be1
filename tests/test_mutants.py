"""Wrong rules must be rejected: every mutant of every backward that differs from the rule in any
bit, on the first case of an op and, in the slow tier, on all the others.

The counts are printed at the end of the run (see conftest.py).
"""

import jax
import numpy as np
import pytest

from every import reference
from jaxcnn.ops import OPS
from jaxcnn.verify._numerics.comparison import Tolerance, compare
from jaxcnn.verify._prove import subject_of

pytestmark = pytest.mark.usefixtures("x64")


def drop(d):
    d = d.copy()
    d[np.unravel_index(np.argmax(np.abs(d)), d.shape)] = 0
    return d


TIGHT = Tolerance(rtol=0.0, floor=1e-10, eps=2.0**-52)
MUTATIONS = {
    "scaled by 1.001": lambda d: d * 1.001,
    "negated": lambda d: -d,
    "one element dropped": drop,
    "transposed": lambda d: d.swapaxes(-1, -2) if d.ndim > 1 else d[::-1] if d.ndim else d,
    "shifted": lambda d: np.roll(d, 1),
    "None": lambda d: None,
}


def same_bits(a, b):
    return b is not None and a.shape == b.shape and a.tobytes() == b.tobytes()


def rejected(op, saved, dy, static, cotangents, names, oracle):
    """Whether the wiring refuses these cotangents, or the elementwise comparison finds them
    wrong."""
    mutant = op.replace(backward=lambda residuals, dy, **settings: cotangents)
    try:
        got = mutant.pull(saved, dy, **static)
    except TypeError as error:
        return str(error).startswith(f"{op.name}: backward must return")
    return bool(compare("gradient", names, jax.tree.leaves(got), oracle, TIGHT))


FIRST = [pytest.param(op, op.cases[:1], id=op.name) for op in OPS]
REST = [
    pytest.param(op, op.cases[1:], id=f"{op.name}, the rest", marks=pytest.mark.slow)
    for op in OPS
    if op.cases[1:]
]


@pytest.mark.parametrize(("op", "cases"), [*FIRST, *REST])
def test_mutants_are_rejected(op, cases, record_property):
    killed, survived, equivalent = 0, [], {}
    for case in cases:
        checked = subject_of(op, case)
        cotangents = checked.cotangents(1)
        _, oracle = jax.jit(checked.pull(lambda *a, case=case: reference(op)(*a, **case.static)))(
            checked.arrays, cotangents
        )
        y, saved = jax.jit(lambda *a, case=case: op.run(*a, **case.static))(*checked.args)
        dy = jax.tree.unflatten(jax.tree.structure(y), cotangents)
        good = jax.jit(lambda s, d, case=case: op.pull(s, d, **case.static))(saved, dy)
        assert not rejected(op, saved, dy, case.static, good, checked.names, oracle)
        for position, d in enumerate(good):
            if d is None:
                continue
            for kind, mutate in MUTATIONS.items():
                array = np.asarray(d)
                wrong = mutate(array)
                label = f"{kind}, cotangent {position}"
                if same_bits(array, wrong) or np.array_equal(array, wrong):
                    equivalent.setdefault(label, []).append(case.label)
                    continue
                mutated = (*good[:position], wrong, *good[position + 1 :])
                if rejected(op, saved, dy, case.static, mutated, checked.names, oracle):
                    killed += 1
                else:
                    survived.append(f"{case.label}: {label}")
    record_property(
        "mutants", (op.name, killed, len(survived), {k: len(v) for k, v in equivalent.items()})
    )
    assert not survived
    assert killed > 0
