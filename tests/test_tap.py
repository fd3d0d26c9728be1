"""What a composition shows on its way: every layer's output and δ by its path, and its name in
profiles."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import Op, activations, deltas, layers, ops, value_and_grad
from jaxcnn.layers import Layer

KEY = jax.random.key(0)
MODEL = layers.serial(
    first=layers.dense(4),
    many=layers.repeat(layers.serial(dense=layers.dense(4), tanh=layers.activation("tanh")), 2),
    block=layers.residual(layers.serial(drop=layers.dropout(0.5)), layers.dense(4)),
    norm=layers.batch_norm(),
    last=layers.dense(3),
)
PARAMS, STATE = MODEL.init(KEY, (5,))
X = jax.random.normal(KEY, (6, 5))
INSIDE = ["many/0/dense", "many/0/tanh", "many/0", "many/1/dense", "many/1/tanh", "many/1"]
ORDER = ["first", *INSIDE, "many", "block/body/drop", "block/body", "block/shortcut", "block"]
ORDER += ["norm", "last"]


class Foreign(Layer):
    """By somebody who knows the contract of a layer, and of no tap."""

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> Any:
        return {}, {}

    def forward(
        self, params: Any, state: Any, x: Any, key: Any = None, *, train: bool = False
    ) -> Any:
        return (2 * x, state), None

    def backward(self, residuals: Any, dy: Any) -> Any:
        return {}, 2 * dy


def test_forward_shows_outputs_first_layer_first() -> None:
    seen: dict[str, Any] = {}
    tap = lambda path, y: seen.update({"/".join(path): y})  # noqa: E731
    (y, _), _ = MODEL.forward(PARAMS, STATE, X, KEY, train=True, tap=tap)
    assert list(seen) == ORDER
    np.testing.assert_array_equal(seen["last"], y)
    np.testing.assert_array_equal(seen["many"], seen["many/1/tanh"])
    compiled = jax.jit(lambda: activations(MODEL, PARAMS, STATE, X, KEY, train=True))()
    for name, value in seen.items():
        np.testing.assert_allclose(compiled[name], value, rtol=1e-5, atol=1e-6)


def test_backward_shows_deltas_last_layer_first() -> None:
    (y, _), residuals = MODEL.forward(PARAMS, STATE, X, KEY, train=True)
    seen: dict[str, Any] = {}
    tapped = MODEL.backward(
        residuals, y, tap=lambda path, delta: seen.update({"/".join(path): delta})
    )
    # each path stands before what is inside of it, and after what is behind it
    assert list(seen)[:2] == ["last", "norm"]
    assert sorted(seen) == sorted(ORDER)
    for path in ORDER:
        for inside in ORDER:
            if inside.startswith(f"{path}/"):
                assert list(seen).index(path) < list(seen).index(inside)
    jax.tree.map(np.testing.assert_array_equal, tapped, MODEL.backward(residuals, y))
    assert list(deltas(MODEL, residuals, y)) == list(reversed(seen))


def test_a_delta_is_the_derivative_at_that_output() -> None:
    """Of a linear function of the last output, moved at the output of `many`."""
    (y, _), residuals = MODEL.forward(PARAMS, STATE, X, KEY)
    names = list(MODEL.layers)

    def above(h: Any) -> Any:
        for name in names[names.index("many") + 1 :]:
            h, _ = MODEL.layers[name].apply(PARAMS.get(name, {}), STATE.get(name, {}), h)
        return (h * jnp.cos(y)).sum()

    expected = jax.grad(above)(activations(MODEL, PARAMS, STATE, X)["many"])
    delta = deltas(MODEL, residuals, jnp.cos(y))["many"]
    np.testing.assert_allclose(delta, expected, rtol=1e-5, atol=1e-6)


def test_a_layer_that_knows_of_no_tap_stands_among_others() -> None:
    model = layers.serial(a=layers.dense(3), foreign=Foreign(), b=layers.serial(c=Foreign()))
    params, state = model.init(KEY, (5,))
    assert list(activations(model, params, state, X)) == ["a", "foreign", "b/c", "b"]
    (y, _), residuals = model.forward(params, state, X)
    found = deltas(model, residuals, jnp.ones_like(y))
    assert {name: float(delta[0, 0]) for name, delta in found.items()} == {
        "a": 4.0,
        "foreign": 2.0,
        "b/c": 1.0,
        "b": 1.0,
    }
    assert not deltas(layers.relu(), layers.relu().forward({}, {}, X)[1], X)


def test_profiles_name_layers_and_ops_forward_and_backward() -> None:
    step = jax.jit(value_and_grad(MODEL, ops.softmax_cross_entropy))
    lowered = step.lower(PARAMS, STATE, X, jnp.zeros(6, int), KEY)
    text = lowered.as_text(debug_info=True)
    for scope in (
        "first/dense/",
        "first/backward/dense/backward/",
        "block/shortcut/dense/",
        "block/backward/shortcut/backward/dense/backward/",
        "norm/batch_norm/",
        "norm/backward/batch_norm/backward/",
        "softmax_cross_entropy/backward/",
    ):
        assert scope in text, scope
    square = Op("my_square", lambda x: (x * x, x), lambda x, dy: (2 * x * dy,))
    assert "my_square/mul" in jax.jit(square).lower(3.0).as_text(debug_info=True)
    assert "my_square/backward)" in jax.jit(jax.grad(square)).lower(3.0).as_text(debug_info=True)
