"""What a run that goes on is given by others: checkpoints, the state of a stream, another process,
words on the command line. It is taken as it was meant, or refused in one line."""

import contextlib
import gc
import json
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import mutated, mutated_json
from test_fuzz_readers import COMMON, check_line

from jaxcnn import models, train
from jaxcnn._io.command import InputError
from jaxcnn.data import Stream
from jaxcnn.plan._chips import slice_of
from jaxcnn.plan._command import parse_image, parse_mesh
from jaxcnn.runs._config import Config, as_flags, settings_of
from jaxcnn.runs._connection import Connection
from jaxcnn.runs._flags import read_flags
from jaxcnn.train._checkpoint import LATER, CheckpointError, Checkpoints
from jaxcnn.train._digests import LIST, write_digests
from jaxcnn.train._hush import STILL, hush
from jaxcnn.verify._commands import arguments

FEW = [12, pytest.param(200, marks=pytest.mark.slow)]
COUNTS = [100, pytest.param(3000, marks=pytest.mark.slow)]


def state() -> train.TrainState:
    return train.create(
        train.Recipe(models.mlp((3, 2)), optimizer=optax.sgd(0.01)), jax.random.key(0), (2,)
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    with Checkpoints(folder, also=lambda: {"step": 3}, about={"model": "mlp"}) as checkpoints:
        checkpoints.save(3, state())
    return folder


@pytest.mark.parametrize("count", FEW)
@pytest.mark.parametrize("summed", [False, True], ids=["damaged", "forged"])
def test_a_checkpoint(summed: bool, count: int, written: Path, tmp_path: Path) -> None:
    """A forged one has the sums of what is in it, so that all that reads it sees the damage."""
    folder, like = tmp_path / "copy", state()
    names = sorted(
        path.relative_to(written)
        for path in written.rglob("*")
        if path.is_file() and path.name != LIST
    )
    assert len(names) > 5

    @settings(max_examples=count, **COMMON)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(names))
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(written, folder)
        (folder / name).write_bytes(data.draw(mutated((written / name).read_bytes())))
        if summed:
            (folder / "3" / LIST).unlink()
            write_digests(folder / "3", later=LATER)
        try:
            with Checkpoints(folder, about={"model": "mlp"}) as checkpoints:
                found, also = checkpoints.restore(like), checkpoints.kept_with(3)
        except CheckpointError as error:
            return check_line(error, CheckpointError, folder.name)
        assert isinstance(also, dict)
        for mine, its in zip(jax.tree.leaves(like), jax.tree.leaves(found), strict=True):
            assert (mine.shape, mine.dtype) == (its.shape, its.dtype)
            assert summed or np.array_equal(mine, its)
        return None

    with hush():  # as threads of tensorstore may be at it still when a forged one has been refused
        holds()
        gc.collect()
        time.sleep(STILL)


@pytest.mark.parametrize("count", COUNTS)
def test_the_state_of_a_stream(count: int) -> None:
    stream = Stream((np.arange(12.0).reshape(12, 1), np.arange(12) % 2), 4, seed=0, threads=0)
    next(stream)
    text = json.dumps(stream.get_state())

    @settings(max_examples=count, **COMMON)
    @given(mutated_json(text).map(json.loads).filter(lambda changed: isinstance(changed, dict)))
    def holds(changed: Any) -> None:
        try:
            stream.set_state(changed)
        except ValueError as error:
            check_line(error, ValueError, "Stream")
        else:
            assert next(stream)[0].shape == (4, 1)

    holds()
    stream.close()


@pytest.mark.parametrize("count", COUNTS)
def test_what_another_process_says(count: int) -> None:
    @settings(max_examples=count, **COMMON)
    @given(
        mutated(b'{"jaxcnn": 1, "process": 1, "of": 2, "told": {"--seed": "0"}}\n{"sees": true}\n')
    )
    def holds(said: bytes) -> None:
        other, own = socket.socketpair()
        line = Connection(own)
        with other, contextlib.closing(line):
            other.sendall(said)
            other.shutdown(socket.SHUT_WR)
            heard = [line.hear(1.0) for _ in range(3)]
        assert all(message is None or isinstance(message, dict) for message in heard)

    holds()


WORDS: dict[str, tuple[Callable[[str], Any], str]] = {
    "--shapes": (arguments.parse, "8,28,28,3; int32:8; key; ()"),
    "--image": (parse_image, "32x32x3"),
    "--mesh": (lambda text: parse_mesh(text, 16), "host=4,chip=4"),
    "--topology": (slice_of, "cpu:4"),
}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("option", WORDS)
def test_a_word_on_the_command_line(option: str, count: int) -> None:
    read, good = WORDS[option]
    assert read(good)

    @settings(max_examples=count, **COMMON)
    @given(
        mutated(good.encode()).map(lambda content: content.decode(errors="surrogateescape"))
        | st.text()
    )
    def holds(text: str) -> None:
        with contextlib.suppress(ValueError):  # of which the command makes an InputError
            assert isinstance(read(text), tuple | list | dict)

    holds()


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_settings_of_a_file_as_flags(
    count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a file of settings may hold is, as flags, the settings that it holds, or is refused in
    words."""
    path = tmp_path / "a.json"

    @settings(max_examples=count, **COMMON)
    @given(mutated_json(Config(model="mlp", augment=("crop", "flip"), image_size=(8, 8)).text()))
    def holds(text: str) -> None:
        path.write_text(text)
        try:
            said = settings_of(path)
            found = read_flags(Config, as_flags(said), "train")
            found.check()
        except InputError as error:
            check_line(error, InputError, "")
        except SystemExit:
            assert "Traceback" not in capsys.readouterr().err
        else:
            kept = json.loads(found.text())
            assert {name: kept[name] for name in said} == said

    holds()
