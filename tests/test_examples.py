"""Gradient norms of single examples, through every kind of layer."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn import example_norms, layers, ops, value_and_grad
from jaxcnn.layers._chain import FLATTEN, Chain, Link, Static

X = jax.random.normal(jax.random.key(2), (3, 6, 6, 2))
LABELS = np.array([0, 2, 1])
INNER = layers.serial(conv=layers.conv(4), act=layers.activation("tanh"))


def _model(*, norm: layers.Layer) -> layers.Layer:
    return layers.serial(
        conv=layers.conv(4, window=3, stride=2, groups=2),
        group=layers.group_norm(2),
        relu=layers.relu(),
        block=layers.residual(layers.serial(norm=layers.layer_norm(), up=layers.conv_transpose(4))),
        deep=layers.repeat(INNER, 2),
        norm=norm,
        drop=layers.dropout(0.3),
        rows=layers.of(ROWS),
        rnn=layers.rnn(3),
        flatten=layers.flatten(),
        dense=layers.dense(3),
    )


ROWS = FLATTEN.replace(
    name="rows",
    forward=lambda x, /: (x.reshape(len(x), -1, x.shape[-1]), Static(x.shape)),
    backward=lambda shape, dy, /: (dy.reshape(shape.value),),
)


def _norm(gradient: Any, *, kept: int = 0) -> np.ndarray:
    return np.sqrt(np.square(gradient).sum(tuple(range(kept, gradient.ndim))))


def test_norms_are_those_of_the_gradients_of_one_example_at_a_time(x64: None) -> None:
    model = _model(norm=layers.batch_norm())
    x = X.astype(jnp.float64)
    params, state = model.init(jax.random.key(0), X.shape[1:])
    (losses, new_state), norms = jax.jit(
        lambda: example_norms(model, ops.softmax_cross_entropy)(
            params, state, x, LABELS, train=False
        )
    )()
    assert jax.tree.structure(norms) == jax.tree.structure(params)
    assert jax.tree.structure(new_state) == jax.tree.structure(state)
    gradient = jax.jit(
        lambda x, t: value_and_grad(model, ops.softmax_cross_entropy)(
            params, state, x, t, train=False
        )
    )
    for n in range(len(x)):
        (value, _), grads = gradient(x[n : n + 1], LABELS[n : n + 1])
        np.testing.assert_allclose(losses[n], value, rtol=1e-12)
        deep, deep_norms = grads.pop("deep"), {**norms}.pop("deep")
        others = {name: part for name, part in norms.items() if name != "deep"}
        jax.tree.map(
            lambda g, norm, n=n: np.testing.assert_allclose(norm[n], _norm(g), rtol=1e-10),
            grads,
            others,
        )
        jax.tree.map(
            lambda g, norm, n=n: np.testing.assert_allclose(
                norm[:, n], _norm(g, kept=1), rtol=1e-10
            ),
            deep,
            deep_norms,
        )


def test_what_mixes_examples_has_no_gradient_of_one() -> None:
    model = _model(norm=layers.batch_norm())
    params, state = jax.eval_shape(lambda: model.init(jax.random.key(0), X.shape[1:]))
    norms = example_norms(model, ops.softmax_cross_entropy)
    with pytest.raises(TypeError, match="batch_norm: in training it mixes the examples") as caught:
        jax.eval_shape(lambda p, s: norms(p, s, X, LABELS, jax.random.key(1)), params, state)
    assert "in layer `norm`" in caught.value.__notes__


def test_an_op_without_the_rule_says_so() -> None:
    model = layers.dense(3)
    model = Chain((Link(ops.dense.replace(norms=None), ("kernel", "bias")),), model.parameters)
    params, state = model.init(jax.random.key(0), (2,))
    with pytest.raises(TypeError, match="dense: has no rule for the gradients of single examples"):
        example_norms(model, ops.softmax_cross_entropy)(params, state, X[:, 0, 0], LABELS)
