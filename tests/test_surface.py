"""What users may import is what is named in ``__all__``, and what a docstring names is there."""

import ast
import importlib
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import pytest

import jaxcnn

ROOT = Path(jaxcnn.__file__).parents[1]
OFFERED = [getattr(jaxcnn, name) for name in jaxcnn.__all__]
ROOMS = [jaxcnn, *(m for m in OFFERED if isinstance(m, ModuleType) and hasattr(m, "__path__"))]
SOURCES = sorted([*ROOT.glob("jaxcnn/**/*.py"), *ROOT.glob("experiments/**/*.py")])
FILE = re.compile(r"(?<![\w./-])(?:[\w.-]+/)*[\w-]+\.(?:md|py)\b")


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.__name__)
def test_a_room_shows_what_it_offers(room: ModuleType) -> None:
    offered = {name for name in room.__all__ if not name.startswith("_")}
    shown = {name for name in dir(room) if name.isidentifier() and not name.startswith("_")}
    assert shown - {"jaxtyping"} == offered  # which its import hook leaves behind
    modules = {module.name for module in pkgutil.iter_modules(room.__path__)}
    assert {name for name in modules if not name.startswith("_")} <= offered
    for name in offered:
        assert not isinstance(getattr(room, name), ModuleType) or name in modules
        assert room.__doc__, f"{room.__name__} says what it is for"


def test_the_top_is_small() -> None:
    assert len([path for path in (ROOT / "jaxcnn").iterdir() if path.is_file()]) <= 9


def docstrings(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = (node for node in ast.walk(tree) if isinstance(node, kinds))
    return "\n".join(ast.get_docstring(node) or "" for node in nodes)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_docstring_names_is_there(path: Path) -> None:
    text = docstrings(path)
    for named in re.findall(r":(?:func|class|mod|meth|data):`(jaxcnn[\w.]*)`", text):
        assert exists(named), f"{named} is named, and is not there"
    for file in FILE.findall(text):
        assert list(ROOT.glob(f"*/**/{file}")) or (ROOT / file).exists(), f"{file} is no file"


def exists(dotted: str) -> bool:
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        try:
            for name in parts[end:]:
                value = getattr(value, name)
        except AttributeError:
            return False
        return True
    return False
