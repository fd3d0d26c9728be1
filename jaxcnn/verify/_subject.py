"""What is checked: a function at a point, and (if there is one) a reference that says what is
right.

Inputs and outputs may be any pytrees. Arrays are traced; Python integers, strings and whatever else
is no array stay as they are. Only floating-point (and complex) leaves are differentiated, or those
of them that were chosen; they are named by their path (``args[0]['conv1']['kernel']``)."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn._core.compiler import guarded

Arrays = list[Any]
Pull = Callable[[Arrays, Arrays], tuple[Arrays, Arrays]]
Chosen = tuple[int | str, ...]
# In front of every seed, so that no numbers drawn here are those of a user's default_rng(seed)
SALT = 0x6A78636E
# A checker compiles much and runs little: XLA need not optimise
LARGE = 10_000  # numbers
QUICKLY = {"xla_backend_optimization_level": 0}


@dataclasses.dataclass(frozen=True)
class Subject:
    """``f`` and ``reference`` as functions of ``args``; ``batched`` says which positions have a
    leading batch axis (None: not known), ``argnums`` and ``outputs`` which of the inputs are
    differentiated and which of the outputs looked at (None: all; positions, or paths)."""

    f: Callable[..., Any]
    args: tuple[Any, ...]
    reference: Callable[..., Any] | None = None
    batched: tuple[int, ...] | None = None
    argnums: Chosen | None = None
    outputs: Chosen | None = None

    @functools.cached_property
    def paths(self) -> list[str]:
        """The path of each array among the inputs."""
        return [f"args{path}" for path, leaf in paths_of(self.args) if is_array(leaf)]

    @functools.cached_property
    def arrays(self) -> Arrays:
        """Every array among the inputs."""
        return [leaf for leaf in jax.tree.leaves(self.args) if is_array(leaf)]

    @functools.cached_property
    def places(self) -> list[int]:
        """Which of the arrays are differentiated."""
        return [
            i
            for i, (path, leaf) in enumerate(zip(self.paths, self.arrays, strict=True))
            if differentiable(leaf) and is_among(path.removeprefix("args"), self.argnums)
        ]

    @property
    def names(self) -> list[str]:
        """The path of each differentiable array."""
        return [self.paths[i] for i in self.places]

    @property
    def leaves(self) -> Arrays:
        """The differentiable arrays."""
        return [self.arrays[i] for i in self.places]

    def put(self, leaves: Arrays, arrays: Arrays | None = None) -> Arrays:
        """``arrays`` (by default the subject's) with the differentiable ones replaced."""
        moved = [*(self.arrays if arrays is None else arrays)]
        for place, leaf in zip(self.places, leaves, strict=True):
            moved[place] = leaf
        return moved

    def rebuild(self, arrays: Arrays) -> tuple[Any, ...]:
        """``args`` with its arrays replaced."""
        everything, tree = jax.tree.flatten(self.args)
        fresh = iter(arrays)
        return tree.unflatten([next(fresh) if is_array(leaf) else leaf for leaf in everything])

    def primal(self, f: Callable[..., Any]) -> Callable[[Arrays], Arrays]:
        """``f`` as a function from all arrays of its inputs to the differentiable ones of its
        output."""
        return lambda arrays: [
            leaf for leaf in self.looked_at(f(*self.rebuild(arrays))) if differentiable(leaf)
        ]

    def looked_at(self, value: Any) -> Arrays:
        """The leaves of an output that were chosen."""
        return [leaf for path, leaf in paths_of(value) if is_among(path, self.outputs)]

    def pull(self, f: Callable[..., Any]) -> Pull:
        """(arrays, cotangents) ↦ (value, gradient) of ``f`` by ``jax.vjp``."""

        def value_and_pull(arrays: Arrays, cotangents: Arrays) -> tuple[Arrays, Arrays]:
            value, pull = jax.vjp(
                lambda leaves: self.primal(f)(self.put(leaves, arrays)),
                [arrays[i] for i in self.places],
            )
            return value, pull(_as_outputs(cotangents, value))[0]

        return value_and_pull

    def cotangents(self, *seed: int) -> Arrays:
        """Random cotangents, shaped like the outputs."""
        primal = self.primal(self.f)
        try:
            shapes = jax.eval_shape(primal, self.arrays)
        except jax.errors.ConcretizationTypeError:  # Python control flow: only running it tells
            shapes = primal(self.arrays)
        return random_like(shapes, *seed)

    def astype(self, dtype: Any) -> "Subject":
        """The same subject with its floating inputs cast (complex ones to the complex dtype of that
        precision), those that are not differentiated, too."""
        moved = [cast(x, dtype) if differentiable(x) else x for x in self.arrays]
        return dataclasses.replace(self, args=self.rebuild(moved))

    def with_long_integers(self) -> "Subject":
        """The same subject with its 32-bit integers in 64 bits."""
        moved = [x.astype(jnp.int64) if x.dtype == jnp.int32 else x for x in self.arrays]
        return dataclasses.replace(self, args=self.rebuild(moved))


def as_here(leaf: Any) -> Any:
    """An array in the dtype that this process, with its setting of x64, has for it."""
    if not is_array(leaf) or jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    dtype = jax.dtypes.canonicalize_dtype(leaf.dtype)
    return leaf if leaf.dtype == dtype else jnp.asarray(np.asarray(leaf), dtype)


def quick(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` compiled in a hurry, but for large arrays, of which running it costs more."""
    cpu = jax.default_backend() == "cpu"
    hurried, careful = (
        jax.jit(function, compiler_options=QUICKLY if cpu else None),
        guarded(jax.jit(function)),
    )

    def run(*args: Any) -> Any:
        numbers = sum(np.size(leaf) for leaf in jax.tree.leaves(args) if is_array(leaf))
        return (careful if numbers > LARGE else hurried)(*args)

    run.careful = careful  # type: ignore[attr-defined]
    return run


def is_array(leaf: Any) -> bool:
    """Whether ``leaf`` is an array or a random key."""
    return hasattr(leaf, "dtype") and hasattr(leaf, "shape")


def differentiable(leaf: Any) -> bool:
    """Whether ``leaf`` is a floating-point or complex array."""
    return is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def is_complex(leaf: Any) -> bool:
    """Whether ``leaf`` is a complex array."""
    return jnp.issubdtype(leaf.dtype, jnp.complexfloating)


def _as_outputs(cotangents: Arrays, value: Arrays) -> Arrays:
    """The cotangents in the dtypes of a function's outputs, which need not be those of its
    reference."""
    if len(cotangents) != len(value):
        return cotangents
    return [
        c.astype(y.dtype) if c.dtype != y.dtype and is_complex(c) == is_complex(y) else c
        for c, y in zip(cotangents, value, strict=True)
    ]


def paths_of(tree: Any) -> list[tuple[str, Any]]:
    """Every leaf with its path: ``[0]['conv1']``, "" for a leaf alone."""
    found, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in found]


def is_among(path: str, chosen: Chosen | None) -> bool:
    """Whether a leaf is among those that were chosen by position or by (the beginning of) a path.

    >>> is_among("[1]['w']", (1,)), is_among("[1]['w']", ("[1]['w']", 0)), is_among("[10]", (1,))
    (True, True, False)
    """
    return chosen is None or any(
        path.startswith(f"[{one}]" if isinstance(one, int) else one.removeprefix("args"))
        for one in chosen
    )


def cast(x: Any, dtype: Any) -> Any:
    """``x`` in ``dtype``, or in the complex dtype of that precision."""
    return jnp.asarray(
        np.asarray(x), jnp.result_type(dtype, jnp.complex64) if is_complex(x) else dtype
    )


def as_arrays(args: tuple[Any, ...], real: Any) -> tuple[Any, ...]:
    """NumPy arrays as JAX arrays and, where ``real`` names a dtype for them, Python floats too; the
    rest as it is."""

    def convert(leaf: Any) -> Any:
        if isinstance(leaf, np.ndarray | np.generic):
            return jnp.asarray(leaf)
        if isinstance(leaf, float | complex) and real is not None:
            return cast(jnp.asarray(leaf), real)
        return leaf

    return jax.tree.map(convert, args)


def generator(*seed: int) -> np.random.Generator:
    """Random numbers of the checker's own."""
    return np.random.default_rng([SALT, *seed])


def random_like(shapes: Sequence[Any], *seed: int) -> Arrays:
    """Normal numbers of the given shapes and dtypes."""
    rng = generator(*seed)

    def draw(s: Any) -> Any:
        real = rng.standard_normal(s.shape)
        return jnp.asarray(
            real + 1j * rng.standard_normal(s.shape) if is_complex(s) else real, s.dtype
        )

    return [draw(s) for s in shapes]


def variant(leaf: Any, number: int) -> Any:
    """``leaf`` itself for 0, else another like it: the same shape and dtype, and no further from
    its domain."""
    if number == 0:
        return leaf
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.fold_in(leaf, number) if leaf.ndim == 0 else jnp.roll(leaf, number)
    if not differentiable(leaf):
        return jnp.asarray(np.roll(np.asarray(leaf), number))
    return like(widest(leaf) * (1 - number / 16), leaf)


def like(value: Any, x: Any) -> Any:
    """Numbers as a JAX array of the dtype of ``x``, converted by NumPy: every eager operation of
    JAX would be compiled for its shape."""
    return jnp.asarray(np.asarray(value), x.dtype)


def stack(leaves: Sequence[Any]) -> Any:
    """Arrays (or keys) one above the other."""
    if jnp.issubdtype(leaves[0].dtype, jax.dtypes.prng_key):
        return jnp.stack(leaves)
    return jnp.asarray(np.stack([np.asarray(leaf) for leaf in leaves]))


def pairing(u: Sequence[Any], v: Sequence[Any]) -> float:
    """Re Σ u v over all arrays, summed in float64 (without conjugation, as ``jax.vjp``
    transposes)."""
    return float(sum(np.real(np.sum(widest(a) * widest(b))) for a, b in zip(u, v, strict=True)))


def widest(array: Any) -> np.ndarray:
    """The array in NumPy's float64 (complex128), whatever JAX is set to; not to be written to."""
    a = np.asarray(array)
    return a.astype(np.complex128 if np.iscomplexobj(a) else np.float64, copy=False)
