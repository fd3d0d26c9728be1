"""The ops inside other people's frameworks."""

import equinox as eqx
import flax.linen as linen
import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcnn import models, ops, value_and_grad

X = jnp.asarray(np.random.default_rng(0).standard_normal((4, 8, 8, 2)), jnp.float32)
LABELS = jnp.array([0, 1, 2, 0])


def plain_loss(w, b, v):
    y = jax.nn.relu(
        jax.lax.conv_general_dilated(
            X, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        + b[None, None, None]
    )
    y = -jax.lax.reduce_window(-y, jnp.inf, jax.lax.min, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return optax.softmax_cross_entropy_with_integer_labels(y.reshape(4, -1) @ v, LABELS).mean()


def our_loss(w, b, v):
    y = ops.max_pool(ops.relu(ops.bias(ops.conv(X, w), b)))
    return ops.softmax_cross_entropy(ops.dense(y.reshape(4, -1), v), LABELS).mean()


def weights():
    rng = np.random.default_rng(1)
    return tuple(
        jnp.asarray(rng.standard_normal(shape), jnp.float32) * 0.1
        for shape in ((3, 3, 2, 4), (4,), (64, 3))
    )


def check(grads):
    for got, want in zip(grads, jax.grad(plain_loss, argnums=(0, 1, 2))(*weights()), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_in_a_flax_nnx_module():
    class Net(nnx.Module):
        def __init__(self):
            self.w, self.b, self.v = (nnx.Param(value) for value in weights())

        def __call__(self):
            return our_loss(self.w[...], self.b[...], self.v[...])

    grads = nnx.jit(nnx.grad(lambda net: net()))(Net())
    check([grads[name][...] for name in "wbv"])


def test_in_a_flax_linen_module():
    class Net(linen.Module):
        @linen.compact
        def __call__(self):
            w, b, v = (
                self.param(name, lambda key, value=value: value)
                for name, value in zip("wbv", weights(), strict=True)
            )
            return our_loss(w, b, v)

    net = Net()
    params = net.init(jax.random.key(0))
    grads = jax.jit(jax.grad(lambda p: net.apply(p)))(params)
    check([grads["params"][name] for name in "wbv"])


def test_in_an_equinox_module():
    class Net(eqx.Module):
        w: jax.Array
        b: jax.Array
        v: jax.Array

        def __call__(self):
            return our_loss(self.w, self.b, self.v)

    grads = eqx.filter_jit(eqx.filter_grad(lambda net: net()))(Net(*weights()))
    check([grads.w, grads.b, grads.v])


@pytest.mark.parametrize("frozen", [False, True])
def test_in_a_plain_optax_loop(frozen):
    model = models.mlp((16, 3), "tanh")
    params, state = model.init(jax.random.key(0), (8, 8, 2))
    optimizer = optax.adam(1e-2)
    if frozen:
        labels = {"dense1": "still", "dense2": "moves"}
        optimizer = optax.multi_transform(
            {"moves": optimizer, "still": optax.set_to_zero()}, labels
        )
    opt_state = optimizer.init(params)

    @jax.jit
    def step(params, opt_state):
        (value, _), grads = value_and_grad(model, ops.softmax_cross_entropy)(
            params, state, X, LABELS
        )
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value

    trained, values = params, []
    for _ in range(80):
        trained, opt_state, value = step(trained, opt_state)
        values.append(float(value))
    assert values[-1] < 0.1 * values[0]
    same = [
        bool((a == b).all())
        for a, b in zip(
            jax.tree.leaves(trained["dense1"]), jax.tree.leaves(params["dense1"]), strict=True
        )
    ]
    assert all(same) == frozen
