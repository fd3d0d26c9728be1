"""Training on JAX, the same for hand-written and automatic gradients: all that differs is the
``differentiate`` that comes in.

differentiate(params, state, images, labels) -> ((loss, state), grads)
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.bench.data import GRADIENT, PARAMS, Arrays, params_of
from experiments.bench.networks import LEARNING_RATE, MOMENTUM, Network, flat, nested, statistics
from experiments.bench.peers import Order, Task
from experiments.bench.peers.xla import compile_program, put

Differentiate: TypeAlias = Callable[
    [Any, Any, jax.Array, jax.Array], tuple[tuple[jax.Array, Any], Any]
]
OPTIMIZER = optax.sgd(LEARNING_RATE, momentum=MOMENTUM)
SHUFFLE = 0  # seed of the shuffling inside an epoch


class Carry(NamedTuple):
    """What a step takes from the one before."""

    params: Any
    state: Any
    opt_state: Any


class Start(NamedTuple):
    """Where every task of a network begins."""

    params: Any
    state: Any
    images: jax.Array
    labels: jax.Array

    @property
    def carry(self) -> Carry:
        """For one model. The parameters are copied, as a step takes the buffers of what it is
        given."""
        params = jax.tree.map(jnp.copy, self.params)
        return Carry(params, jax.tree.map(jnp.copy, self.state), OPTIMIZER.init(params))


def start(network: Network, arrays: Arrays, model: int = 0) -> Start:
    """A model and the first batch."""
    params = nested({name: put(array) for name, array in params_of(arrays, model).items()})
    zero_or_one = {
        p: np.full(shape, p.endswith("var"), np.float32) for p, shape in statistics(network).items()
    }
    state = nested({name: put(array) for name, array in zero_or_one.items()})
    return Start(params, state, put(arrays["images"][0]), put(arrays["labels"][0]))


def task(
    order: Order,
    network: Network,
    arrays: Arrays,
    differentiate: Differentiate,
    norms: Differentiate | None = None,
) -> Task:
    """Any kind of task of a network. ``norms`` gives the loss of each example, and the norms of its
    gradients."""
    at = start(network, arrays)
    match order.kind:
        case "step":
            return stepping(train_step(differentiate), at.carry, at.images, at.labels)
        case "epoch":
            return _epoch(differentiate, at, arrays)
        case "ensemble":
            return _ensemble(differentiate, at, arrays)
        case "gradient":
            return _gradient(differentiate, at)
        case "examples":
            return _gradient(_by_example(differentiate), at, means=True)
        case "norms":
            return _gradient(norms or _norms_by_example(differentiate), at)
        case "steps_in_turn":
            return _steps_in_turn(differentiate, at, arrays)
        case _:
            return _models_in_turn(differentiate, network, arrays)


def train_step(differentiate: Differentiate) -> Callable[..., tuple[Carry, jax.Array]]:
    """``step(carry, images, labels) -> (carry, loss)``."""

    def step(carry: Carry, images: jax.Array, labels: jax.Array) -> tuple[Carry, jax.Array]:
        (loss, state), grads = differentiate(carry.params, carry.state, images, labels)
        updates, opt_state = OPTIMIZER.update(grads, carry.opt_state)
        return Carry(optax.apply_updates(carry.params, updates), state, opt_state), loss

    return step


def stepping(step: Callable[..., tuple[Carry, jax.Array]], carry: Carry, *data: jax.Array) -> Task:
    """A program that is called again and again on what it left, in the same buffers.

    The gradients are read off the momentum after the first call, which began at zero: so it is the
    very program that is timed whose gradients are compared."""
    program = compile_program(step, carry, *data, donate=(0,))
    carry, loss = program.run(carry, *data)
    outputs = {"loss": np.array(loss), **_gradients(carry.opt_state[0].trace)}

    def call() -> jax.Array:
        nonlocal carry
        carry, loss = jax.block_until_ready(program.run(carry, *data))
        return loss

    return Task(call, outputs, program.facts)


def _epoch(differentiate: Differentiate, at: Start, arrays: Arrays) -> Task:
    """All batches' images on the device, shuffled anew at each call, a step a batch, in one
    program. Its losses are compared."""
    step = train_step(differentiate)
    images, labels = _all_images(arrays)

    def epoch(
        carry: tuple[Carry, Any], images: jax.Array, labels: jax.Array
    ) -> tuple[tuple[Carry, Any], jax.Array]:
        key, order = _shuffled(carry[1], arrays)
        inner, losses = jax.lax.scan(
            lambda c, rows: step(c, images[rows], labels[rows]), carry[0], order
        )
        return (inner, key), losses

    carry = at.carry, jax.random.key(SHUFFLE)
    program = compile_program(epoch, carry, images, labels, donate=(0,))
    carry, losses = program.run(carry, images, labels)

    def call() -> jax.Array:
        nonlocal carry
        carry, losses = jax.block_until_ready(program.run(carry, images, labels))
        return losses

    return Task(call, {"loss": np.array(losses)}, program.facts)


def _steps_in_turn(differentiate: Differentiate, at: Start, arrays: Arrays) -> Task:
    """The losses of an epoch, without a scan."""
    images, labels = _all_images(arrays)
    carry, losses = at.carry, []
    program = compile_program(train_step(differentiate), carry, at.images, at.labels)
    for rows in _shuffled(jax.random.key(SHUFFLE), arrays)[1]:
        carry, loss = program.run(carry, images[rows], labels[rows])
        losses.append(np.array(loss))
    return Task(lambda: None, {"loss": np.stack(losses)}, {})


def _all_images(arrays: Arrays) -> tuple[jax.Array, jax.Array]:
    """With labels, the batches in a row."""
    images, labels = arrays["images"], arrays["labels"]
    return put(images.reshape(-1, *images.shape[2:])), put(labels.reshape(-1))


def _shuffled(key: Any, arrays: Arrays) -> tuple[Any, jax.Array]:
    """The next key; which images go into which batch."""
    key, now = jax.random.split(key)
    return key, jax.random.permutation(now, arrays["labels"].size).reshape(arrays["labels"].shape)


def _ensemble(differentiate: Differentiate, at: Start, arrays: Arrays) -> Task:
    """A step of all models on the same batch."""
    stacked = nested(
        {
            name.removeprefix(PARAMS): put(array)
            for name, array in arrays.items()
            if name.startswith(PARAMS)
        }
    )
    models = len(jax.tree.leaves(stacked)[0])
    state = jax.tree.map(lambda leaf: jnp.stack([leaf] * models), at.state)
    carry = Carry(stacked, state, jax.vmap(OPTIMIZER.init)(stacked))
    return stepping(
        jax.vmap(train_step(differentiate), in_axes=(0, None, None)), carry, at.images, at.labels
    )


def _models_in_turn(differentiate: Differentiate, network: Network, arrays: Arrays) -> Task:
    """Losses and gradients of an ensemble, without vmap."""
    models = len(arrays[next(name for name in arrays if name.startswith(PARAMS))])
    first, *others = (start(network, arrays, model) for model in range(models))
    program = compile_program(differentiate, *first)
    found = [program.run(*at) for at in (first, *others)]
    losses = np.stack([np.array(loss) for (loss, _), _ in found])
    grads = [_gradients(grads) for _, grads in found]
    return Task(
        lambda: None,
        {"loss": losses, **{name: np.stack([g[name] for g in grads]) for name in grads[0]}},
        {},
    )


def _gradient(differentiate: Differentiate, at: Start, *, means: bool = False) -> Task:
    """Value and gradients, nothing updated; where they come example by example, it may be their
    ``means`` that are compared."""
    program = compile_program(differentiate, *at)
    (loss, _), grads = program.run(*at)
    if means:
        loss, grads = loss.mean(), jax.tree.map(lambda leaf: leaf.mean(0), grads)

    def call() -> jax.Array:
        (loss, _), _ = jax.block_until_ready(program.run(*at))
        return loss

    return Task(call, {"loss": np.array(loss), **_gradients(grads)}, program.facts)


def _by_example(differentiate: Differentiate) -> Differentiate:
    one = lambda params, state, image, label: differentiate(params, state, image[None], label[None])  # noqa: E731
    return jax.vmap(one, in_axes=(None, None, 0, 0))


def _norms_by_example(differentiate: Differentiate) -> Differentiate:
    def norms(*start: Any) -> Any:
        value, grads = _by_example(differentiate)(*start)
        return value, jax.tree.map(
            lambda leaf: jnp.sqrt(jnp.square(leaf).sum(tuple(range(1, leaf.ndim)))), grads
        )

    return norms


def _gradients(tree: Any) -> Arrays:
    return {GRADIENT + path: np.array(leaf) for path, leaf in flat(tree).items()}
