"""Convolution and pooling over drawn geometries: any rank, stride, padding, dilation and grouping
that fits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jax import lax

from every import reference
from jaxcnn import ops
from jaxcnn._core import space
from jaxcnn._core.case import distinct, normal
from jaxcnn._core.window import add_taps, resolve, taps_of
from jaxcnn.ops._conv import space as convolution
from jaxcnn.verify._fuzz.examples import Drawn
from jaxcnn.verify._judge import prove
from jaxcnn.verify._prove import ORACLE
from jaxcnn.verify._subject import Subject

COMMON = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}
FEW = settings(max_examples=2, **COMMON)
MANY = settings(max_examples=150, **COMMON)


@st.composite
def windows(draw, *, dilations=True):
    """(cells, settings): a spatial shape, and a window that fits it."""
    cells, taps, static = space.windows(Drawn(draw), dilations=dilations)
    return cells, {"window": taps, **static}


@st.composite
def convolutions(draw):
    """(shape of x, shape of w, settings)."""
    case = convolution(Drawn(draw))
    x, w = (recipe.shape for recipe in case.inputs if recipe)
    return x, w, dict(case.static)


def check(op, draws, static, seed=0):
    rng = np.random.default_rng(seed)
    args = tuple(jnp.asarray(d.sample(rng, None), "float64") for d in draws)
    subject = Subject(
        functools.partial(op, **static), args, functools.partial(reference(op), **static)
    )
    report = prove(subject, only=ORACLE)
    assert report.ok, str(report)
    return args


def conv_property(case):
    x, w, static = case
    with jax.enable_x64(True):
        x, w = check(ops.conv, (normal(*x), normal(*w)), static)
        spatial = "DHW"[-(x.ndim - 2) :]
        geometry = resolve(
            "conv",
            x.shape[1:-1],
            window=w.shape[:-2],
            **{k: static[k] for k in ("stride", "padding", "dilation")},
        )
        turned = jnp.flip(w, range(w.ndim - 2)) if static["flip"] else w
        theirs = lax.conv_general_dilated(
            x,
            turned,
            geometry.stride,
            geometry.padding,
            rhs_dilation=geometry.dilation,
            feature_group_count=static["groups"],
            dimension_numbers=("N" + spatial + "C", spatial + "IO", "N" + spatial + "C"),
        )
        np.testing.assert_allclose(ops.conv(x, w, **static), theirs, atol=1e-12)


def transpose_property(case):
    """conv_transpose is the input gradient of conv, as a function with a gradient of its own."""
    x, w, static = case
    static = {k: v for k, v in static.items() if k != "flip"}
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, w = (jnp.asarray(rng.standard_normal(shape)) for shape in (x, w))
        y, pull = jax.vjp(lambda x: reference(ops.conv)(x, w, **static), x)
        static["output_size"] = x.shape[1:-1]
        np.testing.assert_allclose(ops.conv_transpose(y, w, **static), pull(y)[0], atol=1e-10)
        check(ops.conv_transpose, (normal(*y.shape), normal(*w.shape)), static)


def pool_property(case, op, has_dilation):
    cells, static = case
    if not has_dilation:
        static = {k: v for k, v in static.items() if k != "dilation"}
    with jax.enable_x64(True):
        check(op, (distinct(2, *cells, 2),), static)


def taps_property(case):
    """⟨taps(x), y⟩ = ⟨x, add(y)⟩: laying back is the adjoint of reading."""
    cells, static = case
    with jax.enable_x64(True):
        window = resolve("taps", cells, **static)
        rng = np.random.default_rng(0)
        x = jnp.asarray(rng.standard_normal((2, *cells, 1)))
        read = dict(taps_of(x, window))
        parts = {tap: jnp.asarray(rng.standard_normal(seen.shape)) for tap, seen in read.items()}
        laid = add_taps(iter(parts.items()), window)
        left = sum(float(jnp.vdot(read[tap], part)) for tap, part in parts.items())
        np.testing.assert_allclose(float(jnp.vdot(x, laid)), left, atol=1e-10)


PROPERTIES = {
    "conv": (convolutions(), conv_property),
    "conv_transpose": (convolutions(), transpose_property),
    "max_pool": (windows(), lambda case: pool_property(case, ops.max_pool, True)),
    "avg_pool": (windows(dilations=False), lambda case: pool_property(case, ops.avg_pool, False)),
    "patches": (windows(), lambda case: pool_property(case, ops.patches, True)),
    "taps": (windows(), taps_property),
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_few(name):
    strategy, body = PROPERTIES[name]
    FEW(given(strategy)(lambda case: body(case)))()


@pytest.mark.slow
@pytest.mark.parametrize("name", PROPERTIES)
def test_many(name):
    strategy, body = PROPERTIES[name]
    MANY(given(strategy)(lambda case: body(case)))()


def test_one_image_and_many_agree(x64):
    x, w = normal(3, 6, 5, 2).sample(np.random.default_rng(0), None), jnp.ones((3, 3, 2, 4))
    many = ops.conv(x, w)
    for i in range(3):
        np.testing.assert_allclose(ops.conv(x[i : i + 1], w)[0], many[i], atol=1e-12)
