"""Training without autodiff: run the forward, run the hand-written backward."""

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn._core.cotangent import match_varying
from jaxcnn._core.errors import check_counts
from jaxcnn._core.keys import threefry
from jaxcnn._core.op import Op
from jaxcnn._core.upcast import upcast
from jaxcnn.layers import Layer
from jaxcnn.layers._examples import example_norms as norms_of
from jaxcnn.layers._layer import Params, State, within
from jaxcnn.precision import Policy


@runtime_checkable
class ValueAndGrad(Protocol):
    """What :func:`value_and_grad` gives."""

    def __call__(
        self,
        params: Params,
        state: State,
        x: Any,
        target: Any,
        key: jax.Array | None = None,
        *,
        train: bool = True,
        scale: Any = ...,
    ) -> tuple[tuple[jax.Array, State], Params]: ...


@runtime_checkable
class ExampleNorms(Protocol):
    """What :func:`example_norms` gives."""

    def __call__(
        self,
        params: Params,
        state: State,
        x: Any,
        target: Any,
        key: jax.Array | None = None,
        *,
        train: bool = True,
    ) -> tuple[tuple[jax.Array, State], Params]: ...


def value_and_grad(
    model: Layer, loss: Op, *, microbatch: int | None = None, policy: Policy | None = None
) -> ValueAndGrad:
    """The mean loss over a batch, the model's new state, and the gradient of the parameters.

        run = value_and_grad(model, loss)
        ((value, state), grads) = run(params, state, x, target, key=None, train=True)

    ``loss`` is an op of (output, target) that gives one value an example
    (``ops.softmax_cross_entropy``). No autodiff anywhere: the loss's backward gives δ at the
    output, the model's backward carries it down. ``jax.grad`` of the same mean over ``model.apply``
    gives the same numbers.

    With ``microbatch`` the batch is worked through in parts of that many examples, and their
    gradients are summed: the same gradient in less memory, and in less time where that keeps δ in a
    processor's cache. Two things differ: batch norm sees the microbatches (its running statistics
    move once for each), and dropout draws a mask for each. Raises ValueError where a larger batch
    does not divide into microbatches.

    With a ``policy`` (:class:`jaxcnn.precision.Policy`) the network computes in its ``compute``
    dtype, and the gradients come in its ``params`` dtype; δ is carried down ``scale`` times as
    large, an argument beside ``train`` (the policy's ``loss_scale``, if not given), and the
    gradients are divided by it.

    >>> import jax, jax.numpy as jnp
    >>> from jaxcnn import models, ops, value_and_grad
    >>> model = models.mlp((3, 2), "tanh")
    >>> params, state = model.init(jax.random.key(0), (4,))
    >>> step = jax.jit(value_and_grad(model, ops.softmax_cross_entropy))
    >>> (value, state), grads = step(params, state, jnp.ones((5, 4)), jnp.zeros(5, int))
    >>> jax.tree.map(jnp.shape, grads) == jax.tree.map(jnp.shape, params)
    True
    >>> by_twos = value_and_grad(model, ops.softmax_cross_entropy, microbatch=2)
    >>> (same, _), _ = by_twos(params, state, jnp.ones((4, 4)), jnp.zeros(4, int))
    >>> bool(jnp.allclose(value, same))
    True
    """
    check_loss("value_and_grad", loss)
    if microbatch is not None:
        check_counts("value_and_grad", microbatch=microbatch)

    def whole(
        params: Any, state: Any, x: Any, target: Any, key: Any, train: bool, scale: Any
    ) -> Any:
        if policy is not None:
            # not the state: an average over many batches needs all its digits
            params, x = policy.to_compute(params), policy.to_compute(x)
        (y, new_state), residuals = model.forward(params, state, x, key, train=train)
        output = y if policy is None else policy.to_output(y)
        losses, dy = losses_and_delta(loss, output, target, scale)
        grads, _ = model.backward(residuals, dy.astype(y.dtype))
        if policy is not None:
            grads = policy.to_params(jax.tree.map(lambda d: upcast(d) / scale, grads))
        return (losses.mean(), new_state), grads

    fixed = 1.0 if policy is None else policy.fixed_scale

    def run(
        params: Any,
        state: Any,
        x: Any,
        target: Any,
        key: Any = None,
        *,
        train: bool = True,
        scale: Any = fixed,
    ) -> Any:
        scale = 1 if policy is None else scale
        if microbatch is None or len(x) <= microbatch:
            return whole(params, state, x, target, key, train, scale)
        if len(x) % microbatch:
            raise ValueError(
                f"value_and_grad: a batch of {len(x)} does not divide into microbatches of"
                f" {microbatch}; choose a divisor"
            )
        count = len(x) // microbatch

        def step(carry: Any, part: Any) -> Any:
            (total, state), sums = carry
            number, x, target = part
            own_key = (
                None if key is None else jax.random.fold_in(threefry("value_and_grad", key), number)
            )
            (value, state), grads = whole(params, state, x, target, own_key, train, scale)
            sums = jax.tree.map(lambda sum_, d: sum_ + upcast(d) / count, sums, grads)
            return ((total + value.astype(total.dtype) / count, state), sums), None

        # Every count-th example, so that a batch cut up by a mesh stays where it is
        parts = jax.tree.map(
            lambda a: a.reshape(-1, count, *a.shape[1:]).swapaxes(0, 1), (x, target)
        )
        output = jnp.float32 if policy is None else policy.output
        zero = jnp.zeros((), jnp.result_type(jnp.float32, output, *jax.tree.leaves(params)))
        start = jax.tree.map(lambda leaf: match_varying(leaf, x), (zero, state))
        nothing = jax.tree.map(lambda leaf: upcast(jnp.zeros_like(leaf)), params)
        found, sums = lax.scan(step, (start, nothing), (jnp.arange(count), *parts))[0]
        return found, jax.tree.map(lambda sum_, leaf: sum_.astype(leaf.dtype), sums, params)

    return run


def example_norms(model: Layer, loss: Op) -> ExampleNorms:
    """The loss of each example, the model's new state, and the norm of the gradient of each
    parameter for each example alone.

        run = example_norms(model, loss)
        ((losses, state), norms) = run(params, state, x, target, key=None, train=True)

    losses (n,); norms has the tree of params, with (n,) for each: ‖∂ losses[n] / ∂ parameter‖. They
    come from the residuals and δ (‖x‖‖δ‖ for a dense layer), so that no example's gradient is ever
    formed; one pass forward and one back, as for a batch. Raises TypeError for layers that mix the
    examples of a batch (batch norm in training) and for ops that have no such rule.

    >>> import jax, jax.numpy as jnp
    >>> from jaxcnn import models, ops
    >>> model = models.mlp((3, 2), "tanh")
    >>> params, state = model.init(jax.random.key(0), (4,))
    >>> run = example_norms(model, ops.softmax_cross_entropy)
    >>> (losses, _), norms = run(params, state, jnp.ones((5, 4)), jnp.zeros(5, int))
    >>> losses.shape, norms["dense1"]["kernel"].shape
    ((5,), (5,))
    """
    check_loss("example_norms", loss)

    def run(
        params: Any, state: Any, x: Any, target: Any, key: Any = None, *, train: bool = True
    ) -> Any:
        (y, new_state), residuals = model.forward(params, state, x, key, train=train)
        losses, dy = losses_and_delta(loss, y, target, mean=False)
        norms, _ = norms_of(model, residuals, dy)
        return (losses, new_state), norms

    return run


def deltas(model: Layer, residuals: Any, dy: Any) -> dict[str, Any]:
    """δ = ∂loss/∂output of every layer inside ``model``, by name, first layer first; ``dy`` is δ at
    the model's output.

    >>> import jax, jax.numpy as jnp
    >>> from jaxcnn import deltas, models
    >>> model = models.mlp((3, 2), "tanh")
    >>> params, state = model.init(jax.random.key(0), (4,))
    >>> (y, _), residuals = model.forward(params, state, jnp.ones((5, 4)))
    >>> {name: delta.shape for name, delta in deltas(model, residuals, y).items()}
    {'flatten': (5, 4), 'dense1': (5, 3), 'tanh1': (5, 3), 'dense2': (5, 2)}
    """
    found: dict[str, Any] = {}
    model.backward(
        residuals, dy, **within(model, lambda path, d: found.setdefault("/".join(path), d))
    )
    return dict(reversed(found.items()))


def activations(
    model: Layer, params: Any, state: Any, x: Any, key: Any = None, *, train: bool = False
) -> dict[str, Any]:
    """The output of every layer inside ``model``, by the names that :func:`deltas` uses, first
    layer first.

    >>> import jax, jax.numpy as jnp
    >>> from jaxcnn import activations, models
    >>> model = models.mlp((3, 2), "tanh")
    >>> params, state = model.init(jax.random.key(0), (4,))
    >>> {name: y.shape for name, y in activations(model, params, state, jnp.ones((5, 4))).items()}
    {'flatten': (5, 4), 'dense1': (5, 3), 'tanh1': (5, 3), 'dense2': (5, 2)}
    """
    found: dict[str, Any] = {}
    tap = within(model, lambda path, y: found.setdefault("/".join(path), y))
    model.forward(params, state, x, key, train=train, **tap)
    return found


def losses_and_delta(
    loss: Op, y: Any, target: Any, scale: Any = 1, *, mean: bool = True
) -> tuple[Any, Any]:
    """One loss an example, and δ = ∂(``scale`` · their mean, or sum)/∂y."""
    losses, saved = loss.run(y, target)
    weight = 1 / max(losses.size, 1) if mean else 1.0
    dy, *_ = loss.pull(saved, jnp.full_like(losses, weight) * scale)
    return losses, dy


def check_loss(function: str, loss: Any) -> None:
    """``loss`` is an op."""
    if not isinstance(loss, Op):
        raise TypeError(
            f"{function}: `loss` must be an Op of (output, target), such as"
            f" ops.softmax_cross_entropy; got {loss!r}"
        )
