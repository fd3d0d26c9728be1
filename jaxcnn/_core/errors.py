"""Messages for bad input: which op, which argument, what was expected, what came, how to mend it.

Each function returns the exception for the caller to raise, or raises it itself when its name
starts with ``check``. Checks look at shapes, dtypes and settings only, so they run before any
arithmetic and cost nothing under ``jit``.

>>> check_floating("relu", x=3)
Traceback (most recent call last):
TypeError: relu: `x` must be a floating-point array, got int (a Python value); convert it, e.g. …
"""

from typing import Any

import jax.numpy as jnp


def show(value: Any) -> str:
    """A short name for what came in: ``float32[2, 3]`` for arrays, the type for anything else."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}"
    return "None" if value is None else f"{type(value).__name__} (a Python value)"


def shape_error(op: str, problem: str, **arrays: tuple[Any, str]) -> ValueError:
    """``op: problem (x: (2, 6, 6, 3) n h w i; w: …)``: every array with its shape and the symbols
    of its axes."""
    shapes = "; ".join(
        f"{name}: {tuple(array.shape)} {symbols}" for name, (array, symbols) in arrays.items()
    )
    return ValueError(f"{op}: {problem} ({shapes})")


def setting_error(op: str, name: str, expected: str, got: Any) -> ValueError:
    """A keyword setting outside its range."""
    return ValueError(f"{op}: setting `{name}` must be {expected}, got {got!r}")


def is_number(value: Any) -> bool:
    """Whether the value is a Python number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_integer(value: Any) -> bool:
    """Whether the value is a Python integer; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_counts(op: str, **counts: Any) -> None:
    """Every setting is an integer ≥ 1.

    >>> check_counts("fit", epochs=0)
    Traceback (most recent call last):
    ValueError: fit: setting `epochs` must be an integer ≥ 1, got 0
    """
    for name, value in counts.items():
        check_integer(op, name, value, least=1)


def check_integer(
    op: str, name: str, value: Any, *, least: int = 0, end: int | None = None
) -> None:
    """The setting is an integer ≥ ``least``, and below ``end``, if that is given."""
    if not is_integer(value) or value < least or (end is not None and value >= end):
        expected = f"an integer ≥ {least}" if end is None else f"an integer in [{least}, {end})"
        raise setting_error(op, name, expected, value)


def check_floating(op: str, **arrays: Any) -> None:
    """Every argument is a floating-point array."""
    for name, array in arrays.items():
        dtype = getattr(array, "dtype", None)
        if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"{op}: `{name}` must be a floating-point array, got {show(array)}; "
                f"convert it, e.g. jnp.asarray({name}, jnp.float32)"
            )


def check_same_dtype(op: str, **arrays: Any) -> None:
    """Every argument is a floating-point array, and all share one dtype: nothing is promoted behind
    the caller's back."""
    check_floating(op, **arrays)
    (first, reference), *others = arrays.items()
    for name, array in others:
        if array.dtype != reference.dtype:
            raise TypeError(
                f"{op}: `{name}` has dtype {array.dtype} but `{first}` has {reference.dtype}; "
                f"cast one of them, e.g. {name}.astype({first}.dtype)"
            )


def check_rank(op: str, name: str, array: Any, symbols: str, *, at_least: bool = False) -> None:
    """``array`` has one axis per symbol (or more in front, where ``at_least``)."""
    rank = len(symbols.split())
    if array.ndim != rank and not (at_least and array.ndim > rank):
        wanted = f"{rank} or more axes (… {symbols})" if at_least else f"{rank} axes ({symbols})"
        raise ValueError(
            f"{op}: `{name}` must have {wanted}, got {array.ndim} in shape {tuple(array.shape)}"
        )


def check_axis_size(
    op: str, name: str, array: Any, symbols: str, axis: int, size: Any, of: str
) -> None:
    """``array`` has ``size`` entries along ``axis``, as ``of`` says."""
    if array.shape[axis] != size:
        symbol = symbols.split()[axis]
        raise ValueError(
            f"{op}: `{name}` must have {symbol} = {size} as {of}, got {array.shape[axis]} "
            f"({name}: {tuple(array.shape)} {symbols})"
        )
