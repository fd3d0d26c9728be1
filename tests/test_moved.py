"""Old names of modules go on working for one release."""

import subprocess
import sys

import jaxcnn._io.files
import jaxcnn.files  # pyright: ignore[reportMissingImports]
import jaxcnn.runs.trained  # pyright: ignore[reportMissingImports]
from jaxcnn import train
from jaxcnn._core.moved import MOVED


def test_a_module_is_the_same_under_its_old_name() -> None:
    assert sys.modules["jaxcnn.files"] is jaxcnn._io.files
    assert jaxcnn._io.files.__spec__ is not None
    assert jaxcnn._io.files.__spec__.name == "jaxcnn._io.files"
    assert sys.modules["jaxcnn.runs.trained"] is sys.modules["jaxcnn.runs._model_file"]


def test_every_old_name_is_found() -> None:
    names = [*MOVED, "layers.chain", "train.checkpoint", "data.scale", "data.sets"]
    code = f"""
import importlib, sys
for name in {names!r}:
    importlib.import_module("jaxcnn." + name)
from jaxcnn import ops, train
assert callable(train.fit) and callable(train.autopsy) and ops.conv.name == "conv"
for name in ("jaxcnn.nothing", "jaxcnn.train.nothing", "jaxcnn.ops.conv"):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    sys.exit(name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_a_room_offers_is_not_hidden_by_a_module() -> None:
    assert callable(train.fit)
