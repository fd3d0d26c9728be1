"""Whole steps compiled for TPU v5e without one. Skipped where the TPU's compiler is not installed
(``pip install -e '.[tpu]'``)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.bench import tpu

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not tpu.available(), reason="libtpu is not installed"),
]

PROGRAM = """
import json, sys
import jax
jax.config.update("jax_platforms", "cpu")
from experiments.bench import tpu
chips, dtype = int(sys.argv[1]), sys.argv[2]
costs = {peer: tpu.cost("lenet", peer, chips, dtype, batch=128) for peer in tpu.PEERS}
print(json.dumps({peer: cost._asdict() for peer, cost in costs.items()}))
"""


@pytest.mark.parametrize("chips", tpu.CHIPS)
def test_a_step_moves_no_more_bytes_than_autodiffs(chips: int) -> None:
    """In a process of its own, as the compiler for TPUs prints and registers what the suite does
    not expect."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(chips), "float32"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "XLA_FLAGS": ""},
    )
    cost = json.loads(run.stdout.splitlines()[-1])
    assert cost["jaxcnn"]["bytes_accessed"] <= cost["autodiff"]["bytes_accessed"]
    assert (
        cost["jaxcnn"]["collectives"] == cost["autodiff"]["collectives"] == (0 if chips == 1 else 1)
    )
    assert cost["jaxcnn"]["flops"] > 0
