"""What a search draws: arguments, settings, the dtype, and which of the arguments are
differentiated."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn._core.case import Case
from jaxcnn.verify._subject import as_arrays, cast, differentiable, is_array

DTYPES = ("float64", "float32", "bfloat16")
# Random numbers as they are, and made into what people meet: ties, zeros, numbers far from 1
KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as drawn": lambda a: a,
    "small integers": np.round,
    "zeros": np.zeros_like,
    "large": lambda a: 1e3 * a,
    "tiny": lambda a: 1e-3 * a,
}
# Those that make no ties and zeros, where an op has kinks
SMOOTH_KINDS = ("as drawn", "large", "tiny")
RANDOM = ("normal", "distinct")  # draws whose numbers may be changed: no labels, no probabilities


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """One call: ``f(*args, **settings)``, differentiated in ``argnums`` (None: in all)."""

    args: tuple[Any, ...]
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    argnums: tuple[int, ...] | None = None
    dtype: str = "float64"

    @property
    def numbers(self) -> int:
        """How many numbers its arrays hold."""
        return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(self.args) if is_array(leaf))

    @property
    def size(self) -> tuple[int, ...]:
        """What a smaller example has less of."""
        return self.numbers, len(self.settings), len(repr(self.settings)), DTYPES.index(self.dtype)

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for equal calls alone."""
        leaves, tree = jax.tree.flatten(self.args)
        own = tuple(
            (str(leaf.dtype), leaf.shape, _bytes(leaf)) if is_array(leaf) else repr(leaf)
            for leaf in leaves
        )
        return own, str(tree), repr(sorted(self.settings.items())), self.argnums, self.dtype


def _bytes(leaf: Any) -> bytes:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf).tobytes()


def hypothesis() -> Any:
    """The library, which draws and shrinks."""
    try:
        import hypothesis as library
    except ImportError:
        raise ImportError(
            "verify.fuzz draws with hypothesis, which is not installed: pip install 'jaxcnn[fuzz]'"
        ) from None
    return library


class Drawn:
    """The choices of a space (:class:`jaxcnn._core.space.Choose`), made by hypothesis."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self._draw, self._st = draw, hypothesis().strategies

    def integer(self, low: int, high: int) -> int:
        """An integer from ``low`` to ``high``, both counted."""
        return self._draw(self._st.integers(low, high))

    def among(self, *values: Any) -> Any:
        """One of the values."""
        return values[self.integer(0, len(values) - 1)]


def of_space(space: Callable[[Any], Case], *, kinked: bool) -> Any:
    """A strategy of examples from an op's space. At the kinks of an op its reference may have
    another convention, so that none are looked for there."""
    st = hypothesis().strategies

    @st.composite
    def example(draw: Any) -> Example:
        choose = Drawn(draw)
        case = space(choose)
        kind = choose.among(*(SMOOTH_KINDS if kinked else KINDS))
        dtype = choose.among(*4 * ["float64"], *DTYPES[1:])
        with jax.enable_x64(True):
            args = [*case.draw(0, "float64")]
            for i, draws in enumerate(case.inputs):
                if draws is not None and draws.kind in RANDOM:
                    args[i] = jnp.asarray(KINDS[kind](np.asarray(args[i])))
            args = tuple(cast(arg, dtype) if differentiable(arg) else arg for arg in args)
        floating = [i for i, arg in enumerate(args) if differentiable(arg)]
        left_out = choose.among(None, *floating) if len(floating) > 1 else None
        argnums = None if left_out is None else tuple(i for i in floating if i != left_out)
        return Example(args, dict(case.static), argnums, dtype)

    return example()


def of_user(strategy: Any) -> Any:
    """A strategy of examples from one of tuples of arguments, or of (arguments, settings)."""
    return strategy.map(_example)


def _example(drawn: Any) -> Example:
    if not isinstance(drawn, tuple):
        raise TypeError(
            "fuzz: `strategy` must draw a tuple of arguments, or (arguments, settings), got"
            f" {type(drawn).__name__}; for one argument: strategy.map(lambda x: (x,))"
        )
    if len(drawn) == 2 and isinstance(drawn[0], tuple) and isinstance(drawn[1], dict):
        args, settings = drawn
    else:
        args, settings = drawn, {}
    with jax.enable_x64(True):
        wide = [leaf for leaf in jax.tree.leaves(args) if differentiable(leaf)]
        dtype = str(wide[0].dtype) if wide else "float64"
        args = as_arrays(args, None)
    return Example(args, settings, None, dtype if dtype in DTYPES else "float64")
