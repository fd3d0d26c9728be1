"""What a cotangent must look like, and how it meets JAX's own parallelism.

A cotangent has the shape and dtype of its input, lives on the same devices, and is summed where
several devices shared one copy of the input."""

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding

from jaxcnn._core.errors import show

T = TypeVar("T", bound=Hashable, covariant=True)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Static(Generic[T]):
    """A hashable value that travels among residuals without being an array: it lives in the tree's
    structure, so ``jit``, ``scan`` and ``vmap`` leave it alone.
    """

    value: T


@dataclasses.dataclass(frozen=True)
class Like:
    """Shape, dtype, varying mesh axes and sharding of an array; ``dtype`` is None where it has no
    derivative."""

    shape: tuple[Any, ...]  # with a symbol in what `jax.export` is given
    dtype: Any
    varying: frozenset[str]
    sharding: Any


def wanted(values: Any) -> Any:
    """A :class:`Like` for each array of a pytree, as static nodes."""
    return jax.tree.map(lambda leaf: Static(_like(leaf)), values)


def varying(x: Any) -> frozenset[str]:
    """The manual mesh axes (of ``shard_map``) along which ``x`` differs from device to device."""
    return frozenset(jax.typeof(x).mat.varying)


def first_example(x: Any) -> Any:
    """The place of ``x``'s first example in the whole batch: 0 where no ``shard_map`` has cut that
    up along its first axis."""
    axes = tuple(name for name in jax.sharding.get_abstract_mesh().axis_names if name in varying(x))
    return lax.axis_index(axes) * len(x) if axes else 0


def match_varying(x: Any, *others: Any) -> Any:
    """``x``, marked as varying along every mesh axis that ``others`` vary along: a scan's carry
    must not change its type on the way."""
    axes = frozenset().union(*map(varying, others)) - varying(x)
    return lax.pcast(x, tuple(sorted(axes)), to="varying") if axes else x


def _like(leaf: Any) -> Like:
    aval = jax.typeof(leaf)
    differentiable = jnp.issubdtype(aval.dtype, jnp.inexact)
    return Like(aval.shape, aval.dtype if differentiable else None, varying(leaf), aval.sharding)


def check_incoming(op: str, like_y: Any, dy: Any) -> None:
    """``dy`` has the tree, shapes and dtypes of the output."""
    wanted_leaves, tree = jax.tree.flatten(like_y, is_leaf=_is_static)
    try:
        leaves = tree.flatten_up_to(dy)
    except ValueError as error:
        raise TypeError(
            f"{op}: the cotangent `dy` must have the tree of the output: {error}"
        ) from None
    for like, leaf in zip(wanted_leaves, leaves, strict=True):
        want: Like = like.value
        if want.dtype is not None and not _agrees(want, leaf):
            raise TypeError(
                f"{op}: the cotangent `dy` must be {want.dtype}{list(want.shape)} like the output,"
                f" got {show(leaf)}"
            )


def project(
    op: str, names: tuple[str, ...], wanted_inputs: tuple[Any, ...], cotangents: Any
) -> tuple[Any, ...]:
    """Cotangents checked against their inputs, leaf by leaf, and summed over mesh axes along which
    an input is one shared copy."""
    names = (*names, *(f"input {i}" for i in range(len(names), len(wanted_inputs))))[
        : len(wanted_inputs)
    ]
    if not isinstance(cotangents, tuple | list):
        raise TypeError(
            f"{op}: backward must return a tuple of cotangents ({', '.join(names)}), got"
            f" {show(cotangents)}"
        )
    if len(cotangents) != len(wanted_inputs):
        raise TypeError(
            f"{op}: backward returned {len(cotangents)} cotangents for {len(wanted_inputs)} inputs"
            f" ({', '.join(names)})"
        )
    return tuple(
        _fit_tree(op, name, like, d)
        for name, like, d in zip(names, wanted_inputs, cotangents, strict=True)
    )


def _fit_tree(op: str, name: str, likes: Any, cotangent: Any) -> Any:
    paths, tree = jax.tree_util.tree_flatten_with_path(likes, is_leaf=_is_static)
    if cotangent is None:
        leaves = [None] * len(paths)
    else:
        try:
            leaves = tree.flatten_up_to(cotangent)
        except ValueError as error:
            raise TypeError(
                f"{op}: backward's cotangent for `{name}` has another tree than the input: {error}"
            ) from None
    fitted = [
        _fit(op, f"{name}{jax.tree_util.keystr(path)}", like.value, leaf)
        for (path, like), leaf in zip(paths, leaves, strict=True)
    ]
    return tree.unflatten(fitted)


def _fit(op: str, name: str, want: Like, d: Any) -> Any:
    if want.dtype is None:
        if d is None or d.dtype == jax.dtypes.float0:
            return None
        raise TypeError(
            f"{op}: backward must return None for `{name}`, which has no derivative, got {show(d)}"
        )
    if not _agrees(want, d):
        raise TypeError(
            f"{op}: backward must return {want.dtype}{list(want.shape)} for `{name}`, got {show(d)}"
        )
    shared = varying(d) - want.varying
    missing = want.varying - varying(d)
    d = lax.psum(d, tuple(sorted(shared))) if shared else d
    return lax.pcast(d, tuple(sorted(missing)), to="varying") if missing else d


def _agrees(want: Like, d: Any) -> bool:
    return getattr(d, "shape", None) == want.shape and getattr(d, "dtype", None) == want.dtype


def _is_static(node: Any) -> bool:
    return isinstance(node, Static)


def place(backward: Callable[..., Any], wanted_inputs: tuple[Any, ...]) -> Callable[..., Any]:
    """On a mesh with Explicit axes, ``backward`` with its results laid out like the inputs;
    elsewhere ``backward`` itself.

    A plain ``x.T @ dy`` over a sharded batch is ambiguous there. What it must be is known, so the
    body runs with automatic axes."""
    likes: list[Like] = [node.value for node in jax.tree.leaves(wanted_inputs, is_leaf=_is_static)]
    if not any(like.sharding.mesh.explicit_axes for like in likes):
        return backward
    mesh = next(like.sharding.mesh for like in likes if like.sharding.mesh.explicit_axes)
    in_context = not jax.sharding.get_abstract_mesh().empty

    def layout(node: Any) -> Any:
        want: Like = node.value
        if want.dtype is None:
            return None
        return want.sharding.spec if in_context else NamedSharding(mesh, want.sharding.spec)

    return jax.sharding.auto_axes(
        backward, out_sharding=jax.tree.map(layout, wanted_inputs, is_leaf=_is_static)
    )
