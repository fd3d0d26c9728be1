"""Set up before jax and jaxcnn are imported: shape contracts on, 8 simulated devices, and a
compiler that hurries, and remembers what it compiled for another test."""

import os
import shutil
import tempfile

CACHE = "JAX_COMPILATION_CACHE_DIR"  # for all processes of a session
if CACHE not in os.environ:
    os.environ[CACHE] = OWN = tempfile.mkdtemp(prefix="jaxcnn-tests-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
else:
    OWN = None
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"

import jax  # noqa: E402
import pytest  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_platforms", "cpu")
# as some users have it; what broadcasts says so
jax.config.update("jax_numpy_rank_promotion", "raise")
collect_ignore = ["types_surface.py"]  # for pyright
# The contracts are shapes; `verify` has none, and handles millions of small arrays
CHECKED = [
    "_core",
    "_gradient",
    "data",
    "kernels",
    "layers",
    "models",
    "ops",
    "runs",
    "train",
    "weights",
]
install_import_hook([f"jaxcnn.{name}" for name in CHECKED], "contracts.typechecker")


@pytest.fixture
def x64():
    """float64 on, for one test."""
    with jax.enable_x64(True):
        yield


def pytest_unconfigure():
    """Only the process that made it takes the cache away."""
    if OWN is not None:
        shutil.rmtree(OWN, ignore_errors=True)


def pytest_terminal_summary(terminalreporter):
    """The mutants' kill counts, and which were equivalent to the rule (the same numbers, on so many
    cases)."""
    rows = [
        value
        for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
        for name, value in report.user_properties
        if name == "mutants"
    ]
    if not rows:
        return
    terminalreporter.section("mutants of every backward")
    for op, killed, survived, equivalent in sorted(rows):
        same = "; ".join(f"{label} ×{count}" for label, count in equivalent.items())
        terminalreporter.line(
            f"{op:<24}{killed:>5} killed {survived:>3} survived"
            + (f"   equivalent: {same}" if same else "")
        )
    total = [sum(row[i] for row in rows) for i in (1, 2)]
    terminalreporter.line(f"{'total':<24}{total[0]:>5} killed {total[1]:>3} survived")


@pytest.fixture(scope="module")
def promoting():
    """For modules of what others wrote, which adds a bias as most people do."""
    with jax.numpy_rank_promotion("allow"):
        yield
