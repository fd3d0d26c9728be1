"""The experiment through its command line, on a tiny data set: what it writes, what it refuses, how
it is stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from idx_files import NAMES, write_folder, write_idx
from run_files import others

from experiments.command import MNIST_DIR
from experiments.files import clear_folder
from experiments.mnist import pictures
from experiments.mnist.__main__ import main
from experiments.mnist.work import PICTURES
from jaxcnn._io.drawing import save
from jaxcnn._io.files import write_file
from jaxcnn._io.lines import read_lines
from jaxcnn.data import load_idx_folder
from jaxcnn.runs import _watchers
from jaxcnn.train import Report
from jaxcnn.train._draw import learning_curves
from jaxcnn.train._progress import Progress

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 240 + 50 small images in four classes."""
    return write_folder(tmp_path_factory.mktemp("data") / "stripes", train=240)


def _run(data: Path, out: Path, *more: str) -> int:
    usual = ["--data", str(data), "--out", str(out), "--model", "mlp", "--batch-size", "8"]
    return main([*others(usual, more), *more])


def _result(out: Path) -> dict[str, Any]:
    return json.loads((out / "result.json").read_text())


def _lines(out: Path) -> list[dict[str, Any]]:
    return read_lines(out / "metrics.jsonl")


def _assert_pictures(out: Path) -> None:
    for name in ("learning_curves.png", *PICTURES):
        height, width, _ = matplotlib.image.imread(out / name).shape
        assert height > 200
        assert width > 400


def test_a_run_learns_and_leaves_its_results(
    stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "folder"
    assert _run(stripes, out, "--epochs", "4", "--seed", "3") == 0
    result = _result(out)
    known = {"data": "stripes", "classes": 4, "interrupted": False}
    assert {name: result[name] for name in known} == known
    settings = {"epochs": 4, "seed": 3, "model": "mlp", "batch_size": 8, "data": str(stripes)}
    assert {name: result["settings"][name] for name in settings} == settings
    assert result["test_accuracy"] == result["test_accuracy_by_epoch"][-1] > 0.9
    assert len(result["test_accuracy_by_epoch"]) == 4
    assert 0 < result["seconds_compile"] < result["seconds"]
    assert result["parameters"] == 100 * 128 + 128 + 128 * 4 + 4
    lines = _lines(out)
    assert [line["step"] for line in lines] == [30, 60, 90, 120]
    assert [line["scores"]["accuracy"] for line in lines] == result["test_accuracy_by_epoch"]
    assert sum(len(line["losses"]) for line in lines) == result["steps"] == 120
    _assert_pictures(out)
    left = ["config.json", "checkpoints", "learning_curves.png", "model.safetensors", *PICTURES]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["manifest.json", "result.json", "metrics.jsonl", *left]
    )
    printed = capsys.readouterr()
    assert "step 120/120  epoch 4  loss " in printed.err
    right = f"{result['test_accuracy']:.2%} of the 50 test images are right after 4 epochs"
    assert right in printed.err
    assert f"Everything is in {out}" in printed.err
    assert "filters.png, mistakes.png" in printed.out
    assert "Next: " in printed.out


@pytest.mark.slow
def test_two_runs_with_one_seed_are_the_same(stripes: Path, tmp_path: Path) -> None:
    def losses(name: str, seed: str) -> list[float]:
        assert _run(stripes, tmp_path / name, "--epochs", "1", "--seed", seed) == 0
        return [loss for line in _lines(tmp_path / name) for loss in line["losses"]]

    assert losses("a", "0") == losses("b", "0") != losses("c", "1")


REFUSED = {
    "--epochs 0": "--epochs must be an integer ≥ 1, got 0",
    "--epochs -2": "--epochs must be an integer ≥ 1, got -2",
    "--batch-size 0": "--batch-size must be an integer ≥ 1, got 0",
    "--seed -1": "--seed must be an integer in [0, 4294967294], got -1",
    "--learning-rate nan": "--learning-rate must be a number > 0, got nan",
    "--learning-rate inf": "--learning-rate must be a number > 0, got inf",
    "--warmup 1": "--warmup must be a number between 0 and 1, got 1.0",
    "--beta2 1": "--beta2 must be a number in [0, 1), got 1.0",
    "--label-smoothing 1": "--label-smoothing must be a number in [0, 1), got 1.0",
    "--model lenet --dropout 1": "--dropout must be a number in [0, 1), got 1.0",
    "--dropout 0.2": "--dropout has no effect on --model mlp",
    "--batch-size 241": "--batch-size 241 is more than the 240 training images",
    "--data missing": "--data missing: there is no such file or folder",
    "--out {file}": "is a file; give a folder",
    "--out {file}/inside": "cannot be written to (Not a directory); give another folder",
}


@pytest.mark.parametrize("flags", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line(
    stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: str
) -> None:
    (tmp_path / "file").touch()
    assert _run(stripes, tmp_path / "out", *flags.format(file=tmp_path / "file").split()) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert REFUSED[flags] in printed.err
    assert printed.out == ""
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("flags", ["--epochs many", "--epoch 3", "--model vgg16", "stray"])
def test_what_is_no_flag_is_refused_with_status_2(
    stripes: Path, tmp_path: Path, flags: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        _run(stripes, tmp_path, *flags.split())
    assert caught.value.code == 2


def test_settings_are_refused_before_the_data_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(tmp_path / "missing", tmp_path, "--epochs", "0") == 2
    assert "--epochs" in capsys.readouterr().err


def test_images_too_small_for_the_model_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_folder(tmp_path / "data")
    for split, count in (("train", 200), ("test", 50)):
        write_idx(
            folder / NAMES[f"{split} images"],
            np.random.default_rng(0).integers(0, 256, (count, 3, 3)),
        )
    assert _run(folder, tmp_path / "out", "--model", "lenet") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --model lenet does not take images of 3×3 pixels: ")
    assert "(in layer `" in error
    assert error.count("\n") == 1


def test_images_that_are_all_alike_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_idx(write_folder(tmp_path / "data") / NAMES["train images"], np.full((200, 10, 10), 9))
    assert _run(tmp_path / "data", tmp_path / "out") == 2
    assert (
        f"--data {tmp_path / 'data'}: all pixels of all training images are 9"
        in capsys.readouterr().err
    )


def test_a_loss_that_is_not_finite_stops_the_run(
    stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clear_folder(tmp_path, ["result.json"])
    (tmp_path / "result.json").write_text("of an earlier run")
    assert _run(stripes, tmp_path, "--learning-rate", "1e38", "--overwrite") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: fit: the loss is nan in step 1 ")
    assert "try a smaller learning rate" in error
    assert "The train state before that step is in" in error
    assert not (tmp_path / "result.json").exists()


def test_an_interrupted_run_keeps_what_it_has_and_goes_on(
    stripes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Interrupting(Progress):
        def __call__(self, report: Report, state: Any = None) -> None:
            if report.step == 110:
                os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(_watchers, "Progress", Interrupting)
        assert _run(stripes, tmp_path, "--batch-size", "4") == 130  # 60 steps an epoch
    _assert_pictures(tmp_path)
    result, printed = _result(tmp_path), capsys.readouterr()
    assert (result["interrupted"], result["steps"]) == (True, 110)
    assert [result["test_accuracy"]] == result["test_accuracy_by_epoch"]
    assert "Interrupted at step 110 of 360; to go on: python -m jaxcnn train" in printed.err
    before = (tmp_path / "filters.png").read_bytes()
    assert main(["--resume", "--out", str(tmp_path)]) == 0
    assert _result(tmp_path)["steps"] == 360
    assert (tmp_path / "filters.png").read_bytes() != before


def test_a_run_interrupted_in_its_first_epoch_leaves_its_losses(
    stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Progress, "__call__", lambda self, report, state: os.kill(os.getpid(), signal.SIGINT)
    )
    assert _run(stripes, tmp_path, "--batch-size", "4") == 130
    result = _result(tmp_path)
    assert (result["test_accuracy"], result["steps"]) == (None, 50)
    assert result["test_accuracy_by_epoch"] == []
    _assert_pictures(tmp_path)


def test_ctrl_c_stops_a_real_run(stripes: Path, tmp_path: Path) -> None:
    # a shell that runs the tests in the background makes its children deaf to Ctrl-C, hence the
    # first line
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from experiments.mnist.__main__ import main; sys.exit(main())"
    )
    flags = f"--data {stripes} --out {tmp_path} --model mlp --batch-size 8 --epochs 1000000".split()
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", program, *flags],
        cwd=ROOT,
        env=environment,
        stdout=pipe,
        stderr=pipe,
        text=True,
    ) as process:
        try:
            for _ in range(600):
                time.sleep(0.1)
                if (tmp_path / "metrics.jsonl").exists() and len(_lines(tmp_path)) > 5:
                    break
            process.send_signal(signal.SIGINT)
            out, error = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, error
    assert "stopping after these steps, and saving; once more to leave at once\n" in error
    assert "Interrupted at step" in error
    assert "filters.png, mistakes.png" in out
    assert _result(tmp_path)["interrupted"] is True


def test_mistakes_are_the_most_confident_ones() -> None:
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7], [0.8, 0.2], [0.1, 0.9]])
    figure = pictures.mistakes(np.zeros((4, 5, 5), np.uint8), labels, probabilities, ["cat", "dog"])
    assert [ax.get_title() for ax in figure.axes if ax.get_visible()] == [
        "dog → cat\n80.0%",
        "cat → dog\n70.0%",
    ]
    none = pictures.mistakes(
        np.zeros((1, 5, 5), np.uint8), labels[:1], probabilities[:1], ["0", "1"]
    )
    assert none.texts[0].get_text() == "No mistakes on the 1 test images"


@pytest.mark.parametrize("shape", [(3, 3, 1, 5), (25, 3)])
def test_first_layers_of_both_kinds_are_drawn(tmp_path: Path, shape: tuple[int, ...]) -> None:
    kernel = np.random.default_rng(0).normal(size=shape)
    save(pictures.filters(kernel, (5, 5)), tmp_path / "filters.png")
    assert matplotlib.image.imread(tmp_path / "filters.png").std() > 0


def test_losses_of_zero_are_drawn(tmp_path: Path) -> None:
    scores = {1: {"accuracy": 1.0}, 2: {"accuracy": 1.0}}
    figure = learning_curves(
        [1.0, 0.0, 0.0], scores, per_epoch=1, reference={"accuracy": ("a paper", 0.99)}
    )
    save(figure, tmp_path / "curves.png")


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(tmp_path / "file", b"old")
    monkeypatch.setattr(
        os, "replace", lambda source, target: (_ for _ in ()).throw(OSError("no room"))
    )
    with pytest.raises(OSError, match="no room"):
        write_file(tmp_path / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_the_embedded_files_are_mnist() -> None:
    data = load_idx_folder(MNIST_DIR)
    assert (data.name, data.classes) == ("mnist", 10)
    assert data.train_images.shape == (60_000, 28, 28)
    assert np.bincount(data.test_labels).tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]
