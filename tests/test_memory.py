"""Freed memory is kept from call to call, unless the user says no. Page faults are counted in
processes of their own."""

import subprocess
import sys
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import optax
import pytest

from jaxcnn import models, ops
from jaxcnn._io import memory
from jaxcnn.train import Recipe, make_step

PROGRAM = """
import resource, sys, jax, jax.numpy as jnp
import jaxcnn
jaxcnn.keep_memory("no" not in sys.argv)
from jaxcnn import ops
x, w = jnp.ones((64, 64, 32, 32)), jnp.ones((3, 3, 32, 32))
f = jax.jit(lambda x: ops.conv(jnp.tanh(ops.conv(x, w)), w).sum())
for number in range(8):
    if number == 4:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    f(x).block_until_ready()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(memory._mallopt() is None, reason="this C library has no mallopt")
def test_calls_reuse_their_memory_unless_the_user_says_no() -> None:
    def faults(*flags: str) -> int:
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM, *flags], capture_output=True, text=True, check=True
        )
        return int(run.stdout)

    assert faults() < 0.1 * faults("no")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """What the C library was told."""
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(
        memory, "_mallopt", lambda: lambda what, value: calls.append((what, value)) or 1
    )
    monkeypatch.setattr(memory, "_asked", False)
    before = jax.config.values["jax_cpu_enable_async_dispatch"]
    yield calls
    jax.config.update("jax_cpu_enable_async_dispatch", before)


DEFAULTS = [
    (memory.M_MMAP_MAX, memory.DEFAULT_MMAPS),
    (memory.M_TRIM_THRESHOLD, memory.DEFAULT_TRIM),
]
KEPT = [(memory.M_MMAP_MAX, 0), (memory.M_TRIM_THRESHOLD, memory.KEPT)]


def test_the_users_word_counts(told: list[tuple[int, int]]) -> None:
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    jnp.ones(1)
    with pytest.warns(RuntimeWarning, match="keep_memory: JAX has its devices already"):
        assert memory.keep_memory(False)
    assert jax.config.values["jax_cpu_enable_async_dispatch"]
    make_step(Recipe(models.mlp((2,)), ops.softmax_cross_entropy, optax.sgd(0.1)))
    assert told == DEFAULTS
    assert memory.keep_memory(False)  # nothing changes, so nothing is too late
    with pytest.warns(RuntimeWarning, match="call it before the first array"):
        assert memory.keep_memory()
    assert told[-2:] == KEPT


def test_a_step_tells_the_c_library_alone(told: list[tuple[int, int]]) -> None:
    before = jax.config.values["jax_cpu_enable_async_dispatch"]
    make_step(Recipe(models.mlp((2,)), ops.softmax_cross_entropy, optax.sgd(0.1)))
    assert told == KEPT
    assert jax.config.values["jax_cpu_enable_async_dispatch"] == before


def test_where_the_c_library_has_no_such_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_mallopt", lambda: None)
    before = jax.config.values["jax_cpu_enable_async_dispatch"]
    assert not memory.keep_memory()
    assert jax.config.values["jax_cpu_enable_async_dispatch"] == before


def test_importing_and_calling_an_op_sets_nothing() -> None:
    """And what a command loads JAX by does, in time."""
    code = """
import jax
from jaxcnn._io import memory
memory._tell_malloc = lambda keep: print("malloc", keep)
import jaxcnn
for name in jaxcnn.__all__:
    getattr(jaxcnn, name)
import jaxcnn.kernels._choice, jax.numpy as jnp
jaxcnn.ops.conv(jnp.ones((8, 6, 6, 32)), jnp.ones((3, 3, 32, 32)))
print(jax.config.values["jax_cpu_enable_async_dispatch"])
"""
    command = [sys.executable, "-W", "error", "-c"]
    done = subprocess.run([*command, code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]
    code = """
from jaxcnn._io.outside import load_jax
print(load_jax().config.values["jax_cpu_enable_async_dispatch"])
"""
    done = subprocess.run([*command, code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(memory._mallopt() is None)]
