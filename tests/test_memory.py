"""Freed memory is kept from call to call, unless the user says no. Page faults are counted in
processes of their own."""

import subprocess
import sys

import jax
import pytest

from jaxcnn._core import memory

PROGRAM = """
import resource, sys, jax, jax.numpy as jnp
import jaxcnn
if "no" in sys.argv:
    jaxcnn.keep_memory(False)
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


def test_the_users_word_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    monkeypatch.setattr(
        memory, "_mallopt", lambda: lambda what, value: told.append((what, value)) or 1
    )
    monkeypatch.setattr(memory, "_asked", False)
    assert memory.keep_memory(False)
    assert jax.config.values["jax_cpu_enable_async_dispatch"]
    memory.keep_unless_refused()
    assert told == [
        (memory.M_MMAP_MAX, memory.DEFAULT_MMAPS),
        (memory.M_TRIM_THRESHOLD, memory.DEFAULT_TRIM),
    ]
    assert memory.keep_memory()
    assert told[-1] == (memory.M_TRIM_THRESHOLD, memory.KEPT)
    monkeypatch.setattr(memory, "_mallopt", lambda: None)
    assert not memory.keep_memory()
    assert not jax.config.values["jax_cpu_enable_async_dispatch"]
