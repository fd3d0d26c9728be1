"""What lies where a file should be: pipes, sockets, folders, links. None is waited for, and of a
run's folder nothing is taken that no run wrote."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from readers import MLP, READERS, TOLD, WEIGHTS, Reader
from test_fuzz_readers import numbers, outcome, put

from jaxcnn._io.command import InputError
from jaxcnn._io.sealed import write_sealed
from jaxcnn.runs._config import settings_of
from jaxcnn.runs._folder import KIND, MANIFEST
from jaxcnn.runs._model_file import open_models
from jaxcnn.train._digests import check_digests, write_digests
from jaxcnn.weights._tensors import pack

PATIENCE = 60  # seconds


class HungError(BaseException):
    """No exception that a reader would make a line of."""


@pytest.fixture(autouse=True)
def _not_for_ever() -> Iterator[None]:
    def end(*_: object) -> None:
        raise HungError

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def bound(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # as the name of a socket may have a hundred characters
    try:
        with socket.socket(socket.AF_UNIX) as own:
            own.bind(path.name)
    finally:
        os.chdir(here)


KINDS: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a socket": bound,
    "a folder": os.mkdir,
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to a pipe": lambda path: (os.mkfifo(path.parent / "pipe"), path.symlink_to("pipe")),
}


def placed(reader: Reader, folder: Path) -> Path:
    put(folder, {**reader.beside, reader.name: reader.wrap(reader.content)})
    return folder / reader.name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused(name: str, kind: str, tmp_path: Path) -> None:
    path = placed(READERS[name], tmp_path / "place")
    path.unlink()
    KINDS[kind](path)
    assert outcome(READERS[name], path, "place") is None


@pytest.mark.parametrize("name", READERS)
def test_a_link_to_a_file_is_the_file(name: str, tmp_path: Path) -> None:
    path = placed(READERS[name], tmp_path / "place")
    whole = outcome(READERS[name], path)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    found = outcome(READERS[name], path)
    assert READERS[name].right(found)
    assert not READERS[name].same or numbers(found) == numbers(whole)


def test_settings_come_through_a_pipe_too(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    keep = os.open(tmp_path / "pipe.json", os.O_RDWR)  # so that it is there when the reader comes
    os.write(keep, MLP.text().encode())
    threading.Timer(0.2, os.close, [keep]).start()
    assert settings_of(tmp_path / "pipe.json")["model"] == "mlp"


def test_a_checkpoint_with_a_pipe_for_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "numbers").write_bytes(b"1234")
    write_digests(tmp_path)
    (tmp_path / "numbers").unlink()
    os.mkfifo(tmp_path / "numbers")
    with pytest.raises(
        ValueError, match="numbers: is a pipe or a device; expected what was written there"
    ):
        check_digests(tmp_path)


def test_of_a_folder_with_a_list_only_what_is_on_it_is_used(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "model.safetensors": pack(WEIGHTS, {"jaxcnn": TOLD.decode()}),
            "model_7.safetensors": b"of somebody else",
        },
    )
    with pytest.raises(InputError, match=r"model_7\.safetensors: is not a safetensors file"):
        open_models(tmp_path)
    write_sealed(tmp_path / MANIFEST, KIND, {"written": ["config.json", "model.safetensors"]})
    found = open_models(tmp_path)
    assert len(found.members) == 1
    assert found.probabilities(np.zeros((3, 2, 2), np.uint8)).shape == (1, 3, 2)
    write_sealed(tmp_path / MANIFEST, KIND, {"written": ["config.json"]})
    with pytest.raises(InputError, match="is no run; give the folder of a run, or a model file"):
        open_models(tmp_path)
    (tmp_path / MANIFEST).write_text("{}")
    with pytest.raises(InputError, match=r"manifest\.json: is damaged, or was edited"):
        open_models(tmp_path)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "", ".", "a\0b"])
def test_a_list_with_names_of_files_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    write_sealed(tmp_path / MANIFEST, KIND, {"written": ["config.json", name]})
    with pytest.raises(InputError, match="is no name of a file in that folder"):
        open_models(tmp_path)
