"""Names that a package loads when they are first asked for (PEP 562), so that importing the package
costs nothing."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def on_demand(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` for ``package``.

    ``homes`` says in which module each name is at home; a name whose home is ``package.name`` is
    that module itself. A function must not bear the name of a
    submodule: importing the submodule, by anybody, would put it in the function's place.

    >>> find, names = on_demand("json", {"decoder": "json.decoder", "sqrt": "math"})
    >>> find("sqrt")(4.0), find("decoder").__name__
    (2.0, 'json.decoder')
    >>> find("cube")
    Traceback (most recent call last):
    AttributeError: module 'json' has no attribute 'cube'
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = importlib.import_module(homes[name])
        value = home if homes[name] == f"{package}.{name}" else getattr(home, name)
        setattr(sys.modules[package], name, value)  # found by itself from now on
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return find, names
