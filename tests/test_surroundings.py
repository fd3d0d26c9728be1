"""The whole suite where everything is as somebody may have it. As long as the suite itself, each
time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SURROUNDINGS = {
    "strict, in C, on a terminal of five columns": {
        "JAX_NUMPY_RANK_PROMOTION": "raise",
        "PYTHONWARNINGS": "error",
        "LC_ALL": "C",
        "COLUMNS": "5",
    },
    "keys of rbg": {"JAX_DEFAULT_PRNG_IMPL": "rbg"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SURROUNDINGS)
def test_the_suite(name: str) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    root = Path(__file__).parents[1]
    found = subprocess.run(
        command,
        cwd=root,
        env=environment | SURROUNDINGS[name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-10_000:]
