"""Augmented images beside loops over pixels; the same on one device and on eight."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxcnn.data.augment import crop, cutout, flip, in_turn, warp

KEY = jax.random.key(3)
RNG = np.random.default_rng(1)
BYTES = RNG.integers(0, 256, (40, 7, 9, 2)).astype(np.uint8)
IMAGES = [BYTES, BYTES.astype(np.float32)]
X = np.random.default_rng(0).normal(size=(3, 7, 9, 2)).astype(np.float32)


def by_hand(x: np.ndarray, shift: float, degrees: float, zoom: float, fill: float) -> np.ndarray:
    """Each pixel read where the turned, resized and moved grid falls, between its four
    neighbours."""
    keys = jax.random.split(KEY, 3)
    n, h, w, _ = x.shape
    angle = np.radians(degrees) * np.asarray(jax.random.uniform(keys[0], (n,), minval=-1, maxval=1))
    size = 1 + zoom * np.asarray(jax.random.uniform(keys[1], (n,), minval=-1, maxval=1))
    move = shift * np.asarray(jax.random.uniform(keys[2], (n, 2), minval=-1, maxval=1))
    out = np.zeros(x.shape)
    for i, row, column in np.ndindex(n, h, w):
        turned = np.array(
            [[np.cos(angle[i]), -np.sin(angle[i])], [np.sin(angle[i]), np.cos(angle[i])]]
        )
        middle = np.array([(h - 1) / 2, (w - 1) / 2])
        at = turned @ (np.array([row, column]) - middle) / size[i] + middle + move[i]
        low = np.floor(at).astype(int)
        for corner in np.ndindex(2, 2):
            weight = np.prod(np.where(corner, at - low, 1 - (at - low)))
            r, s = low + corner
            out[i, row, column] += weight * (x[i, r, s] if 0 <= r < h and 0 <= s < w else fill)
    return out


@pytest.mark.parametrize(
    "settings",
    [(2.0, 0.0, 0.0, 0.0), (0.0, 40.0, 0.0, 1.0), (0.0, 0.0, 0.5, 0.0), (1.5, 20.0, 0.2, -0.5)],
)
def test_warp_is_its_definition(settings: Any) -> None:
    got = warp(
        KEY,
        jnp.asarray(X),
        shift=settings[0],
        degrees=settings[1],
        zoom=settings[2],
        fill=settings[3],
    )
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
        (
            {"x": jnp.zeros((2, 3))},
            r"setting `x` must be a batch of images \(n, h, w, c\), got \(2, 3\)",
        ),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {"x": jnp.asarray(X)} | settings
    with pytest.raises(ValueError, match=words):
        warp(KEY, **given)


@pytest.mark.parametrize("x", IMAGES, ids=lambda x: str(x.dtype))
@pytest.mark.parametrize("pad", [1, 3])
def test_crop_is_each_image_moved_by_whole_pixels(x: Any, pad: int) -> None:
    got = np.asarray(jax.jit(functools.partial(crop, pad=pad, fill=7))(KEY, jnp.asarray(x)))
    padded = np.pad(np.asarray(x), ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=7)
    places = list(np.ndindex(2 * pad + 1, 2 * pad + 1))
    seen = [
        [at for at in places if (padded[i, at[0] : at[0] + 7, at[1] : at[1] + 9] == got[i]).all()]
        for i in range(40)
    ]
    assert all(len(found) == 1 for found in seen)
    for axis in range(2):  # every move occurs, down and across for itself
        assert {found[0][axis] for found in seen} == set(range(2 * pad + 1))
    assert got.dtype == x.dtype
    assert len({found[0] for found in seen}) > 2 * pad + 1


@pytest.mark.parametrize("x", IMAGES, ids=lambda x: str(x.dtype))
def test_flip_mirrors_about_half_of_the_images(x: Any) -> None:
    got = np.asarray(jax.jit(flip)(KEY, jnp.asarray(x)))
    mirrored = [(got[i] == np.asarray(x)[i, :, ::-1]).all() for i in range(40)]
    as_it_was = [(got[i] == np.asarray(x)[i]).all() for i in range(40)]
    assert all(a != b for a, b in zip(mirrored, as_it_was, strict=True))
    assert 10 <= sum(mirrored) <= 30
    assert got.dtype == x.dtype


@pytest.mark.parametrize("x", IMAGES, ids=lambda x: str(x.dtype))
@pytest.mark.parametrize("size", [4, 5, 30])
def test_cutout_is_a_square_about_a_pixel_cut_at_the_borders(x: Any, size: int) -> None:
    x = np.asarray(x) // np.asarray(2, x.dtype)  # so that nothing is 200 before
    got = np.asarray(jax.jit(functools.partial(cutout, size=size, fill=200))(KEY, jnp.asarray(x)))
    middles = set()
    for before, after in zip(x, got, strict=True):
        found = []
        for row, column in np.ndindex(7, 9):
            expected = before.copy()
            top, left = row - size // 2, column - size // 2
            expected[max(top, 0) : top + size, max(left, 0) : left + size] = 200
            if (expected == after).all():
                found.append((row, column))
        assert found
        middles.add(found[0])
    assert got.dtype == x.dtype
    assert size == 30 or len(middles) > 5


def test_each_in_turn_has_a_key_of_its_own() -> None:
    x, keys = jnp.asarray(BYTES), [jax.random.fold_in(KEY, number) for number in range(3)]
    small = functools.partial(cutout, size=3)
    by_hand = jax.jit(lambda x: small(keys[2], flip(keys[1], crop(keys[0], x))))
    np.testing.assert_array_equal(jax.jit(in_turn(crop, flip, small))(KEY, x), by_hand(x))
    np.testing.assert_array_equal(in_turn()(KEY, x), x)


@pytest.mark.parametrize(
    ("augment", "kind"),
    [
        (in_turn(crop, flip, cutout), AxisType.Auto),
        (in_turn(crop, flip, cutout), AxisType.Explicit),
        # and not Explicit: vmap does not mix arrays that are spread with some that are not
        (warp, AxisType.Auto),
    ],
)
def test_devices_change_nothing_and_exchange_nothing(augment: Any, kind: AxisType) -> None:
    expected = jax.jit(augment)(KEY, jnp.asarray(BYTES))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        x = jax.device_put(BYTES, NamedSharding(mesh, PartitionSpec("data")))
        program = jax.jit(augment).lower(KEY, x).compile()
        np.testing.assert_array_equal(program(KEY, x), expected)
    text = str(program.as_text())
    assert "ENTRY" in text
    assert not [
        word for word in ("all-gather", "all-reduce", "all-to-all", "permute") if word in text
    ]


@pytest.mark.parametrize(
    ("augment", "settings", "words"),
    [
        (crop, {"pad": 0}, "crop: setting `pad` must be an integer ≥ 1, got 0"),
        (crop, {"fill": 256}, "crop: setting `fill` must be a number that uint8 can hold, got 256"),
        (crop, {"fill": 0.5}, "crop: setting `fill` must be a number that uint8 can hold, got 0.5"),
        (
            crop,
            {"x": BYTES[0]},
            r"crop: setting `x` must be a batch of images \(n, h, w, c\), got \(7, 9, 2\)",
        ),
        (cutout, {"size": True}, "cutout: setting `size` must be an integer ≥ 1, got True"),
        (
            cutout,
            {"fill": float("nan")},
            "cutout: setting `fill` must be a number that uint8 can hold, got nan",
        ),
        (cutout, {"x": BYTES[0]}, "cutout: setting `x` must be a batch of images"),
        (flip, {"x": BYTES[0]}, "flip: setting `x` must be a batch of images"),
    ],
)
def test_what_no_augmentation_can_do_is_refused(
    augment: Any, settings: dict[str, Any], words: str
) -> None:
    given: dict[str, Any] = {"x": BYTES} | settings
    with pytest.raises(ValueError, match=words):
        augment(KEY, jnp.asarray(given.pop("x")), **given)
