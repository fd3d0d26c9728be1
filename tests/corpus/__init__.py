"""Gradient rules as people write them: what a checker must reject (``WRONG``) and must accept
(``RIGHT``)."""

import importlib
import pkgutil

from corpus.rule import Rule


def _collect(kind: str) -> list[Rule]:
    modules = sorted(
        m.name for m in pkgutil.iter_modules(__path__) if m.name.startswith(f"{kind}_")
    )
    return [
        rule
        for name in modules
        for rule in getattr(importlib.import_module(f"corpus.{name}"), kind.upper())
    ]


WRONG: list[Rule] = _collect("wrong")
RIGHT: list[Rule] = _collect("right")

_names = [rule.name for rule in WRONG + RIGHT]
if _twice := sorted({name for name in _names if _names.count(name) > 1}):
    raise ValueError(f"two rules of the same name: {_twice}")
