"""A few bytes that stand for more than any memory holds are refused before they are unpacked."""

import gzip
import io
import os
import resource
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxcnn._io.command import InputError
from jaxcnn._io.outside import UNPACKED
from jaxcnn.data import DataError, load_cifar10, load_npz, read_idx
from jaxcnn.data._cifar import ARCHIVE, MOST
from jaxcnn.runs._config import settings_of

SIZE = 280_000_000  # more than 256 MiB, the least that may be unpacked to
HEADER = np.array([SIZE], ">u4").tobytes()


@pytest.fixture(autouse=True)
def _in_little_memory() -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10 < 100 << 20


def zeros(into: Any, size: int) -> None:
    """So many, in parts."""
    for _ in range(size // 2**20 + 1):
        into.write(bytes(2**20))


def test_idx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(UNPACKED, raising=False)
    with gzip.open(tmp_path / "a", "wb", 1) as file:
        file.write(bytes([0, 0, 8, 1]) + HEADER)
        zeros(file, SIZE)
    with pytest.raises(DataError, match=rf"a: unpacks to {SIZE} bytes; {UNPACKED}={SIZE} lets it"):
        read_idx(tmp_path / "a")


def test_npz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(UNPACKED, raising=False)
    names = ("x_train.npy", "y_train.npy", "x_test.npy", "y_test.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in names:
            with archive.open(name, "w") as file:
                zeros(file, SIZE if name == names[0] else 1)
    with pytest.raises(
        DataError,
        match=rf"`x_train` unpacks from .* to 28\d,\d+,\d+ bytes; {UNPACKED}=28\d+ lets it",
    ):
        load_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["cifar-10-batches-bin/data_batch_1.bin", "x" * 300, "notes.txt"])
def test_cifar(name: str, tmp_path: Path) -> None:
    with gzip.open(tmp_path / ARCHIVE, "wb", 1) as packed:
        info = tarfile.TarInfo(name)
        info.size = SIZE
        packed.write(info.tobuf(tarfile.GNU_FORMAT))
        zeros(packed, 2**22)
    with pytest.raises(
        DataError, match=rf"{SIZE} bytes is more than CIFAR-10's archive has; fetch it again"
    ):
        load_cifar10(tmp_path)
    assert MOST < SIZE


def test_an_archive_of_many_small_members(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / ARCHIVE, "w:gz") as archive:
        for number in range(200):
            archive.addfile(tarfile.TarInfo(f"{number}.txt"), io.BytesIO())
    with pytest.raises(
        DataError, match=r"`100\.txt` of 0 bytes is more than CIFAR-10's archive has"
    ):
        load_cifar10(tmp_path)


LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}]\n" for a, b in zip("abcdefghij", "bcdefghijk", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS, "line 2: .a stands for what is written elsewhere; write it out"),
        (
            "a: &a {epochs: 3}\n<<: *a\n",
            "line 2: .a stands for what is written elsewhere; write it out",
        ),
        ("- " * 30_000, "is nested too deeply"),
        ("x" * 100_001, "has more than the 100,000 bytes that settings may take"),
        ("epochs: " + "9" * 5000, "expected settings by name"),
    ],
)
def test_settings(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=words):
        settings_of(tmp_path / "a.yaml")


def test_a_file_of_settings_without_an_end() -> None:
    if os.path.exists("/dev/zero"):
        with pytest.raises(InputError, match="/dev/zero: has more than the 100,000 bytes"):
            settings_of(Path("/dev/zero"))
