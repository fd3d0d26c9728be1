"""Three sets: what chooses looks at validation images alone, and the test images are seen once, at
the end."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from run_files import arrays, train, write_npz

from jaxcnn._io.lines import read_lines
from jaxcnn.runs._config import Config
from jaxcnn.runs._dataset_of_run import hold_out, load


def result(run: Path) -> dict[str, Any]:
    return json.loads((run / "result.json").read_text(encoding="utf-8"))


def folder(root: Path, *splits: str) -> Path:
    """The images of :func:`run_files.arrays`, 12 or 4 of each class, as files."""
    everything = arrays()
    for split in splits:
        part = "test" if split == "test" else "train"
        images, labels = everything[f"{part}_images"], everything[f"{part}_labels"]
        for label in range(4):
            where = np.flatnonzero(labels == label)
            for number in where[:12] if split == "train" else where[-4:]:
                path = root / split / f"class {label}" / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(images[number]).save(path)
    return root


def test_a_share_of_each_class_is_held_out_the_same_for_every_seed() -> None:
    labels = np.array([0] * 50 + [1] * 10 + [2] * 2 + [3])
    rest, held = hold_out(labels, 0.2)
    assert np.bincount(labels[held], minlength=4).tolist() == [10, 2, 1, 0]
    assert sorted([*rest, *held]) == list(range(len(labels)))
    np.testing.assert_array_equal(held, hold_out(labels, 0.2)[1])


def test_the_test_images_choose_nothing_and_are_seen_once(tmp_path: Path) -> None:
    """Their labels are wrong here, all of them: who looked at them would stop at once."""
    wrong = (arrays()["test_labels"] + 1) % 4
    data = write_npz(tmp_path / "wrong.npz", test_labels=wrong)
    assert train(data, tmp_path / "run", "--validation", "0.2", "--patience", "3") == 0
    told = result(tmp_path / "run")
    assert told["test_accuracy"] < 0.1
    assert told["validation_accuracy"] > 0.9
    assert len(told["validation_accuracy_by_epoch"]) == 3
    assert "test_accuracy_by_epoch" not in told
    scores = [line["scores"] for line in read_lines(tmp_path / "run/metrics.jsonl") if "scores" in line]  # fmt: skip
    assert [row["accuracy"] for row in scores] == told["validation_accuracy_by_epoch"]
    assert told["steps"] == 3 * (160 // 20)


def test_seeds_are_tested_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_npz(tmp_path / "stripes.npz")
    assert train(data, tmp_path / "run", "--validation", "0.2", "--seeds", "2") == 0
    told = result(tmp_path / "run")
    assert len(told["test_accuracy_by_seed"]) == 2
    assert told["test_accuracy"] == np.mean(told["test_accuracy_by_seed"])
    said = capsys.readouterr().err
    assert "of the 40 validation images are right" in said
    assert "of the 48 test images, seen once" in said


@pytest.mark.parametrize("stream", [False, True])
def test_a_folder_of_validation_images(tmp_path: Path, *, stream: bool) -> None:
    root = folder(tmp_path / "pictures", "train", "test", "validation")
    config = Config(data=str(root), batch_size=4, stream=stream, validation=root / "validation")
    given = load(config)
    assert given.validation is not None
    assert given.watched is given.validation
    assert given.validation[0].shape[1:3] == given.test[0].shape[1:3] == (8, 8)
    assert given.validation[1].tolist() == [label for label in range(4) for _ in range(4)]
    assert sum(given.counts.values()) == 48
    share = load(Config(data=str(root), batch_size=4, stream=stream, validation=0.25))
    assert share.validation is not None
    assert (sum(share.counts.values()), len(share.validation[1])) == (36, 12)
    assert share.mark != given.mark


def test_without_validation_the_test_images_are_watched_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_npz(tmp_path / "stripes.npz")
    assert train(data, tmp_path / "run", "--patience", "2") == 0
    assert "chosen by the test images: --validation 0.1 keeps them apart" in capsys.readouterr().err
    assert "validation_accuracy" not in result(tmp_path / "run")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("1.5", "--validation must be a share between 0 and 1, or a folder, got 1.5"),
        ("0", "--validation must be a share between 0 and 1, or a folder, got 0"),
        ("elsewhere", "--validation elsewhere: a folder goes with --data as a folder of images"),
    ],
)
def test_what_cannot_be_held_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: str, words: str
) -> None:
    data = write_npz(tmp_path / "stripes.npz")
    assert train(data, tmp_path / "run", "--validation", value) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
