"""Set up before jax and jaxcnn are imported: shape contracts on, 8 simulated devices, and a compiler that hurries."""

import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"

import jax  # noqa: E402
import pytest  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_platforms", "cpu")
install_import_hook("jaxcnn", "contracts.typechecker")


@pytest.fixture
def x64():
    """float64 on, for one test."""
    with jax.enable_x64(True):
        yield
