"""The fixture ``gradcheck``, and that what pytest loads for everybody loads nothing heavy."""

import importlib.util
import subprocess
import sys

import jaxcnn
from jaxcnn import verify

TESTS = """
import jax.numpy as jnp
import pytest
from jaxcnn import Op

right = Op("square", lambda x: (x * x, x), lambda x, dy: (2 * x * dy,))
x = jnp.array([1.0, 2.0])

def test_holds(gradcheck):
    assert gradcheck(right, x, reference=lambda x: x ** 2, only=("gradient", "linear in dy")).ok

def test_wrong(gradcheck):
    wrong = right.replace(backward=lambda x, dy: (3 * x * dy,))
    gradcheck(wrong, x, reference=lambda x: x ** 2, only="gradient")
    print("never reached")
"""


def python(*arguments, cwd=None):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=cwd)


def test_the_fixture(tmp_path):
    (tmp_path / "test_rules.py").write_text(TESTS)
    done = python(
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-W",
        "error",
        "test_rules.py",
        cwd=tmp_path,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed" in done.stdout
    failure = done.stdout[done.stdout.index("test_wrong") :]
    assert "1.5" in failure
    assert "gradient: args[0]:" in failure
    assert "checking.py" not in failure  # the report stands alone, without the way to it
    assert "plugin.py" not in failure
    assert "never reached" not in done.stdout.split("short test summary")[-1]


def test_the_plugin_loads_nothing():
    code = (
        "import sys, jaxcnn, jaxcnn.verify._plugin; print([m for m in ('jax', 'numpy',"
        " 'jaxcnn._core.op', 'jaxcnn.verify._report', 'rich') if m in sys.modules])"
    )
    done = python("-W", "error", "-c", code)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_pytest_knows_the_fixture(pytestconfig):
    assert pytestconfig.pluginmanager.has_plugin("jaxcnn")


def test_names_are_loaded_on_demand():
    code = """
import jaxcnn, sys
assert {*jaxcnn.__all__} <= {*dir(jaxcnn)} and "jax" not in sys.modules
assert jaxcnn.ops.conv(*jaxcnn.ops.conv.cases[0].draw(0)) is not None
from jaxcnn import Op, ops, verify
assert isinstance(ops.conv, Op) and Op is jaxcnn.Op and verify is jaxcnn.verify
import jaxcnn.verify._check, jaxcnn.verify._report
assert callable(verify.check) and verify.check is jaxcnn.verify._check.check
assert "Op" in vars(jaxcnn) and "check" in vars(verify)
"""
    done = python("-W", "error", "-c", code)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there():
    for package in (jaxcnn, verify):
        assert {*package.__all__} <= {*dir(package)}
        assert all(getattr(package, name) is not None for name in package.__all__)
        assert not hasattr(package, "no_such_name")


def test_no_public_name_of_verify_is_a_submodule():
    """Importing such a submodule would put it in the name's place."""
    for name in verify.__all__:
        assert importlib.util.find_spec(f"jaxcnn.verify.{name}") is None
