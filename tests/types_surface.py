"""What a type checker must know of the ops: pyright reads this file, nothing runs it.

An error that must come has an ignore comment, and a comment that nothing needs is itself an error.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false, reportPrivateUsage=false
# pyright: reportMissingTypeStubs=false

from typing import Any, assert_type

import jax
import jax.numpy as jnp
import optax

from jaxcnn import Op, ops, train, value_and_grad
from jaxcnn._core.cotangent import Static
from jaxcnn._core.window import Window
from jaxcnn._gradient import ValueAndGrad
from jaxcnn.layers import Layer
from jaxcnn.layers._layer import Params, State

x, w, labels = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 4)), jnp.zeros(2, int)

# the output, of each way to call
assert_type(ops.conv(x, w), jax.Array)
assert_type(ops.conv(x, w=w, stride=(1, 2), padding="VALID", groups=1), jax.Array)
assert_type(ops.conv.plain(x, w, flip=True), jax.Array)
assert_type(ops.relu(x), jax.Array)
assert_type(ops.relu(x, at_zero=0.5), jax.Array)
assert_type(ops.tanh(x), jax.Array)
assert_type(ops.dense(x, w, b=x), jax.Array)
assert_type(ops.batch_norm(x, w, w), tuple[jax.Array, jax.Array, jax.Array])
assert_type(ops.softmax_cross_entropy(x, labels), jax.Array)

# the residuals
y, saved = ops.max_pool.run(x, window=3)
assert_type(y, jax.Array)
assert_type(saved[0], tuple[jax.Array, Static[Window]])
assert_type(ops.max_pool.pull(saved, y), tuple[Any, ...])

# an op with bound settings takes the others as they come
assert_type(ops.squared_error.using(scale=0.5)(x, x), jax.Array)
assert_type(ops.dropout.using(rate=0.5)(x, jax.random.key(0)), jax.Array)
assert_type(ops.relu.replace(backward=lambda kept, dy: (dy,))(x, at_zero=1.0), jax.Array)


# an op of one's own
def forward(x: jax.Array, *, power: int = 2) -> tuple[jax.Array, jax.Array]:
    return x**power, x


own = Op("power", forward, lambda x, dy, *, power=2: (power * x ** (power - 1) * dy,))
assert_type(own(x, power=3), jax.Array)

# what must be an error
ops.conv(x, w, strides=3)  # pyright: ignore[reportCallIssue]
ops.conv(x, w, stride=1.5)  # pyright: ignore[reportArgumentType]
ops.conv(x)  # pyright: ignore[reportCallIssue]
ops.conv(x, w, w)  # pyright: ignore[reportCallIssue]
ops.conv([1.0], w)  # pyright: ignore[reportArgumentType]
ops.conv.run(x, w, strides=3)  # pyright: ignore[reportCallIssue]
ops.conv.plain(x, w, strides=3)  # pyright: ignore[reportCallIssue]
ops.relu(x, slope=0.1)  # pyright: ignore[reportCallIssue]
ops.tanh(x, x)  # pyright: ignore[reportCallIssue]
ops.dropout(x, jax.random.key(0))  # pyright: ignore[reportCallIssue]
ops.patches(x)  # pyright: ignore[reportCallIssue]
ops.max_pool.pull(y, y)  # pyright: ignore[reportArgumentType]
own(x, powers=3)  # pyright: ignore[reportCallIssue]


def trainer(model: Layer) -> None:
    """The loss is an op of any type."""
    step = value_and_grad(model, ops.softmax_cross_entropy)
    assert_type(step, ValueAndGrad)
    assert_type(step({}, {}, x, labels), tuple[tuple[jax.Array, State], Params])
    step({}, {}, x)  # pyright: ignore[reportCallIssue]

    recipe = train.Recipe(model, ops.softmax_cross_entropy, optax.sgd(0.1), microbatch=2)
    state = train.create(recipe, jax.random.key(0), (8, 8, 3))
    assert_type(state, train.TrainState)
    assert_type(train.make_step(recipe), train.Step)
    found = train.make_step(recipe, guard=True)(state, x, labels, jax.random.key(0))
    assert_type(found, tuple[train.TrainState, dict[str, jax.Array]])
    assert_type(train.make_predict(recipe)(state.params, state.state, x), jax.Array)
    scores = train.make_evaluate(recipe, batch_size=2)(state.params, state.state, x, labels)
    assert_type(scores, dict[str, float])
    train.Recipe(model, ops.softmax_cross_entropy, optimiser=optax.sgd(0.1))  # pyright: ignore[reportCallIssue]
    train.make_step(recipe, microbatch=2)  # pyright: ignore[reportCallIssue]
    train.make_step(recipe)(state, x, labels)  # pyright: ignore[reportCallIssue]
    train.fit(recipe, (x, labels))  # pyright: ignore[reportCallIssue]
