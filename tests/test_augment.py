"""Warped images beside a loop over pixels."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn.data.augment import warp

KEY = jax.random.key(3)
X = np.random.default_rng(0).normal(size=(3, 7, 9, 2)).astype(np.float32)


def by_hand(x: np.ndarray, shift: float, degrees: float, zoom: float, fill: float) -> np.ndarray:
    """Each pixel read where the turned, resized and moved grid falls, between its four neighbours."""
    keys = jax.random.split(KEY, 3)
    n, h, w, _ = x.shape
    angle = np.radians(degrees) * np.asarray(jax.random.uniform(keys[0], (n,), minval=-1, maxval=1))
    size = 1 + zoom * np.asarray(jax.random.uniform(keys[1], (n,), minval=-1, maxval=1))
    move = shift * np.asarray(jax.random.uniform(keys[2], (n, 2), minval=-1, maxval=1))
    out = np.zeros(x.shape)
    for i, row, column in np.ndindex(n, h, w):
        turned = np.array([[np.cos(angle[i]), -np.sin(angle[i])], [np.sin(angle[i]), np.cos(angle[i])]])
        middle = np.array([(h - 1) / 2, (w - 1) / 2])
        at = turned @ (np.array([row, column]) - middle) / size[i] + middle + move[i]
        low = np.floor(at).astype(int)
        for corner in np.ndindex(2, 2):
            weight = np.prod(np.where(corner, at - low, 1 - (at - low)))
            r, s = low + corner
            out[i, row, column] += weight * (x[i, r, s] if 0 <= r < h and 0 <= s < w else fill)
    return out


@pytest.mark.parametrize(
    "settings", [(2.0, 0.0, 0.0, 0.0), (0.0, 40.0, 0.0, 1.0), (0.0, 0.0, 0.5, 0.0), (1.5, 20.0, 0.2, -0.5)]
)
def test_warp_is_its_definition(settings: Any) -> None:
    got = warp(KEY, jnp.asarray(X), shift=settings[0], degrees=settings[1], zoom=settings[2], fill=settings[3])
    np.testing.assert_allclose(got, by_hand(X, *settings), atol=2e-5)


def test_every_image_has_a_draw_of_its_own_and_a_key_settles_all() -> None:
    x = jnp.stack([jnp.asarray(X[0])] * 2)
    first, again = warp(KEY, x), warp(KEY, x)
    assert np.abs(first[0] - first[1]).max() > 0.1
    np.testing.assert_array_equal(first, again)


def test_bytes_are_rounded() -> None:
    x = jnp.full((2, 5, 5, 1), 201, jnp.uint8)
    got = warp(KEY, x, shift=0.3, degrees=0.0, zoom=0.0, fill=201.0)
    assert got.dtype == jnp.uint8
    assert np.unique(got).tolist() == [201]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"shift": -1.0}, "setting `shift` must be a number ≥ 0, got -1.0"),
        ({"degrees": float("inf")}, "setting `degrees` must be a number ≥ 0"),
        ({"zoom": 1.0}, r"setting `zoom` must be in \[0, 1\)"),
        ({"x": jnp.zeros((2, 3))}, r"setting `x` must be a batch of images \(n, h, w, c\), got \(2, 3\)"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {"x": jnp.asarray(X)} | settings
    with pytest.raises(ValueError, match=words):
        warp(KEY, **given)
