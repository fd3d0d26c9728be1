"""A backward must read its residuals only: an array that it closes over gets gradient zero, and JAX
says nothing.

Captured constants are fine. Captured *tracers* (arrays that some transformation is following) are
refused, with the name of the variable."""

import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.core import Tracer

from jaxcnn._core.errors import show

_INERT = (
    int,
    float,
    complex,
    str,
    bytes,
    type(None),
    type,
    types.ModuleType,
    types.BuiltinFunctionType,
)


def refuse_captures(
    op: str, backward: Callable[..., Any], run: Callable[..., Any], residuals: Any, dy: Any
) -> None:
    """Raise TypeError if ``backward`` reads a traced array that is not among its arguments; ``run``
    is ``backward`` ready to be called.

    A function that closes over nothing but Python values cannot, and is let through unseen; any
    other is traced once more, and the constants of its jaxpr are what it captured.
    """
    if all(isinstance(value, _INERT) for _, value in reach(backward)):
        return
    captured = [
        const for const in jax.make_jaxpr(run)(residuals, dy).consts if isinstance(const, Tracer)
    ]
    if captured:
        names = {
            id(leaf): name for name, value in reach(backward) for leaf in jax.tree.leaves(value)
        }
        found = ", ".join(f"`{names.get(id(t), '?')}` ({show(t)})" for t in captured)
        raise TypeError(
            f"{op}: backward reads the traced array {found}, which is not among its residuals, so"
            " its gradient would silently be zero; let forward take it as an input and return it"
            " in the residuals"
        )


def reach(function: Any, seen: frozenset[int] = frozenset()) -> Iterator[tuple[str, Any]]:
    """Every value that a function holds by closure, binding or default, functions opened up, by
    variable name."""
    if id(function) in seen:
        return
    seen |= {id(function)}
    for name, value in _held(function):
        if isinstance(value, types.FunctionType | functools.partial | types.MethodType):
            yield from reach(value, seen)
        elif isinstance(value, tuple | list) and all(isinstance(v, _INERT) for v in value):
            continue
        else:
            yield name, value


def _held(function: Any) -> list[tuple[str, Any]]:
    if isinstance(function, functools.partial):
        bound = [(f"argument {i}", value) for i, value in enumerate(function.args)]
        return [("function", function.func), *bound, *function.keywords.items()]
    if isinstance(function, types.MethodType):
        return [("function", function.__func__), ("self", function.__self__)]
    if not isinstance(function, types.FunctionType):
        return [("self", function)]
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    closed = [(name, cell.cell_contents) for name, cell in cells if cell != types.CellType()]
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    return [*closed, *(("default", value) for value in defaults)]
