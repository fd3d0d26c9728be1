"""The IDX reader: what it accepts, and the message for everything else."""

import gzip
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from idx_files import NAMES, encode, stripes, write_folder, write_idx

from jaxcnn.data import DataError, DataNotFoundError, load_idx_folder, read_idx

LABELS = encode(np.array([3, 1, 2]))


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), (2, 1, 1, 5)])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_an_array_comes_back(tmp_path: Path, shape: tuple[int, ...], suffix: str) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape)
    write_idx(tmp_path / f"file{suffix}", array)
    read = read_idx(tmp_path / f"file{suffix}")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("name", ["plain.gz", "zipped"])
def test_the_content_tells_whether_a_file_is_gzipped(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(LABELS) if name == "zipped" else LABELS)
    assert read_idx(str(tmp_path / name)).tolist() == [3, 1, 2]


def _flipped(content: bytes, index: int) -> bytes:
    return content[:index] + bytes([content[index] ^ 0xFF]) + content[index + 1 :]


_ZIPPED = gzip.compress(encode(np.random.default_rng(0).integers(0, 256, 500)))
_HUGE = bytes([0, 0, 8, 3]) + b"\xff" * 12 + bytes(100)

BAD_FILES = {
    "no bytes": (
        b"",
        (
            "not an IDX file; expected it to start with bytes 00 00 08 and the number of axes, got"
            " no bytes"
        ),
    ),
    "half a magic number": (LABELS[:3], "got 00 00 08"),
    "text": (b"<html>404</html>", "not an IDX file"),
    "no axes": (bytes([0, 0, 8, 0, 0]), "got 00 00 08 00"),
    "too many axes": (bytes([0, 0, 8, 200]) + bytes(800), "got 00 00 08 c8"),
    "floats": (
        bytes([0, 0, 0x0D]) + LABELS[3:],
        "holds elements of type 0x0D (float32), expected 0x08 (unsigned byte)",
    ),
    "unknown type": (bytes([0, 0, 0x77]) + LABELS[3:], "0x77 (unknown)"),
    "cut in the header": (LABELS[:6], "cut short in its header; expected 8 bytes, got 6"),
    "cut in the data": (
        LABELS[:-1],
        "cut short; its header says 3 = 3 bytes of data, got at most 2",
    ),
    "cut, then zipped": (
        gzip.compress(LABELS[:-1]),
        "cut short; its header says 3 = 3 bytes of data, got 2",
    ),
    "one byte more": (LABELS + b"\0", "goes on after the 3 = 3 bytes of data"),
    "one byte more, zipped": (
        gzip.compress(LABELS + b"\0"),
        "goes on after the 3 = 3 bytes of data",
    ),
    "empty": (encode(np.zeros((0, 28, 28))), "empty; its header says 0 × 28 × 28 elements"),
    "zipped, cut": (_ZIPPED[:-20], "damaged gzip data"),
    "zipped, checksum wrong": (_flipped(_ZIPPED, -5), "damaged gzip data"),
    "zipped, stream broken": (_flipped(_ZIPPED, 10), "damaged gzip data"),
    "zipped, header broken": (_flipped(_ZIPPED, 2), "damaged gzip data"),
    "zipped, then other bytes": (_ZIPPED + b"more", "damaged gzip data"),
    "a header that claims too much": (_HUGE, "4294967295 × 4294967295 × 4294967295"),
    "the same, zipped": (gzip.compress(_HUGE), "4294967295 × 4294967295 × 4294967295"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_refused_by_name(tmp_path: Path, case: str) -> None:
    content, message = BAD_FILES[case]
    path = tmp_path / "some-file"
    path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_idx(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_lying_header_costs_no_memory(tmp_path: Path, zipped: bool) -> None:
    content = bytes([0, 0, 8, 1]) + np.array(2**31, ">u4").tobytes() + b"few"
    (tmp_path / "file").write_bytes(gzip.compress(content) if zipped else content)
    tracemalloc.start()
    with pytest.raises(DataError, match="cut short"):
        read_idx(tmp_path / "file")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read_idx(tmp_path / "missing")
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\)"):
        read_idx(tmp_path)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_folder_comes_back(tmp_path: Path, suffix: str) -> None:
    data = load_idx_folder(write_folder(tmp_path / "stripes", train=40, test=12, suffix=suffix))
    images, labels = stripes(40, seed=40)
    np.testing.assert_array_equal(data.train_images, images)
    np.testing.assert_array_equal(data.train_labels, labels)
    assert (data.train_images.dtype, data.train_labels.dtype) == (np.uint8, np.int32)
    assert (data.test_images.shape, data.test_labels.shape) == ((12, 10, 10), (12,))
    assert (data.name, data.classes) == ("stripes", 4)


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name.replace("-idx", ".idx"),
        lambda name: f"emnist-digits-{name.replace('t10k', 'test')}",
        lambda name: f"kmnist-{name}",
    ],
    ids=["dots", "emnist", "prefix"],
)
def test_other_spellings_are_found(tmp_path: Path, rename: Callable[[str], str]) -> None:
    for path in list(write_folder(tmp_path, suffix=".gz").iterdir()):
        path.rename(tmp_path / rename(path.name))
    (tmp_path / "README.md").write_text("not data")
    assert load_idx_folder(tmp_path).classes == 4


def test_labels_may_leave_gaps(tmp_path: Path) -> None:
    write_folder(tmp_path, train=4, test=4)
    for split in ("train", "test"):
        write_idx(tmp_path / NAMES[f"{split} labels"], np.array([1, 26, 1, 26]))
    assert load_idx_folder(tmp_path).classes == 27


def _write(role: str, array: np.ndarray) -> Callable[[Path], object]:
    return lambda folder: write_idx(folder / NAMES[role], array)


def _copy(source: str, target: str) -> Callable[[Path], object]:
    return lambda folder: (folder / target).write_bytes((folder / source).read_bytes())


def _rename_all(folder: Path) -> None:
    for index, name in enumerate(NAMES.values()):
        (folder / name).rename(folder / f"set{index // 2}-{name}")


_IMAGES, _LABELS = NAMES["train images"], NAMES["train labels"]
BAD_FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "images missing": (
        lambda folder: (folder / _IMAGES).unlink(),
        "no train images; looked for train-images-idx3-ubyte[.gz], also with .idx3-ubyte and with a prefix, found t10k-images-idx3-ubyte, ",
    ),
    "test labels missing": (
        lambda folder: (folder / NAMES["test labels"]).unlink(),
        "no test labels; looked for t10k-labels-idx1-ubyte[.gz] or test-labels-idx1-ubyte[.gz]",
    ),
    "two candidates": (_copy(_IMAGES, f"{_IMAGES}.gz"), f"2 files for the train images: {_IMAGES}, {_IMAGES}.gz; keep one"),
    "t10k and test": (_copy(NAMES["test labels"], "test-labels-idx1-ubyte"), "2 files for the test labels"),
    "two prefixes": (_rename_all, "the files have different prefixes: set0-train-images-idx3-ubyte, "),
    "images for labels": (_copy(_IMAGES, _LABELS), "expected labels (1 axis), got an array of shape 200 × 10 × 10, which looks like images"),
    "labels for images": (_copy(_LABELS, _IMAGES), "expected images (3 axes), got an array of shape 200, which looks like labels"),
    "colour images": (_write("train images", np.zeros((200, 10, 10, 3))), "which looks like something else"),
    "labels of another set": (_copy(NAMES["test labels"], _LABELS), "200 train images but 50 train labels"),
    "sizes differ": (_write("test images", np.zeros((50, 9, 10))), "training images are 10 × 10 pixels but test images 9 × 10"),
    "no images": (_write("test images", np.zeros((0, 10, 10))), "empty; its header says 0 × 10 × 10 elements"),
    "one class": (_write("train labels", np.full(200, 3)), "all 200 labels are 3; at least two classes are needed"),
    "new label": (_write("test labels", np.full(50, 4)), "has label 4, but the training labels end at 3"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_a_bad_folder_is_refused(tmp_path: Path, case: str) -> None:
    spoil, message = BAD_FOLDERS[case]
    spoil(write_folder(tmp_path))
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        load_idx_folder(tmp_path)
    assert str(caught.value).startswith(str(tmp_path))
    assert isinstance(caught.value, DataNotFoundError) == ("missing" in case)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        load_idx_folder(tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(
        DataNotFoundError, match="is not a folder; give the folder that holds the four IDX files"
    ):
        load_idx_folder(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataNotFoundError, match="found an empty folder"):
        load_idx_folder(tmp_path / "folder")
