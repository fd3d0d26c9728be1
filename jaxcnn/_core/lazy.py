"""Names that a package loads when they are first asked for (PEP 562), so that importing the package
costs nothing."""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def on_demand(
    package: str, names: Sequence[str], homes: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` for ``package``, whose public names are ``names``.

    ``homes`` says which of them each module inside has; the others are modules themselves. A
    function must not bear the name of a submodule: importing the submodule, by anybody, would put
    it in the function's place.

    >>> find, names = on_demand("json", ["JSONDecoder", "tool"], {"decoder": ["JSONDecoder"]})
    >>> find("JSONDecoder").__name__, find("tool").__name__, names()
    ('JSONDecoder', 'json.tool', ['JSONDecoder', 'tool'])
    >>> find("cube")
    Traceback (most recent call last):
    AttributeError: module 'json' has no attribute 'cube'
    """
    modules = {name: module for module, inside in homes.items() for name in inside}

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = importlib.import_module(f"{package}.{modules.get(name, name)}")
        value = getattr(home, name) if name in modules else home
        setattr(sys.modules[package], name, value)  # found by itself from now on
        return value

    return find, lambda: sorted(names)
