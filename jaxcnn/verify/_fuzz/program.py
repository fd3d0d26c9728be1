"""A found example as a program that can be pasted."""

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.verify._check import check
from jaxcnn.verify._fuzz.examples import Example
from jaxcnn.verify._subject import is_array

SETTINGS = frozenset(inspect.signature(check).parameters)  # of verify.check


def program(
    f: Callable[..., Any],
    example: Example,
    *,
    reference: Callable[..., Any] | None,
    failing: str,
) -> str:
    """The call of ``verify.check`` that shows again how the check ``failing`` fails.

    >>> import jax.numpy as jnp
    >>> from jaxcnn import ops
    >>> text = program(ops.relu, Example((jnp.ones(2),)), reference=ops.relu.reference,
    ...                failing="gradient")
    >>> print(text)
    import jax.numpy as jnp
    from jaxcnn import verify
    from jaxcnn.ops import relu
    <BLANKLINE>
    x = jnp.array([1.0, 1.0], dtype="float32")
    print(verify.check(relu, x, reference=relu.reference, only='gradient'))
    """
    home, name = _named(f)
    names = _parameters(f, len(example.args))
    own = reference is not None and reference is getattr(f, "reference", None)
    oracle = _named(reference) if reference is not None and not own else ("", f"{name}.reference")
    imports = dict.fromkeys(["from jaxcnn import verify", home, oracle[0]])
    settings = ", ".join(f"{key}={value!r}" for key, value in example.settings.items())
    clash = bool(SETTINGS & set(example.settings))  # what check would take for its own
    bound = (lambda f: f"functools.partial({f}, {settings})") if clash else str
    words = [bound(name), *names]
    words += [f"reference={bound(oracle[1])}"] * (reference is not None)
    words += [f"argnums={example.argnums}"] * (example.argnums is not None)
    words += [f"only={failing!r}"] * bool(failing)
    words += [settings] * bool(settings and not clash)
    body = ['jax.config.update("jax_enable_x64", True)'] * _is_wide(example)
    body += [f"{n} = {_written(arg)}" for n, arg in zip(names, example.args, strict=True)]
    body.append(f"print(verify.check({', '.join(words)}))")
    modules = ["import functools"] * clash
    modules += ["import jax"] * any("jax." in line for line in body)
    return "\n".join([*modules, "import jax.numpy as jnp", *filter(None, imports), "", *body])


def _named(f: Callable[..., Any]) -> tuple[str, str]:
    """(the line that imports it, what it is called after that); without the line where no module
    has it under a name."""
    bare = f.func if isinstance(f, functools.partial) else f
    halves = (getattr(bare, "backward", None), getattr(bare, "forward", None))
    for home in dict.fromkeys(getattr(part, "__module__", "") for part in (bare, *halves) if part):
        names = [n for n, value in vars(sys.modules.get(home, object)).items() if value is f]
        if names:
            # the package around it, where that hands it out
            around = home.rpartition("._")[0]
            if getattr(sys.modules.get(around), names[0], None) is f:
                home = around
            return ("" if home == "__main__" else f"from {home} import {names[0]}"), names[0]
    return "", getattr(bare, "__name__", "f")


def _is_wide(example: Example) -> bool:
    leaves = jax.tree.leaves(example.args)
    return any(is_array(leaf) and str(leaf.dtype) == "float64" for leaf in leaves)


def _parameters(f: Callable[..., Any], count: int) -> list[str]:
    try:
        names = [
            p.name
            for p in inspect.signature(f).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        names = []
    return names if len(names) == count else [f"a{i}" for i in range(count)]


def _written(tree: Any) -> str:
    leaves, shape = jax.tree.flatten(tree, is_leaf=lambda leaf: leaf is None)
    words = [_leaf(leaf) for leaf in leaves]
    if len(words) == 1 and shape == jax.tree.structure(0):
        return words[0]
    # a tree of placeholders, each replaced by its words
    marks = shape.unflatten([_Words(word) for word in words])
    return repr(marks)


class _Words:
    def __init__(self, words: str) -> None:
        self._words = words

    def __repr__(self) -> str:
        return self._words


def _leaf(leaf: Any) -> str:
    if not is_array(leaf):
        return repr(leaf)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = np.asarray(jax.random.key_data(leaf)).tolist()
        return f'jax.random.wrap_key_data(jnp.array({data}, dtype="uint32"))'
    array = np.asarray(leaf)
    numbers = array.tolist() if leaf.dtype.name in ("float64", "int32") else _shortest(array)
    empty = 0 in array.shape
    made = f"jnp.zeros({array.shape}, " if empty else f"jnp.array({numbers}, "
    return f'{made}dtype="{leaf.dtype}")'


def _shortest(array: np.ndarray) -> Any:
    """Python numbers with no more digits than the dtype needs."""
    if array.dtype.kind not in "fV":
        return array.tolist()
    return np.vectorize(lambda a: float(str(a)), otypes=[object])(array).tolist()
