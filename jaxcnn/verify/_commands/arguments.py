"""Arguments as one writes them on a command line: ``8,28,28,3;int32:8;key``, one between
semicolons.

>>> parse("8,28,28,3; int32:8; key; ()")
(Argument(dtype='float32', shape=(8, 28, 28, 3)), Argument(dtype='int32', shape=(8,)),
 Argument(dtype='key', shape=()), Argument(dtype='float32', shape=()))
>>> parse("3,x")
Traceback (most recent call last):
jaxcnn.verify._commands.arguments.UsageError: shape '3,x': expected lengths between commas, …
"""

import dataclasses
from typing import Any

import numpy as np

from jaxcnn._io.command import InputError

FLOATS = ("float32", "float64", "bfloat16", "float16")
COMPLEX = ("complex64", "complex128")
INTEGERS = ("int32", "int64", "int16", "int8", "uint32", "uint64", "uint16", "uint8", "bool")


class UsageError(InputError):
    """What was asked for cannot be: the words say why, and no traceback would say more."""


@dataclasses.dataclass(frozen=True)
class Argument:
    """One array to draw."""

    dtype: str
    shape: tuple[int, ...]


def parse(text: str) -> tuple[Argument, ...]:
    """The arguments that ``text`` describes; nothing, or ``()``, between two semicolons is a
    scalar."""
    return tuple(_argument(part.strip()) for part in text.split(";"))


def _argument(part: str) -> Argument:
    dtype, _, lengths = ("key", "", "") if part == "key" else part.rpartition(":")
    dtype = dtype.strip() or "float32"
    if dtype not in (*FLOATS, *COMPLEX, *INTEGERS, "key"):
        raise UsageError(
            f"dtype {dtype!r}: expected one of {', '.join((*FLOATS, *COMPLEX, *INTEGERS))}, or key"
        )
    try:
        shape = tuple(
            int(length) for length in lengths.strip().strip("()").split(",") if length.strip()
        )
    except ValueError:
        shape = (-1,)
    if min(shape, default=0) < 0:
        raise UsageError(f"shape {lengths!r}: expected lengths between commas, such as 8,28,28,3")
    return Argument(dtype, shape)


def draw(arguments: tuple[Argument, ...], *, seed: int, high: int = 10) -> list[Any]:
    """Normal numbers, integers in [0, ``high``), truth values and keys."""
    import jax

    rng = np.random.default_rng(seed)

    def one(argument: Argument) -> Any:
        if argument.dtype == "key":
            return jax.random.key(seed)
        if argument.dtype in INTEGERS:
            numbers = rng.integers(2 if argument.dtype == "bool" else high, size=argument.shape)
        else:
            numbers = rng.standard_normal(argument.shape)
        if argument.dtype in COMPLEX:
            numbers = numbers + 1j * rng.standard_normal(argument.shape)
        return np.asarray(numbers).astype(jax.numpy.dtype(argument.dtype))

    return [one(argument) for argument in arguments]
