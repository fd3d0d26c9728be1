"""Modules under the names that they had before they became private, for one release.

``import jaxcnn.files`` gives ``jaxcnn._io.files``. Asked only for what is not found otherwise.
"""

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED = {
    "captures": "_core.captures",
    "case": "_core.case",
    "command": "_io.command",
    "contracts": "_core.contracts",
    "cotangent": "_core.cotangent",
    "drawing": "_io.drawing",
    "errors": "_core.errors",
    "files": "_io.files",
    "gradient": "_gradient",
    "html": "_io.html",
    "keys": "_core.keys",
    "lazy": "_core.lazy",
    "lines": "_io.lines",
    "memory": "_io.memory",
    "norms": "_core.norms",
    "op": "_core.op",
    "outside": "_io.outside",
    "residuals": "_core.residuals",
    "runs.build": "runs._components",
    "runs.given": "runs._dataset_of_run",
    "runs.roll": "runs._peers",
    "runs.same": "runs._agreement",
    "runs.trained": "runs._model_file",
    "runs.using": "runs._inference",
    "runs.work": "runs._train",
    "sealed": "_io.sealed",
    "table": "ops._table",
    "terminal": "_io.terminal",
    "thin": "_io.thin",
    "verify.board": "verify._commands.board",
    "verify.checking": "verify._check",
    "verify.command": "verify._commands.verify",
    "verify.compare": "verify._numerics.comparison",
    "verify.derivatives": "verify._checks.first_order",
    "verify.differences": "verify._checks.finite_differences",
    "verify.draws": "verify._commands.arguments",
    "verify.kinks": "verify._checks.kinks",
    "verify.local": "verify._numerics.directional",
    "verify.patterns": "verify._numerics.patterns",
    "verify.places": "verify._numerics.locations",
    "verify.pool": "verify._commands.pool",
    "verify.precision_command": "verify._commands.precision",
    "verify.proof": "verify._prove",
    "verify.rounding": "verify._checks.rounding",
    "verify.second": "verify._checks.second_order",
    "verify.sharding": "verify._checks.sharding",
    "verify.slopes": "verify._numerics.slopes",
    "verify.tasks": "verify._commands.tasks",
    "verify.transforms": "verify._checks.transforms",
    "verify.wire": "verify._commands.report_json",
    "verify.workers": "verify._commands.worker",
    "wide": "_core.upcast",
    "window": "_core.window",
}


class Moved:
    """A finder and loader: the module itself under its old name."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """None for what is no old name, or what the room offers something else under."""
        package, _, old = name.partition(".")
        room, _, last = old.rpartition(".")
        parent = sys.modules.get(f"{package}.{room}" if room else package)
        if package != "jaxcnn" or not old or last.startswith("_") or hasattr(parent, last):
            return None
        new = f"{package}.{MOVED.get(old, f'{room}._{last}')}"
        if (old not in MOVED and not room) or importlib.util.find_spec(new) is None:
            return None
        return ModuleSpec(name, Moved(new))  # pyright: ignore[reportArgumentType]

    def __init__(self, new: str) -> None:
        self._new = new

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Loaded under its own name."""
        self._module = importlib.import_module(self._new)
        self._spec = self._module.__spec__
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        """It has been; it keeps the specification of its own name."""
        module.__spec__ = self._spec


def keep_old_names() -> None:
    """Once in a process."""
    finders: list[Any] = sys.meta_path
    if Moved not in finders:
        finders.append(Moved)
