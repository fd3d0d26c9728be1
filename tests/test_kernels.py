"""The fast algorithms compute what the plain ones do, for every geometry, block size and
transformation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from every import reference
from jaxcnn import ops
from jaxcnn._core.window import resolve
from jaxcnn.kernels import _im2col as im2col
from jaxcnn.kernels import _winograd as winograd
from jaxcnn.kernels import _xla as xla
from jaxcnn.kernels._choice import correlate, input_gradient, weight_gradient
from jaxcnn.kernels._toom_cook import matrices
from jaxcnn.verify._subject import quick

CASES = [
    case
    for case in ops.conv.cases
    if case.static.get("groups", 1) == 1 and not {"flip", "implementation"} & {*case.static}
]


@pytest.mark.parametrize(
    "block", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(100, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_im2col_equals_the_reference(case, block, x64):
    x, w = case.draw(0, "float64")
    y, pull = jax.vjp(functools.partial(reference(ops.conv), **case.static), x, w)
    dx, dw = pull(jnp.cos(y))
    geometry = {"stride": 1, "padding": "SAME", "dilation": 1, **case.static}
    window = resolve("conv", x.shape[1:-1], window=w.shape[:-2], **geometry)
    for got, want in (
        (quick(functools.partial(im2col.correlate, window=window, block=block))(x, w), y),
        (
            quick(functools.partial(im2col.input_gradient, window=window, block=block))(
                jnp.cos(y), w
            ),
            dx,
        ),
        (
            quick(functools.partial(im2col.weight_gradient, window=window, block=block))(
                x, jnp.cos(y)
            ),
            dw,
        ),
    ):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, atol=1e-12 * float(jnp.abs(want).max()))


def test_a_batch_that_does_not_divide_into_blocks(x64):
    rng = np.random.default_rng(0)
    x, w = (
        jnp.asarray(rng.standard_normal((7, 5, 5, 2))),
        jnp.asarray(rng.standard_normal((3, 3, 2, 3))),
    )
    window = resolve("conv", (5, 5), window=3, stride=1, padding="SAME", dilation=1)
    np.testing.assert_allclose(
        im2col.correlate(x, w, window=window, block=3), reference(ops.conv)(x, w), atol=1e-12
    )


@pytest.mark.parametrize(
    "padding",
    [*(pytest.param(p, marks=pytest.mark.slow) for p in ("SAME", "VALID")), ((2, 1), (0, 2))],
    ids=str,
)
@pytest.mark.parametrize("cells", [(5, 9), pytest.param((8, 6), marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("taps", [3, 5])
def test_winograd_equals_the_reference(taps, cells, padding, x64, monkeypatch):
    monkeypatch.setattr(winograd, "NEAR_BYTES", 1)  # so that every image is a block of its own
    monkeypatch.setattr(winograd, "PARALLEL", 1)
    rng = np.random.default_rng(0)
    x, w = (
        jnp.asarray(rng.standard_normal((3, *cells, 2))),
        jnp.asarray(rng.standard_normal((taps, taps, 2, 3))),
    )
    window = resolve("conv", cells, window=(taps, taps), stride=1, padding=padding, dilation=1)
    y, pull = jax.vjp(functools.partial(reference(ops.conv), padding=padding), x, w)
    dx, dw = pull(jnp.cos(y))
    for got, want in (
        (quick(functools.partial(winograd.correlate, window=window))(x, w), y),
        (quick(functools.partial(winograd.input_gradient, window=window))(jnp.cos(y), w), dx),
        (quick(functools.partial(winograd.weight_gradient, window=window))(x, jnp.cos(y)), dw),
    ):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, atol=1e-11 * float(jnp.abs(want).max()))


@pytest.mark.parametrize(("m", "r"), [(2, 3), (4, 3), (2, 5), (3, 2), (1, 4), (5, 2)])
def test_toom_cook_is_a_correlation(m, r):
    a, g, b = matrices(m, r)
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(m + r - 1), rng.standard_normal(r)
    np.testing.assert_allclose(a @ ((g @ w) * (b @ x)), np.correlate(x, w, "valid"), atol=1e-13)


@pytest.mark.parametrize(
    ("kernel", "taps"),
    [
        pytest.param(im2col, 5, marks=pytest.mark.slow),
        (winograd, 3),
        pytest.param(winograd, 5, marks=pytest.mark.slow),
    ],
)
def test_the_error_in_float32_is_that_of_the_direct_sum(kernel, taps):
    """Against float64: no more than twice the error of what the op computes elsewhere, at its
    largest and in the mean square."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((16, 14, 14, 32)), rng.standard_normal((taps, taps, 32, 32))
    places = 15 - taps
    dy = rng.standard_normal((16, places, places, 32))
    window = resolve("conv", (14, 14), window=(taps, taps), stride=1, padding="VALID", dilation=1)

    def direct(x, w):
        return jax.lax.conv_general_dilated(
            x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    with jax.enable_x64(True):
        wide = [jnp.asarray(v) for v in (x, w, dy)]
        true_y, pull = jax.vjp(direct, *wide[:2])
        truth = [np.asarray(v) for v in (true_y, *pull(wide[2]))]
    x, w, dy = (jnp.asarray(v, jnp.float32) for v in (x, w, dy))
    ours = [kernel.correlate(x, w, window=window), kernel.input_gradient(dy, w, window=window)]
    theirs = [
        xla.correlate(x, w, window=window, groups=1),
        xla.input_gradient(dy, w, window=window, groups=1),
    ]
    if kernel is im2col or taps == 3:  # the op takes im2col for the others
        ours.append(kernel.weight_gradient(x, dy, window=window))
        theirs.append(xla.weight_gradient(x, dy, window=window, groups=1))
    for mine, other, true in zip(ours, theirs, truth[: len(ours)], strict=True):
        gaps = [np.asarray(v).astype(np.float64) - true for v in (mine, other)]
        for size in (lambda gap: np.abs(gap).max(), lambda gap: np.sqrt(np.square(gap).mean())):
            assert size(gaps[0]) <= 2 * size(gaps[1])


def test_the_op_uses_the_kernel_where_it_suits_and_only_there():
    def program(x, w, **static):
        return str(jax.make_jaxpr(lambda x, w: ops.conv.plain(x, w, **static))(x, w))

    def arrays(n, channels, outputs, taps=3):
        return jnp.ones((n, 16, 16, channels)), jnp.ones((taps, taps, channels, outputs))

    products_of_tiles = "([0], [0])"  # the batch axes of Winograd's matrix products
    assert products_of_tiles in program(*arrays(16, 32, 32))
    assert products_of_tiles in program(*arrays(16, 32, 32, 5))
    for x, w, static in (
        (*arrays(16, 32, 32), {"stride": 2}),
        (*arrays(16, 32, 32), {"dilation": 2}),
        (*arrays(16, 32, 32, 7), {}),
    ):
        assert products_of_tiles not in program(x, w, **static)
        assert "platform_index" in program(x, w, **static)
    large, w = arrays(16, 32, 32)
    assert "platform_index" not in program(*arrays(16, 8, 64))
    assert "platform_index" not in program(*arrays(1, 32, 32), stride=16)
    assert "platform_index" not in program(large, w[:, :, :16], groups=2)
    assert products_of_tiles in program(large.astype("bfloat16"), w.astype("bfloat16"))


@pytest.mark.parametrize("groups", [1, 32])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_16_bits_are_computed_in_32_and_rounded_once(dtype, groups):
    rng = np.random.default_rng(0)
    x, w, dy = (
        jnp.asarray(rng.standard_normal(shape), dtype)
        for shape in ((8, 9, 9, 32), (3, 3, 32 // groups, 32), (8, 9, 9, 32))
    )

    def all_three(*arrays):
        x, w, dy = arrays
        y, saved = ops.conv.run(x, w, groups=groups)
        return y, *ops.conv.pull(saved, dy, groups=groups)

    for narrow, full in zip(
        all_three(x, w, dy), all_three(*(a.astype("float32") for a in (x, w, dy))), strict=True
    ):
        assert narrow.dtype == dtype
        full, gap = np.asarray(full), np.abs(narrow.astype("float32") - full)
        # once, and float32's own
        rounding = jnp.finfo(dtype).eps / 2 * np.abs(full) + 1e-6 * np.abs(full).max()
        assert (gap <= rounding).all()


def _with_derivative(f):
    return lambda *sides: jax.jvp(f, sides, sides)


SIDES = {"left": (0, None), "right": (None, 0), "both": (0, 0)}


@pytest.mark.parametrize("mapped", SIDES)
@pytest.mark.parametrize(
    "sizes", ["small", pytest.param("one fills a block", marks=pytest.mark.slow)]
)
def test_products_under_vmap_are_those_of_a_loop(sizes, mapped, x64, monkeypatch):
    """Values and derivatives, whatever is mapped, and mapped twice."""
    if sizes != "small":
        monkeypatch.setattr(im2col, "BLOCK_BYTES", 1)
    rng = np.random.default_rng(0)
    x, w, dy = (
        rng.standard_normal(shape) for shape in ((3, 2, 5, 4, 2), (3, 3, 3, 2, 3), (3, 2, 5, 4, 3))
    )
    window = resolve("conv", (5, 4), window=(3, 3), stride=1, padding="SAME", dilation=1)
    for product, left, right in (
        (correlate, x, w),
        (input_gradient, dy, w),
        (weight_gradient, x, dy),
    ):
        product = functools.partial(product, window=window, groups=1)
        axes = SIDES[mapped]
        sides = [
            jnp.asarray(side if axis == 0 else side[0])
            for side, axis in zip((left, right), axes, strict=True)
        ]

        def alone(n, *sides, product=product, axes=axes):
            return product(
                *(side[n] if axis == 0 else side for side, axis in zip(sides, axes, strict=True))
            )

        together = quick(_with_derivative(jax.vmap(product, axes)))(*sides)
        for n in range(3):
            for got, want in zip(
                together, quick(_with_derivative(functools.partial(alone, n)))(*sides), strict=True
            ):
                np.testing.assert_allclose(got[n], want, atol=1e-12)
        twice = jax.vmap(jax.vmap(product, axes), axes)
        doubled = [
            jnp.stack([side, side]) if axis == 0 else side
            for side, axis in zip(sides, axes, strict=True)
        ]
        np.testing.assert_allclose(quick(twice)(*doubled)[1], together[0], atol=1e-12)


def test_mapped_weights_are_no_grouped_convolution():
    x, w = jnp.ones((8, 4, 6, 6, 2)), jnp.ones((8, 3, 3, 2, 4))
    program = jax.jit(jax.vmap(lambda x, w: ops.conv.plain(x, w))).lower(x, w).compile().as_text()
    assert "feature_group_count" not in str(program)


@pytest.mark.parametrize("taps", [3, 7])  # Winograd, im2col
def test_a_batch_cut_by_a_mesh_costs_one_sum_of_the_weights_gradient(taps):
    """As seen only by the compiler: the arrays do not know of the mesh while the program is
    traced."""
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    cut, whole = (jax.NamedSharding(mesh, jax.P(*axes)) for axes in (("batch",), ()))
    rng = np.random.default_rng(0)
    x, w = (
        rng.standard_normal((16, 8, 8, 32), np.float32),
        rng.standard_normal((taps, taps, 32, 32), np.float32),
    )

    # none that depends on y, whose rounding it would carry on
    dy = rng.standard_normal((16, 8, 8, 32), np.float32)

    def gradients(x, w, dy):
        _, saved = ops.conv.run(x, w)
        return ops.conv.pull(saved, dy)

    program = (
        jax.jit(gradients, in_shardings=(cut, whole, cut), out_shardings=(cut, whole))
        .lower(x, w, dy)
        .compile()
    )
    text = str(program.as_text())
    assert "all-gather" not in text
    assert text.count(" all-reduce(") + text.count(" all-reduce-start(") == 1
    got = program(jax.device_put(x, cut), jax.device_put(w, whole), jax.device_put(dy, cut))
    for mine, alone in zip(got, jax.jit(gradients)(x, w, dy), strict=True):
        np.testing.assert_allclose(mine, alone, atol=2e-6 * float(jnp.abs(alone).max()))


# Beside the cases of the ops, as a named kernel takes no batch that a mesh cuts up, and none of
# unknown length
NAMED = [
    (ops.conv, (2, 5, 4, 2), (3, 2, 2, 3), {"stride": 2, "implementation": "im2col"}),
    (ops.conv, (2, 5, 4, 2), (3, 3, 2, 3), {"flip": True, "implementation": "winograd"}),
    (ops.conv, (2, 5, 4, 2), (3, 2, 1, 4), {"groups": 2, "implementation": "depthwise"}),
    (ops.conv_transpose, (2, 3, 4, 2), (3, 3, 2, 2), {"stride": 2, "implementation": "im2col"}),
    (ops.conv_transpose, (2, 5, 4, 2), (5, 5, 3, 2), {"implementation": "winograd"}),
    (ops.conv_transpose, (2, 3, 3, 2), (2, 2, 1, 2), {"groups": 2, "implementation": "depthwise"}),
]


@pytest.mark.parametrize(("op", "x_shape", "w_shape", "settings"), NAMED)
def test_a_named_kernel_computes_what_xla_does(op, x_shape, w_shape, settings, x64):
    """Value and gradients, alone, compiled, mapped and in a loop."""
    rng = np.random.default_rng(0)
    x, w = jnp.asarray(rng.normal(size=x_shape)), jnp.asarray(rng.normal(size=w_shape))
    dy = jnp.asarray(rng.normal(size=op(x, w, **settings).shape))

    def both(x, w, **settings):
        y, pull = jax.vjp(lambda x, w: op(x, w, **settings), x, w)
        return y, *pull(dy)

    def own(x, w):
        return both(x, w, **settings)

    want = both(x, w, **{**settings, "implementation": "xla"})
    many = jnp.stack([x, x])
    found = [
        own(x, w),
        jax.jit(own)(x, w),
        jax.tree.map(lambda a: a[1], jax.vmap(own, (0, None))(many, w)),
        jax.tree.map(lambda a: a[1], jax.lax.map(lambda x: own(x, w), many)),
    ]
    for got in found:
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dilation", [1, 2])  # Winograd, im2col
def test_a_fast_kernel_has_a_second_derivative(dilation):
    """In reverse over reverse: what guards a result is out of the derivative's way."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(8, 6, 6, 32)), jnp.float32)
    w = jnp.asarray(rng.normal(size=(3, 3, 32, 32)), jnp.float32)

    def second(**settings):
        def first(w):
            return jax.grad(lambda w: jnp.sin(ops.conv(x, w, dilation=dilation, **settings)).sum())(
                w
            )

        return jax.jit(jax.grad(lambda w: (first(w) ** 2).sum()))(w)

    own, want = second(), second(implementation="xla")
    np.testing.assert_allclose(own, want, rtol=1e-3, atol=1e-4 * float(jnp.abs(want).max()))
