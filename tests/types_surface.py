# pyright: strict, reportUnnecessaryTypeIgnoreComment=true, reportUnknownMemberType=false
"""What a type checker sees of the public names. Read by pyright, not run: each line that must be
refused carries the rule that refuses it, and pyright reports the ones that are not needed."""

from typing import assert_type

import jax

from jaxcnn import Op, ops


def accepted(x: jax.Array, w: jax.Array, key: jax.Array) -> None:
    assert_type(ops.conv(x, w, stride=2, padding="SAME"), jax.Array)
    assert_type(ops.conv(x, w=w, stride=(2, 1)), jax.Array)
    assert_type(ops.relu(x), jax.Array)
    assert_type(ops.sigmoid(x=x), jax.Array)
    assert_type(ops.dense(x, w, b=x), jax.Array)
    assert_type(ops.batch_norm(x, w, w), tuple[jax.Array, jax.Array, jax.Array])
    assert_type(ops.softmax_cross_entropy(x, w), jax.Array)
    assert_type(ops.max_pool.plain(x, window=3), jax.Array)
    assert_type(ops.relu.run(x)[0], jax.Array)
    assert_type(ops.dropout.using(rate=0.5)(x, key), jax.Array)
    assert_type(Op("square", square, square_backward)(x, power=3), jax.Array)


def square(x: jax.Array, *, power: int = 2) -> tuple[jax.Array, jax.Array]:
    return x**power, x


def square_backward(x: jax.Array, dy: jax.Array, *, power: int = 2) -> tuple[jax.Array]:
    return (power * x ** (power - 1) * dy,)


def refused(x: jax.Array, w: jax.Array, key: jax.Array) -> None:
    ops.conv(x, w, strides=3)  # pyright: ignore[reportCallIssue]
    ops.conv(x, w, 3)  # pyright: ignore[reportCallIssue]
    ops.conv(x)  # pyright: ignore[reportCallIssue]
    ops.conv(x, w, stride="2")  # pyright: ignore[reportArgumentType]
    ops.relu(x, x)  # pyright: ignore[reportCallIssue]
    ops.relu("x")  # pyright: ignore[reportArgumentType]
    ops.tanh(x, slope=0.1)  # pyright: ignore[reportCallIssue]
    ops.dropout(x, key)  # pyright: ignore[reportCallIssue]
    ops.max_pool(x, windows=2)  # pyright: ignore[reportCallIssue]
    Op("square", square, square_backward)(x, powers=3)  # pyright: ignore[reportCallIssue]
    ops.max_pool.run(x, windows=2)  # pyright: ignore[reportCallIssue]
