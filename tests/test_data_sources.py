"""Data sets from folders of images, from .npz files, and from whatever is there: what comes back,
and the message for everything else."""

import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from idx_files import write_folder
from PIL import Image

from jaxcnn.data import (
    DataError,
    DataNotFoundError,
    ImageFolder,
    load,
    load_cifar10,
    load_image_folder,
    load_npz,
)
from jaxcnn.data import _sets as sets
from jaxcnn.data._cifar import RECORD, TEST, TRAIN
from jaxcnn.data._pictures import read_image

RNG = np.random.default_rng(0)
GREY, COLOUR = (
    RNG.integers(0, 256, (5, 7)).astype(np.uint8),
    RNG.integers(0, 256, (5, 7, 3)).astype(np.uint8),
)
CLASSES = {
    "train/cat/b.png": GREY,
    "train/cat/a.png": GREY // 2,
    "train/ant/1.png": GREY // 3,
    "test/cat/1.png": GREY,
}


def write(root: Path, files: dict[str, np.ndarray]) -> Path:
    """Images by their names; what the format does with them follows the suffix."""
    for name, pixels in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, lossless=True)
    return root


def test_images_come_in_the_order_of_their_names_and_labels_count_the_classes(
    tmp_path: Path,
) -> None:
    data = load_image_folder(write(tmp_path / "pets", CLASSES))
    assert (data.name, data.names, data.classes) == ("pets", ("ant", "cat"), 2)
    np.testing.assert_array_equal(data.train_images, [GREY // 3, GREY // 2, GREY])
    assert (data.train_images.dtype, data.train_labels.dtype) == (np.uint8, np.int32)
    assert data.train_labels.tolist() == [0, 1, 1]
    assert data.test_labels.tolist() == [1]  # a class may be missing there, which moves no label


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".PNG", ".ppm", ".tiff"])
def test_colour_has_three_channels(tmp_path: Path, suffix: str) -> None:
    data = load_image_folder(
        write(
            tmp_path,
            {f"{split}/{name}/1{suffix}": COLOUR for split in ("train", "test") for name in "ab"},
        )
    )
    np.testing.assert_array_equal(data.train_images, [COLOUR, COLOUR])


def test_one_image_with_colour_makes_all_of_them_colour(tmp_path: Path) -> None:
    data = load_image_folder(write(tmp_path, CLASSES | {"test/ant/9.png": COLOUR}))
    np.testing.assert_array_equal(data.train_images[2], np.stack([GREY] * 3, -1))
    np.testing.assert_array_equal(data.test_images[0], COLOUR)


def test_palettes_and_transparency_become_colour(tmp_path: Path) -> None:
    write(tmp_path, CLASSES)
    palette = Image.fromarray(COLOUR).quantize(256)
    palette.save(tmp_path / "train/ant/1.png", transparency=bytes(256))
    rgba = np.concatenate([COLOUR, np.full((5, 7, 1), 51, np.uint8)], -1)
    Image.fromarray(rgba).save(tmp_path / "train/cat/a.png")
    data = load_image_folder(tmp_path)
    np.testing.assert_array_equal(data.train_images[0], np.full((5, 7, 3), 255))
    on_white = 0.2 * COLOUR + 0.8 * 255
    assert np.abs(data.train_images[1] - on_white).max() <= 1
    data = load_image_folder(tmp_path, background=(0, 100, 0))
    assert np.abs(data.train_images[1] - 0.2 * COLOUR - 0.8 * np.array([0, 100, 0])).max() <= 1
    np.testing.assert_array_equal(data.train_images[0], np.full((5, 7, 3), [0, 100, 0]))


def test_images_are_resized_where_a_size_is_given(tmp_path: Path) -> None:
    write(tmp_path, {**CLASSES, "train/cat/c.png": np.full((20, 30), 70, np.uint8)})
    data = load_image_folder(tmp_path, size=(4, 6))
    assert data.train_images.shape == (4, 4, 6)
    assert np.unique(data.train_images[3]).tolist() == [70]


def test_hidden_and_other_files_are_passed_over_and_links_are_followed(tmp_path: Path) -> None:
    write(tmp_path / "set", CLASSES)
    write(tmp_path / "elsewhere", {"x.png": GREY // 5})
    (tmp_path / "set/train/cat/.hidden.png").write_bytes(b"no")
    (tmp_path / "set/train/cat/Thumbs.db").write_bytes(b"no")
    (tmp_path / "set/train/.git").mkdir()
    (tmp_path / "set/train/README.txt").write_text("no")
    os.symlink(tmp_path / "elsewhere/x.png", tmp_path / "set/train/cat/z.png")
    data = load_image_folder(tmp_path / "set")
    assert len(data.train_images) == 4
    np.testing.assert_array_equal(data.train_images[3], GREY // 5)


def test_a_folder_to_test_with_has_the_labels_of_the_one_to_train_on(tmp_path: Path) -> None:
    write(tmp_path, CLASSES)
    train = ImageFolder(tmp_path / "train", size=(2, 3))
    image, label = ImageFolder(tmp_path / "test", like=train)[0]
    assert (image.shape, label, len(train)) == ((2, 3, 3), 1, 3)
    assert ImageFolder(tmp_path / "train", grey=True)[np.int64(-1)][0].shape == (5, 7)


def test_what_is_left_out_is_listed_with_its_reason(tmp_path: Path) -> None:
    write(tmp_path, CLASSES)
    write(tmp_path, {"train/cat/deep/er/c.png": GREY // 7, "test/dog/1.png": GREY})
    for name, content in {
        "train/cat/.hidden.png": b"no",
        "train/cat/Thumbs.db": b"no",
        "train/cat/notes": b"no",
        "train/README.txt": b"no",
        "train/cat/phone.HEIC": b"no",
        "train/cat/broken.jpg": b"no",
    }.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "train/empty").mkdir()
    os.symlink(tmp_path / "train/cat", tmp_path / "train/cat/deep/again")
    write(tmp_path, {"train/ant/unnamed.png": GREY // 9})
    os.rename(tmp_path / "train/ant/unnamed.png", tmp_path / "train/ant/unnamed")
    data = load_image_folder(tmp_path, skip_bad=True)
    reasons = {os.path.relpath(path, tmp_path): why for path, why in data.left_out}
    assert reasons == {
        "train/cat/.hidden.png": "hidden",
        "train/cat/Thumbs.db": "not a picture by its name (.db)",
        "train/cat/notes": "not a picture, and without an ending",
        "train/README.txt": "in no class",
        "train/cat/phone.HEIC": "HEIC, which needs a plugin (pip install pillow-heif)",
        "train/cat/broken.jpg": "damaged or too large",
        "train/empty": "a class without pictures",
        "train/cat/deep/again": "a folder that is there already",
        "test/dog/1.png": "of a class that there is none of to train on",
    }
    assert data.names == ("ant", "cat")
    assert data.train_labels.tolist() == [0, 0, 1, 1, 1]
    np.testing.assert_array_equal(data.train_images[1], GREY // 9)
    np.testing.assert_array_equal(data.train_images[4], GREY // 7)


def test_sixteen_bits_count_by_their_upper_half(tmp_path: Path) -> None:
    data = load_image_folder(write(tmp_path, {**CLASSES, "train/cat/a.png": DEEP}))
    np.testing.assert_array_equal(data.train_images[1], DEEP >> 8)
    transparent = Image.fromarray(np.stack([GREY, np.full_like(GREY, 255)], -1), "LA")
    transparent.save(tmp_path / "train/cat/a.png")
    np.testing.assert_array_equal(load_image_folder(tmp_path).train_images[1], GREY)


def test_cmyk_and_every_suffix_that_is_decoded(tmp_path: Path) -> None:
    write(tmp_path, CLASSES)
    flat = np.full((5, 7, 3), 90, np.uint8)
    for number, (suffix, form) in enumerate(
        {
            ".jfif": "JPEG",
            ".jpe": "JPEG",
            ".webp": "WEBP",
            ".dib": "DIB",
            ".jp2": "JPEG2000",
            ".tga": "TGA",
            ".pcx": "PCX",
            ".qoi": "QOI",
            ".avif": "AVIF",
        }.items()
    ):
        Image.fromarray(flat).save(tmp_path / f"train/ant/{number + 2}{suffix}", form)
    Image.fromarray(flat).convert("CMYK").save(tmp_path / "train/ant/99.jpg")
    data = load_image_folder(tmp_path)
    assert data.left_out == ()
    assert (data.train_labels == 0).sum() == 11
    assert np.abs(data.train_images[1:11].astype(int) - 90).max() <= 3


@pytest.mark.parametrize("way", range(1, 9))
def test_photographs_are_turned_as_their_exif_says(tmp_path: Path, way: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = way
    Image.fromarray(COLOUR).save(tmp_path / "a.png", exif=exif)
    turned = {
        1: COLOUR,
        2: COLOUR[:, ::-1],
        3: COLOUR[::-1, ::-1],
        4: COLOUR[::-1],
        5: COLOUR.transpose(1, 0, 2),
        6: COLOUR[::-1].transpose(1, 0, 2),
        7: COLOUR[::-1, ::-1].transpose(1, 0, 2),
        8: COLOUR.transpose(1, 0, 2)[::-1],
    }
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), turned[way])


def test_a_size_is_got_in_three_ways(tmp_path: Path) -> None:
    wide = np.zeros((4, 8), np.uint8)
    wide[:, 4:] = 200
    Image.fromarray(wide).save(tmp_path / "a.png")

    def read(fit: Any) -> np.ndarray:
        path, ground = tmp_path / "a.png", (9, 9, 9)
        return read_image(path, size=(4, 4), grey=True, fit=fit, background=ground).astype(int)

    np.testing.assert_array_equal(read("crop"), wide[:, 2:6])
    ends = np.array([0, 200])
    assert np.abs(read("stretch")[:, [0, 3]] - ends).max() <= 4  # Pillow's cubic goes beyond them
    padded = read("pad")
    assert padded[[0, 3]].tolist() == [[9] * 4] * 2
    assert np.abs(padded[1:3, [0, 3]] - ends).max() <= 4


def _add(name: str, pixels: np.ndarray) -> Callable[[Path], object]:
    return lambda root: write(root, {name: pixels})


def _put(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes(content)


def _remove(name: str) -> Callable[[Path], object]:
    return lambda root: os.rename(root / name, root / "elsewhere")


def _cut(root: Path) -> None:
    write(root, {"train/cat/c.png": RNG.integers(0, 256, (60, 70)).astype(np.uint8)})
    content = (root / "train/cat/c.png").read_bytes()
    (root / "train/cat/c.png").write_bytes(content[: len(content) // 2])


DEEP = (np.arange(35, dtype=np.uint16) * 900).reshape(5, 7)
BAD_FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no test": (_remove("test"), "test: there is no such folder; expected"),
    "one class": (_remove("train/ant"), "train: expected a folder of pictures for each of at least two classes, found one, cat"),
    "no class": (lambda root: [os.rename(root / f"train/{name}", root / name) for name in ("ant", "cat")], "two classes, found none"),
    "a class without images": (_remove("train/ant/1.png"), "train: expected a folder of pictures for each of at least two classes, found one, cat"),
    "nothing to test with": (_remove("test/cat"), "test: no pictures; looked for CLASS/IMAGE"),
    "another size": (_add("train/cat/b.png", GREY[:4]), "train/cat/b.png: is 4 × 7 pixels but {root}/train/ant/1.png is 5 × 7; give `size`"),
    "another size to test with": (_add("test/cat/1.png", GREY[:, :3]), "test/cat/1.png: is 5 × 3 pixels but {root}/train/ant/1.png is 5 × 7"),
    "cut short": (_cut, "train/cat/c.png: damaged, or not an image of PNG"),
    "no image": (_put("train/cat/a.png", b"<html>404</html>"), "train/cat/a.png: damaged, or not an image of PNG"),
    "an empty file": (_put("test/cat/1.png", b""), "test/cat/1.png: damaged, or not an image"),
    "a program for a printer": (_put("train/cat/a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 7 5\n"), "train/cat/a.png: damaged"),
    "two that are damaged": (lambda root: [(root / f"train/cat/{name}.png").write_bytes(b"no") for name in "ab"], ", and 1 others cannot be used either; mend them, or leave them out (skip_bad, --skip-bad)"),
    "numbers that are no integers": (lambda root: Image.fromarray(DEEP.astype(np.float32)).save(root / "train/cat/c.tiff"), "train/cat/c.tiff: has pixels that are no integers"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_a_bad_folder_is_refused(tmp_path: Path, case: str) -> None:
    spoil, words = BAD_FOLDERS[case]
    spoil(write(tmp_path, CLASSES))
    with pytest.raises(DataError, match=re.escape(words.format(root=tmp_path))) as caught:
        load_image_folder(tmp_path)
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


# by a check of our own, by Pillow's warning, by its error
@pytest.mark.parametrize("most", [30, 20, 10])
def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    write(tmp_path, CLASSES)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
    with pytest.raises(DataError, match=rf"train/ant/1.png: more than {most} pixels when decoded"):
        load_image_folder(tmp_path)


def test_sizes_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="ImageFolder: setting `width` must be an integer ≥ 1, got 0"
    ):
        load_image_folder(write(tmp_path, CLASSES), size=(4, 0))
    with pytest.raises(DataNotFoundError, match="nowhere: there is no such folder"):
        ImageFolder(tmp_path / "nowhere")


IMAGES, LABELS = RNG.integers(0, 256, (6, 4, 5)).astype(np.uint8), np.arange(6) % 3
KERAS = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:3], "y_test": LABELS[:3]}


def npz(path: Path, **arrays: Any) -> Path:
    np.savez_compressed(path, **arrays)
    return path


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"x_train": IMAGES.astype(np.int64)},
        {"x_train": IMAGES / 255},
        {"x_train": (IMAGES / 255).astype(np.float16)},
        {"y_train": LABELS.astype(np.uint8)[:, None]},
        {"more": np.zeros(3)},
    ],
)
def test_arrays_come_back_as_bytes_and_int32(tmp_path: Path, change: dict[str, Any]) -> None:
    data = load_npz(npz(tmp_path / "some.npz", **(KERAS | change)))
    np.testing.assert_array_equal(data.train_images, IMAGES)
    np.testing.assert_array_equal(data.train_labels, LABELS)
    assert (data.name, data.classes, data.train_images.dtype, data.train_labels.dtype) == (
        "some",
        3,
        np.uint8,
        np.int32,
    )


def test_the_plain_names_are_understood_too(tmp_path: Path) -> None:
    names = ("train_images", "train_labels", "test_images", "test_labels")
    colour = {
        name: np.stack([array] * 3, -1) if array.ndim == 3 else array
        for name, array in zip(names, KERAS.values(), strict=True)
    }
    assert load_npz(npz(tmp_path / "a.npz", **colour)).test_images.shape == (3, 4, 5, 3)


BAD_ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "objects": ({"y_train": np.array([{}] * 6)}, "`y_train` cannot be read (Object arrays cannot be loaded when allow_pickle=False)"),
    "NaN": ({"x_test": np.full((3, 4, 5), np.nan)}, "`x_test`: has NaN or infinity"),
    "infinity": ({"x_train": np.where(IMAGES > 3, 0, np.inf)}, "`x_train`: has NaN or infinity"),
    "numbers above 1": ({"x_train": IMAGES.astype(np.float32)}, "`x_train`: has float32 from"),
    "numbers below 0": ({"x_train": -IMAGES.astype(int)}, "expected 0 … 255"),
    "numbers between bytes": ({"x_train": np.full((6, 4, 5), 0.3)}, "`x_train`: has numbers that are no k / 255, as a byte of a pixel is"),
    "truth values": ({"x_train": IMAGES > 3}, "`x_train`: expected numbers, got bool"),
    "rows": ({"x_train": IMAGES[:, 0]}, "`x_train`: expected images (n, h, w) or (n, h, w, c), and at least one, got shape (6, 5)"),
    "channels first": ({"x_train": np.zeros((6, 3, 8, 8))}, "has its channels first in shape (6, 3, 8, 8); save np.moveaxis"),
    "no images": ({"x_test": IMAGES[:0]}, "`x_test`: expected images (n, h, w) or (n, h, w, c), and at least one, got shape (0, 4, 5)"),
    "fractions as labels": ({"y_train": LABELS / 2}, "`y_train`: expected integer labels (n,), got float64 in shape (6,)"),
    "one-hot labels": ({"y_train": np.eye(6, dtype=int)}, "`y_train`: expected integer labels (n,), got int64 in shape (6, 6)"),
    "labels below 0": ({"y_train": LABELS - 1}, "`y_train`: expected labels from 0 to 99999 at most, got -1 to 1"),
    "labels that count something else": ({"y_train": LABELS * 10**9}, "at most, got 0 to 2000000000"),
    "fewer labels": ({"y_train": LABELS[:5]}, "6 train images but 5 train labels"),
    "sizes differ": ({"x_test": IMAGES[:3, :2]}, "training images are 4 × 5 pixels but test images 2 × 5"),
    "one class": ({"y_train": LABELS * 0}, "`y_train`: all 6 labels are 0; at least two classes are needed"),
    "new label": ({"y_test": LABELS[:3] + 1}, "`y_test`: has label 3, but the training labels end at 2"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays_are_refused_by_name(tmp_path: Path, case: str) -> None:
    change, words = BAD_ARRAYS[case]
    path = npz(tmp_path / "some.npz", **(KERAS | change))
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        load_npz(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = npz(tmp_path / "some.npz", **KERAS)
    whole = path.read_bytes()
    for spoilt in (
        whole[: len(whole) // 2],
        b"",
        b"\x80\x04.",
        whole[:100] + bytes(60) + whole[160:],
    ):
        path.write_bytes(spoilt)
        with pytest.raises(DataError, match=r"damaged, or not an \.npz file|cannot be read"):
            load_npz(path)
    header = (
        b"\x93NUMPY\x01\x00v\x00"
        + b"{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999,), }".ljust(117)
        + b"\n"
    )
    with zipfile.ZipFile(path, "w") as file:
        for name in KERAS:
            file.writestr(f"{name}.npy", header)
    with pytest.raises(
        DataError,
        match=(
            r"`x_train` says that it is uint8\[99999999999999\], which is 99999999999999 bytes, but"
            r" it has 0"
        ),
    ):
        load_npz(path)
    np.savez(path, x_train=IMAGES, other=LABELS)
    with pytest.raises(
        DataError,
        match=r"expected the arrays train_images, .* or x_train, .*; found x_train, other",
    ):
        load_npz(path)
    with pytest.raises(
        DataError, match=r"cannot be read \(Is a directory\); expected an \.npz file"
    ):
        load_npz(tmp_path)
    with pytest.raises(DataNotFoundError, match=r"none\.npz: there is no such file"):
        load_npz(tmp_path / "none.npz")


def test_load_finds_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = RNG.integers(0, 10, (4, RECORD)).astype(np.uint8).tobytes()
    (tmp_path / "cifar").mkdir()
    for name in (*TRAIN, *TEST):
        (tmp_path / "cifar" / name).write_bytes(content)
    assert (
        load(tmp_path / "cifar").train_images.shape
        == load_cifar10(tmp_path / "cifar").train_images.shape
    )
    assert load(str(write_folder(tmp_path / "mnist", suffix=".gz"))).name == "mnist"
    assert load(npz(tmp_path / "some.npz", **KERAS)).name == "some"
    assert load(write(tmp_path / "pets", CLASSES)).names == ("ant", "cat")
    monkeypatch.setenv(sets.FOLDER, str(tmp_path))
    monkeypatch.chdir(write_folder(tmp_path / "other" / "mnist", train=120).parent)
    assert (len(load("mnist").train_images), len(load("./mnist").train_images)) == (200, 120)


def test_what_is_no_data_set_is_told_what_would_be_one(tmp_path: Path) -> None:
    with pytest.raises(
        DataNotFoundError,
        match="nowhere: there is no such file or folder, and no set of that name; there is cifar10",
    ):
        load("nowhere")
    (tmp_path / "notes.txt").write_text("no")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(
            DataError,
            match=r"no data set that is known; looked for an \.npz file, a folder with CIFAR-10",
        ):
            load(path)
