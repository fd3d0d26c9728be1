"""`python -m jaxcnn train`, `eval` and `predict`, from data to answers; interrupted, resumed, from
a file of settings, several seeds at once."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image
from run_files import SHORT, arrays, content, interrupted, others, train, write_npz
from safetensors.numpy import load_file

from jaxcnn import runs
from jaxcnn.__main__ import main
from jaxcnn._io.command import InputError
from jaxcnn._io.lines import read_lines


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "stripes.npz")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("runs") / "a run"
    assert train(data, out) == 0
    return out


def result(run: Path) -> dict[str, Any]:
    return json.loads((run / "result.json").read_text(encoding="utf-8"))


def weights(path: Path) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in load_file(path).items()}


def test_a_run_is_loaded_in_python(run: Path, data: Path, tmp_path: Path) -> None:
    loaded = runs.load(run)
    assert (loaded.classes, loaded.shape) == (("0", "1", "2", "3"), (8, 8, 1))
    images, labels = arrays()["test_images"], arrays()["test_labels"]
    p = loaded.predict(images)
    assert p.shape == (48, 4)
    np.testing.assert_allclose(p.sum(-1), 1, atol=1e-6)
    assert (p.argmax(-1) == labels).mean() == result(run)["test_accuracy"]
    scores, _ = loaded.model.apply(loaded.params, loaded.state, loaded.prepare(images[:3]))
    np.testing.assert_allclose(jax.nn.softmax(scores), p[:3], atol=1e-5)
    Image.fromarray(images[5]).save(tmp_path / "5.png")
    np.testing.assert_allclose(loaded.predict([tmp_path / "5.png"])[0], p[5], atol=1e-5)
    with pytest.raises(ValueError, match="must be uint8 images of 8 × 8 × 1"):
        loaded.predict(images[:, :4])
    with pytest.raises(InputError, match="is not there"):
        runs.load(tmp_path / "nowhere")


def test_a_run_leaves_what_it_says(run: Path) -> None:
    assert {path.name for path in run.iterdir()} == {
        "checkpoints",
        "config.json",
        "learning_curves.png",
        "manifest.json",
        "metrics.jsonl",
        "model.safetensors",
        "result.json",
    }
    told = result(run)
    assert told["test_accuracy"] == told["test_accuracy_by_epoch"][-1] > 0.9
    assert (
        told["steps"],
        told["classes"],
        told["interrupted"],
        len(told["test_accuracy_by_epoch"]),
    ) == (30, 4, False, 3)


def test_eval_repeats_the_result(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for what in (run, run / "model.safetensors"):
        assert main(["eval", str(what), "--json", str(tmp_path / "eval.json")]) == 0
        told = json.loads((tmp_path / "eval.json").read_text(encoding="utf-8"))
        assert (told["accuracy"], told["images"]) == (result(run)["test_accuracy"], 48)
        assert f"{told['accuracy']:.2%} of 48 test images right" in capsys.readouterr().out


def test_predict_says_what_it_sees(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / f"{number}.png" for number in range(4)]
    for file, pixels in zip(files, arrays()["test_images"], strict=False):
        Image.fromarray(pixels).save(file)
    assert (
        main(
            [
                "predict",
                str(run),
                *map(str, files),
                "--top",
                "1",
                "--json",
                str(tmp_path / "seen.json"),
            ]
        )
        == 0
    )
    seen = json.loads((tmp_path / "seen.json").read_text(encoding="utf-8"))
    # the first labels are 0, 1, 2, 3
    assert [list(best) for best in seen.values()] == [["0"], ["1"], ["2"], ["3"]]
    assert len(capsys.readouterr().out.splitlines()) == 4
    Image.fromarray(arrays()["test_images"][1]).resize((20, 30), Image.Resampling.NEAREST).save(
        tmp_path / "large.png"
    )
    assert main(["predict", str(run), str(tmp_path / "large.png"), "--resize", "--top", "1"]) == 0
    assert "large.png  1 " in capsys.readouterr().out


def test_a_complete_run_is_not_changed_by_going_on(run: Path) -> None:
    before = content(run)
    assert main(["train", "--resume", "--out", str(run)]) == 0
    # its seconds
    assert {name for name, data in content(run).items() if data != before[name]} <= {"result.json"}
    assert result(run)["test_accuracy"] == json.loads(before["result.json"])["test_accuracy"]


def test_settings_from_yaml_are_those_of_flags(run: Path, data: Path, tmp_path: Path) -> None:
    settings = tmp_path / "mine.yaml"
    settings.write_text(
        f"data: {data}\nmodel: mlp\nepochs: 3\nbatch_size: 7\ncheckpoint_every: 10\nlearning_rate:"
        " 2e-3\naugment: []\nclip: null\ncut: false\n"
    )
    out = tmp_path / "out"
    assert main(["train", "--config", str(settings), "--batch-size", "20", "--out", str(out)]) == 0
    assert weights(out / "model.safetensors") == weights(run / "model.safetensors")
    kept, wanted = (
        json.loads((folder / "config.json").read_text(encoding="utf-8")) for folder in (out, run)
    )
    assert kept == wanted | {"out": str(out)}


@pytest.mark.slow
def test_several_seeds_are_each_as_alone(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both, second = tmp_path / "both", tmp_path / "second"
    assert train(data, both, "--seeds", "2") == train(data, second, "--seed", "1") == 0
    alone = [result(run), result(second)]
    assert result(both)["test_accuracy_by_seed"] == [one["test_accuracy"] for one in alone]
    by_epoch = np.mean([one["test_accuracy_by_epoch"] for one in alone], 0)
    np.testing.assert_allclose(result(both)["test_accuracy_by_epoch"], by_epoch)
    losses = [
        [loss for line in read_lines(out / "metrics.jsonl") for loss in line["losses"]]
        for out in (both, run, second)
    ]
    np.testing.assert_allclose(losses[0], np.mean(losses[1:], 0), rtol=1e-3)
    assert main(["eval", str(both)]) == 0
    assert "2 models together" in capsys.readouterr().out
    assert main(["train", "--resume", "--out", str(both)]) == 0
    assert result(both)["test_accuracy_by_seed"] == [one["test_accuracy"] for one in alone]


def test_with_patience_the_best_is_kept_and_told(data: Path, tmp_path: Path) -> None:
    # whose models must not answer, too
    assert train(data, tmp_path, "--epochs", "1", "--seeds", "2") == 0
    assert (
        train(
            data,
            tmp_path,
            "--epochs",
            "30",
            "--patience",
            "2",
            "--optimizer",
            "sgd",
            "--learning-rate",
            "0.3",
            "--overwrite",
        )
        == 0
    )
    assert [path.name for path in tmp_path.glob("model*")] == ["model.safetensors"]
    told = result(tmp_path)
    assert len(told["test_accuracy_by_epoch"]) < 30
    assert told["test_accuracy"] == max(told["test_accuracy_by_epoch"])
    assert main(["eval", str(tmp_path), "--json", str(tmp_path / "eval.json")]) == 0
    assert (
        json.loads((tmp_path / "eval.json").read_text(encoding="utf-8"))["accuracy"]
        == told["test_accuracy"]
    )
    assert main(["train", "--resume", "--out", str(tmp_path)]) == 0  # which has nothing left to do
    assert result(tmp_path)["test_accuracy_by_epoch"] == told["test_accuracy_by_epoch"]
    assert result(tmp_path)["test_accuracy"] == told["test_accuracy"]


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM]
)
def test_a_run_that_was_interrupted_ends_to_the_bit_as_one_that_was_not(
    number: signal.Signals, run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with interrupted(monkeypatch, number):
        assert train(data, tmp_path) == 130
    assert (result(tmp_path)["interrupted"], result(tmp_path)["steps"]) == (True, 10)
    assert main(["train", "--resume", "--out", str(tmp_path)]) == 0
    assert weights(tmp_path / "model.safetensors") == weights(run / "model.safetensors")
    assert result(tmp_path)["test_accuracy_by_epoch"] == result(run)["test_accuracy_by_epoch"]


def test_after_an_interruption_patience_keeps_the_same_of_several_that_are_equally_good(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = (
        "--epochs",
        "8",
        "--patience",
        "4",
        "--keep",
        "1",
        "--checkpoint-every",
        "2",
        "--learning-rate",
        "0.02",
    )
    assert train(data, tmp_path / "whole", *more) == 0
    scores = result(tmp_path / "whole")["test_accuracy_by_epoch"]
    best = scores.index(max(scores))
    assert max(scores) in scores[best + 1 :]
    with interrupted(monkeypatch, when=lambda report: report.epoch == best + 2):
        assert train(data, tmp_path / "cut", *more) == 130
    for _ in range(2):  # the second time nothing is left to do
        assert main(["train", "--resume", "--out", str(tmp_path / "cut")]) == 0
        assert result(tmp_path / "cut")["test_accuracy_by_epoch"] == scores
        assert weights(tmp_path / "cut/model.safetensors") == weights(
            tmp_path / "whole/model.safetensors"
        )
        assert (
            result(tmp_path / "cut")["params_sha256"] == result(tmp_path / "whole")["params_sha256"]
        )


def test_a_run_without_its_checkpoints_is_not_begun_anew_unasked(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints")
    before = content(tmp_path / "run")
    assert main(["train", "--resume", "--out", str(tmp_path / "run")]) == 2
    assert (
        "has no checkpoint any more, though there is result.json, model.safetensors; --overwrite"
        " begins anew" in capsys.readouterr().err
    )
    assert content(tmp_path / "run") == before


def test_a_run_does_not_go_on_with_other_data(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "run")
    images = arrays()["train_images"].copy()
    images[7, 0, 0] ^= 1
    # the same, elsewhere
    assert train(write_npz(tmp_path / "stripes.npz"), tmp_path / "run", "--resume") == 0
    settings = json.loads((tmp_path / "run/config.json").read_text(encoding="utf-8"))
    settings["data"] = str(write_npz(tmp_path / "stripes.npz", train_images=images))
    (tmp_path / "run/config.json").write_text(json.dumps(settings), encoding="utf-8")
    before = content(tmp_path / "run")
    capsys.readouterr()
    assert main(["train", "--resume", "--out", str(tmp_path / "run")]) == 1
    assert "checkpoint 30 has checksum of the data '" in capsys.readouterr().err
    assert content(tmp_path / "run") == before


LONG = (*others(SHORT, ("--epochs",)), "--epochs", "40", "--average", "0.9")


@pytest.fixture(scope="module")
def long(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 40 epochs that nothing disturbed."""
    out = tmp_path_factory.mktemp("long")
    assert train(data, out, *LONG) == 0
    return out


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_was_interrupted_at_any_moment(
    number: signal.Signals, long: Path, data: Path, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "jaxcnn",
        "train",
        "--data",
        str(data),
        "--out",
        str(tmp_path),
        *LONG,
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = [next(line for line in process.stderr if line.startswith("step"))]
        process.send_signal(number)
        told += process.stderr
    assert process.returncode == 130
    assert "stopping after these steps, and saving" in "".join(told)
    assert f"to go on: python -m jaxcnn train --resume --out {tmp_path}" in told[-1]
    assert result(tmp_path)["interrupted"]
    assert 10 <= result(tmp_path)["steps"] < 400
    assert main(["eval", str(tmp_path)]) == 0
    assert main(["train", "--resume", "--out", str(tmp_path)]) == 0
    assert weights(tmp_path / "model.safetensors") == weights(long / "model.safetensors")
    assert result(tmp_path)["test_accuracy_by_epoch"] == result(long)["test_accuracy_by_epoch"]
