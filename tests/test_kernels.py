"""The fast algorithms compute what the plain ones do, for every geometry, block size and transformation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from every import reference
from jaxcnn import ops
from jaxcnn.kernels import im2col
from jaxcnn.window import resolve

CASES = [case for case in ops.conv.cases if case.static.get("groups", 1) == 1 and not case.static.get("flip")]


@pytest.mark.parametrize("block", [1, 2, 100])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_im2col_equals_the_reference(case, block, x64):
    x, w = case.draw(0, "float64")
    y, pull = jax.vjp(functools.partial(reference(ops.conv), **case.static), x, w)
    dx, dw = pull(jnp.cos(y))
    geometry = {"stride": 1, "padding": "SAME", "dilation": 1, **case.static}
    window = resolve("conv", x.shape[1:-1], window=w.shape[:-2], **geometry)
    for got, want in (
        (im2col.correlate(x, w, window=window, block=block), y),
        (im2col.input_gradient(jnp.cos(y), w, window=window, block=block), dx),
        (im2col.weight_gradient(x, jnp.cos(y), window=window, block=block), dw),
    ):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, atol=1e-12 * float(jnp.abs(want).max()))


def test_a_batch_that_does_not_divide_into_blocks(x64):
    rng = np.random.default_rng(0)
    x, w = jnp.asarray(rng.standard_normal((7, 5, 5, 2))), jnp.asarray(rng.standard_normal((3, 3, 2, 3)))
    window = resolve("conv", (5, 5), window=3, stride=1, padding="SAME", dilation=1)
    np.testing.assert_allclose(im2col.correlate(x, w, window=window, block=3), reference(ops.conv)(x, w), atol=1e-12)


def test_the_error_in_float32_is_that_of_the_direct_sum():
    """Against float64: the blocked products may err no more than twice as much as XLA's own convolution."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((16, 14, 14, 32)), rng.standard_normal((5, 5, 32, 16))
    dy = rng.standard_normal((16, 10, 10, 16))
    window = resolve("conv", (14, 14), window=5, stride=1, padding="VALID", dilation=1)
    with jax.enable_x64(True):
        wide = [jnp.asarray(v) for v in (x, w, dy)]
        true_y, pull = jax.vjp(lambda x, w: reference(ops.conv)(x, w, padding="VALID"), *wide[:2])
        truth = [np.asarray(v) for v in (true_y, *pull(wide[2]))]
    x, w, dy = (jnp.asarray(v, jnp.float32) for v in (x, w, dy))
    direct = jax.vjp(
        lambda x, w: jax.lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")),
        x,
        w,
    )
    theirs = (direct[0], *direct[1](dy))
    ours = (
        im2col.correlate(x, w, window=window),
        im2col.input_gradient(dy, w, window=window),
        im2col.weight_gradient(x, dy, window=window),
    )
    for mine, other, true in zip(ours, theirs, truth, strict=True):
        error = [float(np.abs(np.asarray(v).astype(np.float64) - true).max()) for v in (mine, other)]
        assert error[0] <= 2 * error[1], error


def test_the_op_uses_the_kernel_where_it_suits_and_only_there():
    def program(x, w):
        return str(jax.make_jaxpr(lambda x, w: ops.conv.plain(x, w))(x, w))

    large, small = jnp.ones((16, 12, 12, 8)), jnp.ones((2, 6, 6, 8))
    w = jnp.ones((3, 3, 8, 16))
    assert "platform_index" in program(large, w)
    assert "platform_index" not in program(small, w)
    assert "platform_index" not in program(large.astype("bfloat16"), w.astype("bfloat16"))
