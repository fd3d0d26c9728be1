"""NaN, infinity and numbers near the largest: every fast road leaves them where the plain
convolution does."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn._core.window import resolve
from jaxcnn.kernels import _choice as choice
from jaxcnn.kernels import _xla as xla

PRODUCTS = {"correlate": ("x", "w"), "input_gradient": ("dy", "w"), "weight_gradient": ("x", "dy")}
WAYS = [
    "alone",
    "both mapped",
    *(pytest.param(way, marks=pytest.mark.slow) for way in ("in a loop", "left mapped")),
]


def scanned(product, left, right):
    return jax.lax.scan(lambda carry, _: (carry, product(left, right)), None, length=1)[1][0]


def both_roads(name, taps, way):
    """The op's own product and the plain one, each of arrays with the axes that ``way`` asks
    for."""
    window = resolve("conv", (8, 8), window=(taps, taps), stride=1, padding="SAME", dilation=1)
    ours = functools.partial(getattr(choice, name), window=window, groups=1)
    plain = functools.partial(getattr(xla, name), window=window, groups=1)
    if way == "in a loop":
        return functools.partial(scanned, ours), plain
    if way in ("left mapped", "both mapped"):
        axes = (0, 0 if way == "both mapped" else None)
        one_by_one = (
            (lambda left, right: jax.lax.map(lambda both: plain(*both), (left, right)))
            if way == "both mapped"
            else (lambda left, right: jax.lax.map(lambda each: plain(each, right), left))
        )
        return jax.vmap(ours, axes), one_by_one
    return ours, plain


def arrays(taps):
    rng = np.random.default_rng(0)
    shapes = {"x": (8, 8, 8, 32), "w": (taps, taps, 32, 32), "dy": (8, 8, 8, 32)}
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def sides(name, drawn, way):
    """Where an axis is mapped, two of it, the second without what is odd in the first."""
    left, right = (drawn[side] for side in PRODUCTS[name])
    left = np.stack([left, np.ones_like(left)]) if "mapped" in way else left
    return left, np.stack([right, np.ones_like(right)]) if way == "both mapped" else right


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("taps", [3, 5, 7])  # Winograd twice, im2col
@pytest.mark.parametrize("name", PRODUCTS)
def test_what_is_not_finite_lies_where_the_convolution_has_it(name, taps, way):
    ours, plain = (jax.jit(road) for road in both_roads(name, taps, way))
    for odd in (np.nan, np.inf, -np.inf):
        for side in PRODUCTS[name]:
            drawn = arrays(taps)
            # The middle tap sees no padding, whose 0 some roads multiply by it, and some do not
            at = (taps // 2, taps // 2, 2, 2) if side == "w" else (1, 2, 2, 2)
            drawn[side][at] = odd
            got, want = (road(*sides(name, drawn, way)) for road in (ours, plain))
            assert not np.isfinite(want).all()
            np.testing.assert_array_equal(
                np.where(np.isfinite(got), 0, got), np.where(np.isfinite(want), 0, want)
            )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("taps", [3, 5, 7])
@pytest.mark.parametrize("name", PRODUCTS)
def test_sums_overflow_no_earlier(name, taps, way):
    """Up to a tenth of what float32 holds."""
    ours, plain = (jax.jit(road) for road in both_roads(name, taps, way))
    drawn = arrays(taps)
    left = PRODUCTS[name][0]
    largest = float(np.abs(plain(*sides(name, drawn, way))).max())
    drawn[left] = drawn[left] * np.float32(float(jnp.finfo("float32").max) / 10 / largest)
    got, want = (road(*sides(name, drawn, way)) for road in (ours, plain))
    assert np.isfinite(want).all()
    np.testing.assert_allclose(got, want, atol=2e-6 * np.abs(want).max())


def test_the_plain_weight_gradient_is_the_same_inside_of_a_loop():
    """XLA rewrites convolutions of the main program alone; what it leaves takes another road, 40 to
    100 times as slow."""
    rng = np.random.default_rng(0)
    x, dy = (
        rng.standard_normal((16, 16, 16, 8), np.float32),
        rng.standard_normal((16, 16, 16, 4), np.float32),
    )
    window = resolve("conv", (16, 16), window=(3, 3), stride=1, padding="SAME", dilation=1)
    product = functools.partial(xla.weight_gradient, window=window, groups=1)
    inside = jax.jit(functools.partial(scanned, product))
    np.testing.assert_array_equal(inside(x, dy), jax.jit(product)(x, dy))
