"""What happens to a checkpoint on disk is noticed before a number of it is used, and what is not
ours is left alone."""

import os
import random
import shutil
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from jaxcnn import models, train
from jaxcnn.train._checkpoint import CheckpointError, Checkpoints, remove_checkpoints

PATHS = ["lr[0.1]", "a[b", "a*b", "a?b", "a b", "a\\b", "a{1,2}", "$HOME", "~", "%41", "#", "ü", "-x", "a'\"b", os.fsdecode(b"a\xff\xfeb")]  # fmt: skip


def state() -> train.TrainState:
    return train.create(
        train.Recipe(models.mlp((8, 2)), optimizer=optax.adam(0.01)), jax.random.key(0), (6,)
    )


def same(a: train.TrainState, b: train.TrainState) -> bool:
    return all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    with Checkpoints(folder, score="accuracy") as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state(), scores={"accuracy": 0.25 * step})
    return folder


def outcome(folder: Path, like: train.TrainState) -> str:
    """What a run that goes on there finds."""
    try:
        with Checkpoints(folder, score="accuracy") as checkpoints:
            return "the same" if same(checkpoints.restore(like), like) else "other numbers"
    except CheckpointError as error:
        return (
            "refused"
            if "checkpoint 2 " in str(error) and "\n" not in str(error)
            else f"badly told: {error}"
        )


def flip(path: Path, bit: int) -> bytes:
    """Change one bit; what was there before."""
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[bit // 8] ^= 1 << bit % 8
    path.write_bytes(changed)
    return whole


@pytest.mark.parametrize("times", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_every_flipped_bit_is_noticed_or_harmless(
    written: Path, tmp_path: Path, times: int
) -> None:
    folder, chance, like = tmp_path / "copy", random.Random(times), state()
    shutil.copytree(written, folder)
    files = sorted(path for path in (folder / "2").rglob("*") if path.is_file())
    assert len(files) > 10
    for path in files:
        bits = path.stat().st_size * 8
        for bit in chance.sample(range(bits), min(times, bits)):
            whole, name = flip(path, bit), path.relative_to(folder)
            found = outcome(folder, like)
            assert found == "refused" or (
                found == "the same"
                and path.name in ("_CHECKPOINT_METADATA", "commit_success.txt", "digests.json")
            ), (name, bit)
            path.write_bytes(whole)
    assert outcome(folder, like) == "the same"


def test_a_file_that_is_gone_cut_or_swapped_is_noticed(written: Path, tmp_path: Path) -> None:
    like = state()
    for number, path in enumerate(sorted((written / "2" / "state").rglob("*"))):
        if path.is_file():
            for how in ("gone", "cut", "swapped"):
                folder = tmp_path / f"{number}{how}"
                shutil.copytree(written, folder)
                copy = folder / path.relative_to(written)
                if how == "gone":
                    copy.unlink()
                elif how == "cut":
                    copy.write_bytes(copy.read_bytes()[:-1])
                else:
                    copy.write_bytes(copy.read_bytes()[::-1] + b"x")
                assert outcome(folder, like) == "refused", (path, how)


@pytest.mark.parametrize("name", PATHS)
def test_a_path_is_no_pattern(tmp_path: Path, name: str) -> None:
    like = state()
    with Checkpoints(tmp_path / name) as checkpoints:
        checkpoints.save(3, like)
    with Checkpoints(tmp_path / name) as checkpoints:
        assert checkpoints.steps == [3]
        assert same(checkpoints.restore(like), like)
    assert {path.name for path in (tmp_path / name).iterdir()} == {"3"}


def test_what_is_not_ours_is_neither_counted_nor_pruned_nor_removed(tmp_path: Path) -> None:
    like = state()
    for name in ("99", "0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("mine")
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, like)
            checkpoints.wait()
            (
                (tmp_path / str(step) / "state" / "notes.txt").write_text("mine, too")
                if step == 1
                else None
            )
        assert checkpoints.steps == [1, 3]
        with pytest.raises(CheckpointError, match="checkpoint 99 is there already"):
            checkpoints.save(99, like)
    remove_checkpoints(tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"99/notes.txt", "0/notes.txt", "1/state/notes.txt"}


def test_what_is_kept_with_a_checkpoint_comes_back(tmp_path: Path) -> None:
    read = {"step": 0}
    with Checkpoints(tmp_path, also=lambda: read) as checkpoints:
        for read["step"] in (4, 9):
            checkpoints.save(read["step"], state())
    with Checkpoints(tmp_path) as checkpoints:
        assert [checkpoints.kept_with(step) for step in checkpoints.steps] == [
            {"step": 4},
            {"step": 9},
        ]
