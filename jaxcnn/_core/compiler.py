"""What some versions of XLA compute wrongly, found in a compiled program and cured by an option.

A fault is known by the versions that have it and by the pattern that it leaves in the text of a
compiled program. :func:`guarded` compiles a program as it is, looks for the patterns, and compiles
it again with the cure only where one is there: a cure for all would cost a tenth of a step's time.

>>> import jax, jax.numpy as jnp
>>> program = guarded(jax.jit(lambda m, rows: jnp.sum((m @ rows.T) ** 2, 0)))
>>> program(jnp.eye(3), jnp.ones((2, 3)))
Array([3., 3.], dtype=float32)
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxlib.version import __version__

COMPUTATION = re.compile(r"^%?([\w.\-]+) \(.*?\{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
FUSED = re.compile(r" fusion\(.*?calls=%([\w.\-]+).*?__ynn_fusion")
SHAPE = re.compile(r"\w\[([\d,]+)\]")
# Programs are handed to YNNPACK by fusions; without them XLA compiles all by itself
CURE: dict[str, str | bool] = {"xla_cpu_experimental_ynn_fusion_type": ""}
FLAG = "XLA_FLAGS=" + " ".join(f"--{name}={value}" for name, value in CURE.items())


@dataclasses.dataclass(frozen=True)
class Fault:
    """What goes wrong on CPUs with some versions of jaxlib.

    Attributes:
        name: in words.
        versions: of jaxlib, those that have it.
        pattern: whether a fused computation, as text, may meet it.
        seen: what was measured, and where it was reported.
    """

    name: str
    versions: tuple[str, ...]
    pattern: Callable[[str], bool]
    seen: str


def _product_and_sum(body: str) -> bool:
    return (" dot(" in body or " convolution(" in body) and " reduce(" in body


def _many_axes(body: str) -> bool:
    return any(found.count(",") >= 6 for found in SHAPE.findall(body))


FAULTS = (
    Fault(
        "a matrix product and a reduction of it in one fusion",
        ("0.10.2",),
        _product_and_sum,
        "sum((m @ rows.T)**2, 0) with 3 columns: rows 32,768 and later are wrong in float32 (seen"
        " with 32,769, 33,001 and 40,001 rows, not with 45,000), 16,384 and later in float64"
        " (16,385 to 24,576); right in 0.10.0, 0.10.1, 0.11.0 and later (JAX issues 39103, 39257,"
        " 40412)",
    ),
    Fault(
        "a product of seven or more axes",
        ("0.10.2",),
        _many_axes,
        "sum(a * b, 3) of rank 7 ended the process (SIGSEGV) on one machine, not on others",
    ),
)


def here() -> tuple[Fault, ...]:
    """The faults of this version of jaxlib, where programs are for CPUs."""
    if jax.default_backend() != "cpu":
        return ()
    return tuple(fault for fault in FAULTS if __version__ in fault.versions)


def suspects(text: str, faults: tuple[Fault, ...] = FAULTS) -> tuple[Fault, ...]:
    """Those faults whose pattern is in a compiled program (``compiled.as_text()``)."""
    bodies = list(_fused(text))
    return tuple(fault for fault in faults if any(map(fault.pattern, bodies)))


def _fused(text: str) -> Iterator[str]:
    """The computations that are handed to YNNPACK as one."""
    if names := set(FUSED.findall(text)):
        for found in COMPUTATION.finditer(text):
            if found[1] in names:
                yield found[2]


class guarded:  # noqa: N801 (used like jax.jit)
    """A jitted function, compiled with the cure where its program may meet a fault.

    For the outermost ``jit`` alone, since JAX refuses options inside of another; called with
    traced arrays, it is the jitted function itself.

    Attributes:
        plain: the jitted function.
        met: the faults that its programs may meet, by the shapes of their arguments.
    """

    def __init__(self, plain: jax.stages.Wrapped) -> None:
        self.plain, self.met = plain, dict[Any, tuple[Fault, ...]]()
        self._cured: dict[Any, Any] = {}
        functools.update_wrapper(self, plain)

    def __call__(self, *args: Any) -> Any:
        faults = here()
        if not faults:
            return self.plain(*args)
        leaves, tree = jax.tree.flatten(args)
        if any(isinstance(leaf, Tracer) for leaf in leaves):
            return self.plain(*args)
        wide = jnp.result_type(float)  # of x64
        key = tree, tuple(map(_kind, leaves)), wide
        if key not in self.met:
            lowered = self.plain.lower(*args)
            self.met[key] = suspects(lowered.compile().as_text() or "", faults)
            if self.met[key]:
                self._cured[key] = lowered.compile(compiler_options=CURE)
        return self._cured.get(key, self.plain)(*args)


def _kind(leaf: Any) -> Any:
    """What a program is compiled for."""
    if isinstance(leaf, jax.Array):
        return leaf.shape, leaf.dtype, getattr(leaf, "weak_type", False), leaf.sharding
    return getattr(leaf, "shape", None), getattr(leaf, "dtype", type(leaf))
