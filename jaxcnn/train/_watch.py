"""How large gradients, weights and δ are, layer by layer, while a network trains.

>>> import jax, jax.numpy as jnp
>>> from jaxcnn import models, ops
>>> recipe = Recipe(models.mlp((3, 2), "tanh"), ops.softmax_cross_entropy)
>>> params, state = recipe.model.init(jax.random.key(0), (4,))
>>> measure = make_norms(recipe)
>>> norms = measure(params, state, jnp.ones((5, 4)), jnp.zeros(5, int))
>>> list(norms), list(norms["delta"])
(['gradient', 'weight', 'delta'], ['flatten', 'dense1', 'tanh1', 'dense2'])
>>> list(norms["weight"])
['dense1/bias', 'dense1/kernel', 'dense2/bias', 'dense2/kernel']
"""

import math
from collections import OrderedDict  # as JAX sorts the names of a plain dict
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn._core.compiler import guarded
from jaxcnn._core.errors import check_counts
from jaxcnn._core.norms import of_all
from jaxcnn._core.upcast import upcast
from jaxcnn._gradient import losses_and_delta
from jaxcnn.layers._layer import within
from jaxcnn.train._fit import Report
from jaxcnn.train._names import named
from jaxcnn.train._older import or_its_parts
from jaxcnn.train._recipe import Recipe, needs_loss
from jaxcnn.train._step import TrainState

Kind = Literal["gradient", "weight", "delta"]
KINDS: tuple[Kind, ...] = ("gradient", "weight", "delta")


class Table(NamedTuple):
    """Norms in the course of a run: ``values`` (steps, names), the first layer first; NaN where one
    was not finite."""

    steps: np.ndarray
    names: list[str]
    values: np.ndarray


@runtime_checkable
class MeasureNorms(jax.stages.Wrapped, Protocol):
    """What :func:`make_norms` gives: a compiled function."""

    def __call__(
        self, params: Any, state: Any, x: Any, target: Any, key: jax.Array | None = None
    ) -> dict[str, dict[str, jax.Array]]: ...


@or_its_parts("model", "loss", "prepare", "prepare_target")
def make_norms(recipe: Recipe, *, train: bool = True) -> MeasureNorms:
    """A compiled
    ``norms(params, state, x, target, key=None)`` gives ``{"gradient": {name: ‖·‖}, "weight": {name:
    ‖·‖}, "delta": {layer: ‖δ‖}}``, from one forward and one backward.

    ‖·‖ is the root of the sum of squares of all numbers: of a parameter, of its gradient, of δ =
    ∂(mean loss)/∂(output of the layer) for the whole batch. It is not divided by how many they are:
    a layer that neither shrinks nor stretches (an orthogonal one) keeps ‖δ‖, whatever its size.
    Squares neither vanish nor overflow on the way.

    Names are those of :func:`jaxcnn.deltas`, parameters "conv1/kernel"; the first layer comes
    first. A layer of ``repeat`` has δ of its own for each time, but one row for its stacked
    parameters. Images are prepared, but not augmented. All is computed in float32 at least,
    whatever the recipe's policy, so that what vanishes there is seen here.

    Raises ValueError for a recipe without a loss.
    """
    model, loss = recipe.model, needs_loss("make_norms", recipe)

    def norms(params: Any, state: Any, x: Any, target: Any, key: jax.Array | None = None) -> Any:
        x, target = recipe.prepared(x, target)
        params, x = jax.tree.map(_wide, (params, x))
        (y, _), residuals = model.forward(params, state, x, key, train=train)
        _, dy = losses_and_delta(loss, y, target)
        found: dict[str, Any] = {}
        tap = within(model, lambda path, delta: found.update({"/".join(path): of_all(delta)}))
        grads, _ = model.backward(residuals, dy, **tap)
        deltas = OrderedDict(reversed(found.items()))
        by_parameter = [
            {name: of_all(array) for name, array in named(tree).items()} for tree in (grads, params)
        ]
        gradients, weights = (
            OrderedDict((n, norm[n]) for n in _in_order(norm, deltas)) for norm in by_parameter
        )
        return OrderedDict(gradient=gradients, weight=weights, delta=deltas)

    return jax.jit(norms)


class Norms:
    """A callback of :func:`jaxcnn.train.fit` that measures :func:`make_norms` about every ``every``
    steps, after the first report and at the end, always on the batch ``x``, ``target``.

    ``rows`` holds {step: {kind: {name: norm}}}. A run that goes on gets the earlier ones from its
    log, by :meth:`restore`.

    Args:
        recipe: the run's.
        key: for dropout, the same every time.

    Raises:
        ValueError: ``every`` is no integer ≥ 1; x and target differ in length, or are empty; the
            recipe has no loss.

    >>> import jax, numpy as np, optax
    >>> from jaxcnn import models, ops, train
    >>> x, labels = np.eye(4, dtype=np.float32), np.arange(4) % 2
    >>> model, loss = models.mlp((3, 2), "tanh"), ops.softmax_cross_entropy
    >>> recipe = train.Recipe(model, loss, optax.sgd(0.1))
    >>> norms = Norms(recipe, x, labels, every=2)
    >>> _ = train.fit(
    ...     recipe, (x, labels), key=jax.random.key(0),
    ...     batch_size=2, steps=5, report_every=1, callbacks=[norms],
    ... )
    >>> list(norms.rows), norms.table("delta").values.shape
    ([1, 2, 4, 5], (4, 4))
    """

    @or_its_parts("self", "model", "loss", "x", "target")
    def __init__(
        self,
        recipe: Recipe,
        x: Any,
        target: Any,
        *,
        every: int = 100,
        key: jax.Array | None = None,
        train: bool = True,
    ) -> None:
        check_counts("Norms", every=every)
        if len(x) != len(target) or len(x) == 0:
            raise ValueError(
                f"Norms: x and target must be as many, and at least one; got {len(x)} and"
                f" {len(target)}"
            )
        self._norms, self._every = guarded(make_norms(recipe, train=train)), every
        self._x, self._target = jax.tree.map(jnp.asarray, (x, target))
        self._key = jax.random.key(0) if key is None else key
        self.rows: dict[int, dict[str, dict[str, float]]] = {}

    def __call__(self, report: Report, state: TrainState) -> None:
        """Measure where it is time to."""
        last = max(self.rows, default=None)
        if (
            last is None
            or report.step == report.steps
            or report.step // self._every > last // self._every
        ):
            self.measure(report.step, state)

    def measure(self, step: int, state: TrainState) -> dict[str, dict[str, float]]:
        """Measure now; step 0 is before the first."""
        norms = self._norms(state.params, state.state, self._x, self._target, self._key)
        self.rows[step] = {
            kind: {name: float(norm) for name, norm in row.items()}
            for kind, row in jax.device_get(norms).items()
        }
        return self.rows[step]

    def restore(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """What was measured before, from the lines of a log (as :func:`jaxcnn._io.lines.read_lines`
        gives them)."""
        for line in lines:
            for kind, row in line.get("norms", {}).items():
                norms = {
                    _with_slashes(kind, name): math.nan if norm is None else float(norm)
                    for name, norm in row.items()
                }
                self.rows.setdefault(line["step"], {})[kind] = norms

    def table(self, kind: Kind) -> Table:
        """All that was measured of "gradient", "weight" or "delta". Raises ValueError for another
        kind, and where nothing was measured."""
        if kind not in KINDS or not self.rows:
            raise ValueError(
                f"Norms: there is no table of {kind!r}; "
                + (f"there is {', '.join(KINDS)}" if self.rows else "nothing was measured so far")
            )
        steps = sorted(self.rows)
        names = list(self.rows[steps[-1]][kind])
        values = [[self.rows[step][kind].get(name, math.nan) for name in names] for step in steps]
        return Table(np.array(steps), names, np.array(values))


def _with_slashes(kind: str, name: str) -> str:
    """The name of a parameter as it is now, from a log in which dots parted it."""
    return name if kind == "delta" or "/" in name else name.replace(".", "/")


def _wide(leaf: Any) -> Any:
    """In float32 at least, if it is floating."""
    return upcast(leaf) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def _in_order(names: Iterable[str], layers: Iterable[str]) -> list[str]:
    """Names of parameters in the order of their layers. In a ``repeat`` the names of the layers
    have a number more."""
    paths = [layer.split("/") for layer in layers]

    def place(name: str) -> int:
        own = name.split("/")[:-1]
        if own in paths:
            return paths.index(own)
        return next((at for at, path in enumerate(paths) if _skips_to(own, path)), len(paths))

    return sorted(names, key=place)


def _skips_to(short: list[str], path: list[str]) -> bool:
    """Whether ``short`` is ``path`` with some parts left out."""
    rest = iter(path)
    return all(part in rest for part in short)
