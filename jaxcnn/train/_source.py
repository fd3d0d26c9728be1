"""Where the batches of a run come from: arrays on the device, shuffled anew in every epoch, or an
iterator.

>>> import jax, jax.numpy as jnp
>>> data = jnp.zeros((7, 4)), jnp.zeros(7, int)
>>> source = Shuffled(data, batch_size=2, most=10, key=jax.random.key(0))
>>> source.per_epoch, source.rows(2, 4).shape
(3, (10, 2))
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn._core.compiler import guarded
from jaxcnn.train._epoch import make_steps, shuffled
from jaxcnn.train._layout import Layout
from jaxcnn.train._step import Metrics

Arrays: TypeAlias = tuple[Any, Any]
Run: TypeAlias = Callable[[Any, int, int], tuple[Any, Metrics]]
"""(train_state, or what else the step hands on; number of the first step, how many steps) → the new
train state, and metrics with a value a step (and perhaps some more, which mean nothing)."""


@runtime_checkable
class Source(Protocol):
    """Where batches come from."""

    step_key: jax.Array
    example: Any

    @property
    def per_epoch(self) -> int | None:
        """Steps in an epoch; None where nobody knows."""
        ...

    def batch(self, number: int, *which: int) -> Arrays:
        """What was in the step of that number, of that run if there are several."""
        ...

    def runner(self, step: jax.stages.Wrapped) -> Run:
        """All steps of a call."""
        ...


class Shuffled:
    """All examples on the device. Which of them are in a step depends on ``key`` and its number
    alone.

    Raises ValueError where x and target differ in length, or are fewer than a batch.
    """

    def __init__(
        self, data: Arrays, batch_size: int, most: int, key: jax.Array, layout: Layout | None = None
    ) -> None:
        self.x, self.target = jax.tree.map(jnp.asarray if layout is None else layout.copies, data)
        if len(self.x) != len(self.target):
            raise ValueError(
                f"fit: x and target must be as many; got {len(self.x)} and {len(self.target)}"
            )
        if layout is not None:
            layout.check_batch("fit", batch_size)
        self._order_key, self.step_key = jax.random.split(key)
        self._batch_size, self._most = batch_size, most
        self._epoch = 0, np.asarray(self._order(0))
        self.per_epoch = len(self._epoch[1])
        self.example = self.x[:1]

    def _order(self, epoch: int) -> jax.Array:
        return shuffled(jax.random.fold_in(self._order_key, epoch), len(self.x), self._batch_size)

    def rows(self, at: int, count: int) -> np.ndarray:
        """The rows (``most``, batch) of ``count`` steps from number ``at`` on; 0 after them."""
        found = np.zeros((self._most, self._batch_size), np.int32)
        for number in range(count):
            epoch, place = divmod(at + number, self.per_epoch)
            if epoch != self._epoch[0]:
                self._epoch = epoch, np.asarray(self._order(epoch))
            found[number] = self._epoch[1][place]
        return found

    def batch(self, number: int, *which: int) -> Arrays:
        """What is in the step of that number."""
        rows = self.rows(number, 1)[0]
        return self.x[rows], self.target[rows]

    def runner(self, step: jax.stages.Wrapped) -> Run:
        """All steps of a call in one compiled program."""
        steps = guarded(make_steps(step))

        def run(state: Any, at: int, count: int) -> tuple[Any, Metrics]:
            rows = self.rows(at, count)
            return steps(state, self.x, self.target, rows, self.step_key, jnp.int32(count))

        return run


class Together:
    """The same examples for several runs at once, to each in an order of its own: as
    :class:`Shuffled` has it for each of ``keys``."""

    def __init__(
        self,
        data: Arrays,
        batch_size: int,
        most: int,
        keys: jax.Array,
        layout: Layout | None = None,
    ) -> None:
        data = jax.tree.map(jnp.asarray, data)
        self._alone = [Shuffled(data, batch_size, most, key, layout) for key in keys]
        self.step_key = jnp.stack([alone.step_key for alone in self._alone])
        self.per_epoch, self.example = self._alone[0].per_epoch, self._alone[0].example

    def batch(self, number: int, *which: int) -> Arrays:
        """What is in the step of that number of that run."""
        return self._alone[which[0]].batch(number)

    def runner(self, step: jax.stages.Wrapped) -> Run:
        """All steps of all runs in one compiled program; metrics (steps, runs)."""
        x, target = self._alone[0].x, self._alone[0].target
        steps = guarded(
            jax.jit(
                jax.vmap(make_steps(step), in_axes=(0, None, None, 0, 0, None)), donate_argnums=0
            )
        )

        def run(state: Any, at: int, count: int) -> tuple[Any, Metrics]:
            rows = np.stack([alone.rows(at, count) for alone in self._alone])
            state, metrics = steps(state, x, target, rows, self.step_key, jnp.int32(count))
            return state, {name: value.swapaxes(0, 1) for name, value in metrics.items()}

        return run


class Batches:
    """What an iterator hands out: (x, target), batch by batch, or this process's part of them. What
    an epoch is only its ``per_epoch`` can tell, if it has one."""

    def __init__(
        self, batches: Iterator[Arrays], key: jax.Array, layout: Layout | None = None
    ) -> None:
        self._batches, self.step_key, self._layout = batches, jax.random.split(key)[1], layout
        self.per_epoch: int | None = getattr(batches, "per_epoch", None)
        self._recent: dict[int, Arrays] = {}
        self._first: Arrays | None = self._next(0)
        self.example = self._first[0][:1]

    def _next(self, number: int) -> Arrays:
        try:
            batch = next(self._batches)
            return batch if self._layout is None else jax.tree.map(self._layout.whole_batch, batch)
        except StopIteration:
            raise ValueError(
                f"fit: the data ended before step {number}; give an iterator without an end, or"
                " fewer steps"
            ) from None

    def batch(self, number: int, *which: int) -> Arrays:
        """What was in the step of that number, one of the last call."""
        return self._recent[number]

    def runner(self, step: jax.stages.Wrapped) -> Run:
        """A call of the compiled step for each batch."""
        step_safely = guarded(step)

        def run(state: Any, at: int, count: int) -> tuple[Any, Metrics]:
            found, self._recent = [], {}
            for number in range(at, at + count):
                x, target = self._recent[number] = (
                    self._next(number) if self._first is None else self._first
                )
                self._first = None
                state, metrics = step_safely(state, x, target, self.step_key)
                found.append(metrics)
            return state, {
                name: jnp.stack([metrics[name] for metrics in found]) for name in found[0]
            }

        return run
