"""What an extra promises works with the packages that the extra brings, and without those of the
others."""

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from idx_files import write_folder
from packaging.requirements import Requirement

WITHOUT = """
import json, runpy, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
module, absent, arguments = sys.argv[1], set(json.loads(sys.argv[2])), sys.argv[3:]
sys.meta_path.insert(0, Absent())
sys.argv[1:] = arguments
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def brought(package: str, extras: tuple[str, ...], found: set[str] | None = None) -> set[str]:
    """The distributions that ``package[extras]`` brings, by their normalised names."""
    found = set() if found is None else found
    for line in metadata.requires(package) or []:
        needed = Requirement(line)
        if needed.marker and not any(
            needed.marker.evaluate({"extra": extra}) for extra in extras or ("",)
        ):
            continue
        name = re.sub(r"[-_.]+", "-", needed.name).lower()
        if name not in found or needed.extras:
            found.add(name)
            brought(needed.name, tuple(needed.extras), found)
    return found


def absent_with(*extras: str) -> str:
    """The top-level modules on this machine that are not there where ``jaxcnn[extras]`` alone was
    installed, as JSON."""
    there = brought("jaxcnn", extras) | {"jaxcnn"}
    here = metadata.packages_distributions()
    return json.dumps(
        [
            module
            for module, names in here.items()
            if not {re.sub(r"[-_.]+", "-", name).lower() for name in names} & there
        ]
    )


@pytest.mark.parametrize(
    ("extras", "module", "arguments"),
    [
        ((), "jaxcnn", "--help"),
        ((), "jaxcnn", "ops"),
        ((), "jaxcnn", "verify --op relu"),
        (("train",), "experiments.mnist", "--help"),
        (("train",), "experiments.mnist", "--model mlp --epochs 1 --data DATA --out OUT"),
        (("experiments",), "experiments.walkthrough", "--help"),
        (("train",), "jaxcnn", "train --help"),
    ],
)
def test_an_extra_is_enough(
    extras: tuple[str, ...], module: str, arguments: str, tmp_path: Path
) -> None:
    places = {"OUT": str(tmp_path / "out"), "DATA": str(write_folder(tmp_path / "data", size=28))}
    words = [places.get(word, word) for word in arguments.split()]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, module, absent_with(*extras), *words],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_what_is_absent_is_absent() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, "yaml", absent_with("experiments")],
        capture_output=True,
        text=True,
    )
    assert "No module named 'yaml'" in done.stderr
    assert "yaml" not in absent_with("train")
