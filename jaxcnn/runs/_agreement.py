"""What must be the same in all processes of a run, or they would train together what none of them
was asked for."""

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from typing import Any

from jaxcnn._io.outside import printable

PACKAGES = "jax", "jaxlib", "numpy", "optax", "orbax-checkpoint", "jaxcnn"
NUMERIC = (
    "JAX_ENABLE_X64",
    "JAX_DEFAULT_PRNG_IMPL",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_THREEFRY_PARTITIONABLE",
    "JAX_NUMPY_DTYPE_PROMOTION",
)
"""Environment variables by which JAX computes other numbers."""


def versions() -> dict[str, str]:
    """Of what computes the numbers, and the switches of JAX that change them, read without loading
    it."""
    found = {"Python": ".".join(platform.python_version_tuple()[:2])}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found | {name: os.environ[name] for name in NUMERIC if name in os.environ}


def difference(first: int, told: Mapping[str, Any], second: int, other: Mapping[str, Any]) -> str:
    """The first setting in which two processes differ, in words; nothing if there is none.

    >>> difference(0, {"--seed": "0", "--epochs": "3"}, 1, {"--seed": "0", "--epochs": "4"})
    'process 1 has --epochs 4, process 0 has 3; give all processes the same'
    """
    for name in [*told, *(name for name in other if name not in told)]:
        mine, theirs = told.get(name), other.get(name)
        if mine != theirs:
            return (
                f"process {second} has {printable(name, 80)} {printable(theirs, 100)}, process"
                f" {first} has {printable(mine, 100)}; give all processes the same"
            )
    return ""
