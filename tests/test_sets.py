"""Data sets by name: found, fetched, checked; archives are read and never unpacked."""

import dataclasses
import functools
import gc
import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pooch
import pytest
from idx_files import write_folder

from jaxcnn.data import DataError, DataNotFoundError, load_cifar10, load_set
from jaxcnn.data import _sets as sets
from jaxcnn.data._cifar import ARCHIVE, RECORD, TEST, TRAIN

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
RNG = np.random.default_rng(0)


def records(count: int = 4) -> bytes:
    """So many images of CIFAR-10."""
    content = RNG.integers(0, 256, (count, RECORD)).astype(np.uint8)
    content[:, 0] = np.arange(count) % 10
    return content.tobytes()


def write_cifar(folder: Path, **others: bytes) -> dict[str, bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    content = {name: others.get(name.removesuffix(".bin"), records()) for name in (*TRAIN, *TEST)}
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return content


def archive(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_cifar_from_a_folder(tmp_path: Path) -> None:
    content = write_cifar(tmp_path / "cifar-10-batches-bin")
    data = load_cifar10(tmp_path)
    assert (data.train_images.shape, data.test_images.shape, data.classes) == (
        (20, 32, 32, 3),
        (4, 32, 32, 3),
        10,
    )
    first = np.frombuffer(content["data_batch_1.bin"], np.uint8)[:RECORD]
    assert data.train_labels[0] == first[0]
    for channel in range(3):
        np.testing.assert_array_equal(
            data.train_images[0, :, :, channel], first[1:].reshape(3, 32, 32)[channel]
        )


def test_cifar_from_its_archive_whose_paths_have_no_effect(tmp_path: Path) -> None:
    inside = {f"../../evil/{name}": records() for name in (*TRAIN, *TEST)}
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    archive(folder / ARCHIVE, {**inside, "../../outside.txt": b"no", "/absolute.txt": b"no"})
    data = load_cifar10(folder)
    assert data.train_images.shape == (20, 32, 32, 3)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", ARCHIVE]


@pytest.mark.parametrize(
    ("others", "words"),
    [
        (
            {"data_batch_3": b""},
            "data_batch_3.bin: not CIFAR-10, or cut short; expected records of 3073 bytes, got 0",
        ),
        ({"test_batch": records()[:-1]}, "test_batch.bin: not CIFAR-10, or cut short"),
        (
            {"data_batch_1": bytes([10]) + bytes(RECORD - 1)},
            "data_batch_1.bin: has label 10; those of CIFAR-10 end at 9",
        ),
    ],
)
def test_damaged_files_are_named(others: dict[str, bytes], words: str, tmp_path: Path) -> None:
    write_cifar(tmp_path, **others)
    with pytest.raises(DataError, match=words):
        load_cifar10(tmp_path)


def test_missing_and_damaged_cifar(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=r"no CIFAR-10; looked for test_batch\.bin"):
        load_cifar10(tmp_path)
    write_cifar(tmp_path / "some")
    (tmp_path / "some" / "data_batch_4.bin").unlink()
    with pytest.raises(DataNotFoundError, match=r"data_batch_4\.bin: there is no such file"):
        load_cifar10(tmp_path / "some")
    archive(tmp_path / ARCHIVE, {"x/data_batch_1.bin": records()})
    with pytest.raises(DataNotFoundError, match=r"the archive lacks data_batch_2\.bin"):
        load_cifar10(tmp_path)
    whole = (tmp_path / ARCHIVE).read_bytes()
    (tmp_path / ARCHIVE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="damaged archive"):
        load_cifar10(tmp_path)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is MNIST's home on the net, and an empty cache."""
    folder = write_folder(tmp_path / "published", suffix=".gz")
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in sets.IDX}
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))
    ) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        monkeypatch.setitem(
            sets.SETS, "mnist", dataclasses.replace(sets.SETS["mnist"], url=url, files=sums)
        )
        monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
        monkeypatch.delenv(sets.FOLDER, raising=False)
        yield folder
        server.shutdown()
        thread.join()
    gc.collect()  # pooch leaves the connection of a failed request to the garbage collector


def test_a_set_is_fetched_once(published: Path, tmp_path: Path) -> None:
    data = load_set("mnist")
    assert data.name == "mnist"
    assert len(data.train_images) == 200
    for path in published.iterdir():
        path.unlink()
    np.testing.assert_array_equal(load_set("mnist").train_images, data.train_images)


def test_what_is_not_what_was_published_is_not_used(published: Path, tmp_path: Path) -> None:
    path = published / sets.IDX[2]
    path.write_bytes(path.read_bytes()[:-7])  # a download that broke off, or another file
    with pytest.raises(
        DataError, match=r"t10k-images-idx3-ubyte.gz is not what its authors published"
    ):
        load_set("mnist")
    assert not (tmp_path / "cache" / "jaxcnn" / "mnist" / sets.IDX[2]).exists()


def test_without_a_net_it_says_which_file_to_put_where(published: Path, tmp_path: Path) -> None:
    (published / sets.IDX[1]).unlink()
    where = tmp_path / "cache" / "jaxcnn" / "mnist"
    with pytest.raises(DataNotFoundError) as caught:
        load_set("mnist")
    assert "train-labels-idx1-ubyte.gz cannot be fetched (404" in str(caught.value)
    assert (
        f"put {', '.join(sets.IDX)} into {where}, or into a folder mnist of the folder that"
        " JAXCNN_DATA" in str(caught.value)
    )


def test_a_folder_of_ones_own_comes_first(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "own" / "mnist", train=120)
    monkeypatch.setenv(sets.FOLDER, str(tmp_path / "own"))
    assert len(load_set("mnist").train_images) == 120


def test_names_that_are_none() -> None:
    with pytest.raises(
        DataError,
        match="there is no data set `mnst`; there is cifar10, fashion_mnist, kmnist, mnist",
    ):
        load_set("mnst")
