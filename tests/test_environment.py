"""Odd values of the environment: right, or one line that names the variable."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from idx_files import write_folder
from test_fuzz_readers import check_line

from jaxcnn._io.outside import UNPACKED, OutsideError, room
from jaxcnn.data import DataError, Dataset, load_set
from jaxcnn.data import _sets as sets


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of sets, which is the working directory and the home, too. Nothing is fetched."""
    write_folder(tmp_path / "mnist", train=120)
    write_folder(tmp_path / "cache", train=60)
    (tmp_path / "file").write_text("no")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sets, "fetch", lambda name: tmp_path / "cache")
    return tmp_path


@pytest.mark.parametrize("told", [".", "PLACE", "~", "PLACE/mnist/..", "./", "PLACE//", "odd\udcff", "a$b[c]", "\x1b[2J", "two\nlines"])  # fmt: skip
def test_a_folder_of_ones_own_whatever_it_is_called(
    told: str, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (own / told).exists() and "PLACE" not in told and told != "~":
        write_folder(own / told / "mnist", train=120)
    monkeypatch.setenv(sets.FOLDER, told.replace("PLACE", str(own)))
    assert len(load_set("mnist").train_images) == 120


@pytest.mark.parametrize("told", [" ", "nowhere", "file", "~nobody-of-this-name", "file/inside", "x" * 4000, "x/" * 2000, "no\udcff", "\x1b[2J", "two\nlines", "$HOME"])  # fmt: skip
def test_what_is_no_folder_is_refused(
    told: str, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(sets.FOLDER, told)
    with pytest.raises(DataError) as caught:
        load_set("mnist")
    check_line(caught.value, DataError, sets.FOLDER)


def test_nothing_is_as_if_it_were_not_set(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sets.FOLDER, "")
    found = load_set("mnist")
    assert isinstance(found, Dataset)
    assert len(found.train_images) == 60


def test_a_set_that_is_a_file_is_refused(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own / "kmnist").write_text("no")
    monkeypatch.setenv(sets.FOLDER, str(own))
    with pytest.raises(DataError, match="kmnist is a file; expected a folder") as caught:
        load_set("kmnist")
    check_line(caught.value, DataError, sets.FOLDER)


@pytest.mark.parametrize(
    "told", [" ", "many", "-1", "1e9", "0x10", "٣", "9" * 20, "1.5", "\udcff", "2\n", "x" * 4000]
)
def test_room_that_is_no_number(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(UNPACKED, told)
    with pytest.raises(OutsideError) as caught:
        room(10)
    check_line(caught.value, OutsideError, UNPACKED)


def test_room_is_raised_and_never_lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    for told, wanted in {
        "": 2**28,
        "0": 2**28,
        "1": 2**28,
        "007": 2**28,
        str(2**40): 2**40,
    }.items():
        monkeypatch.setenv(UNPACKED, told)
        assert room(10) == wanted


def command(*arguments: str, **environment: str) -> tuple[int, str]:
    """The exit status of ``python -m jaxcnn``, and what it says on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "jaxcnn", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=300,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("name", "told", "arguments"),
    [
        ("JAX_ENABLE_X64", "maybe", ["ops"]),
        ("JAX_ENABLE_X64", "maybe", ["predict", "nowhere", "a.png"]),
        ("JAX_PLATFORMS", "abacus", ["eval", "nowhere"]),
        ("JAX_PLATFORMS", "abacus", ["train", "--data", "{0}/cache", "--out", "{0}/run"]),
    ],
)
def test_settings_of_jax_that_it_does_not_take(
    name: str, told: str, arguments: list[str], own: Path
) -> None:
    status, said = command(*(word.format(own) for word in arguments), **{name: told})
    assert status == 2
    assert said.startswith("error: JAX: ")
    assert (name in said, told in said, said.count("\n")) == (True, True, 1)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ("nonsense", "JAX_COORDINATOR_BIND_ADDRESS must be HOST:PORT with a port from 1 to 65535, got nonsense"),
        ("127.0.0.1:٣", "JAX_COORDINATOR_BIND_ADDRESS must be HOST:PORT with a port from 1 to 65535, got 127.0.0.1:٣"),
        ("203.0.113.1:8476", "JAX_COORDINATOR_BIND_ADDRESS=203.0.113.1:8476: cannot listen there (Cannot assign requested address)"),
        ("a..b:8476", "JAX_COORDINATOR_BIND_ADDRESS=a..b:8476: cannot listen there"),
    ],
)  # fmt: skip
def test_an_address_at_which_process_0_cannot_listen(told: str, why: str, own: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        address = f"127.0.0.1:{door.getsockname()[1]}"
    arguments = (
        f"train --data {own}/cache --out {own}/run --coordinator {address} --processes 1"
        " --process 0".split()
    )
    status, said = command(*arguments, JAX_COORDINATOR_BIND_ADDRESS=told)
    assert status == 2
    assert said.startswith(f"error: {why}")
    assert said.count("\n") == 1
    assert not (own / "run").exists()
