"""What `python -m jaxcnn train`, `eval` and `predict` cannot use: one line says what and why, the
status is not 0, and nothing that was there is changed."""

import errno
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pooch
import pytest
import requests
from idx_files import stripes, write_folder
from PIL import Image
from run_files import arrays, content, others, train, write_npz
from safetensors.numpy import load_file, save_file

import jaxcnn._io.files
from jaxcnn.__main__ import main
from jaxcnn.data import DataError
from jaxcnn.data._cifar import ARCHIVE
from jaxcnn.runs._config import Config
from jaxcnn.train._digests import write_digests

LABELS, TEST_LABELS = arrays()["train_labels"], arrays()["test_labels"]


def images(root: Path, size: int = 8) -> Path:
    """A folder of images by class."""
    for split, count in (("train", 24), ("test", 8)):
        for number, (pixels, label) in enumerate(zip(*stripes(count, size=size), strict=True)):
            path = root / split / "abcd"[label] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    return root


def evil(path: Path) -> None:
    """An archive whose member would lie outside, if it were unpacked."""
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo("../../outside.txt")
        info.size = 2
        archive.addfile(info, io.BytesIO(b"no"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good data set, a good run, and much that is neither."""
    place = tmp_path_factory.mktemp("place")
    whole = write_npz(place / "good.npz").read_bytes()
    assert train(place / "good.npz", place / "run") == 0
    (place / "short.npz").write_bytes(whole[:-300])
    (place / "damaged.npz").write_bytes(whole[:3000] + bytes(200) + whole[3200:])
    (place / "text.npz").write_text("hello")
    (place / "text.png").write_text("hello")
    write_npz(place / "nan.npz", train_images=np.full((200, 8, 8), np.nan, np.float32))
    write_npz(
        place / "none.npz", train_images=np.zeros((0, 8, 8), np.uint8), train_labels=LABELS[:0]
    )
    write_npz(place / "one_class.npz", train_labels=np.zeros(200, int))
    write_npz(place / "range.npz", test_labels=TEST_LABELS + 9)
    write_npz(place / "negative.npz", train_labels=LABELS - 1)
    write_npz(place / "sizes.npz", test_images=np.zeros((48, 9, 9), np.uint8))
    write_npz(place / "black.npz", train_images=np.zeros((200, 8, 8), np.uint8))
    write_npz(place / "fewer.npz", train_labels=LABELS[:-1])
    write_npz(place / "more.npz", train_labels=np.arange(200) % 7, test_labels=np.arange(48) % 7)
    write_npz(place / "pickle.npz", train_images=np.array([{}], object))
    for name, keep in (("idx_short", 90), ("idx_foreign", 0)):
        file = write_folder(place / name, train=8, test=4) / "train-images-idx3-ubyte"
        file.write_bytes(file.read_bytes()[:keep] or b"hello")
    (write_folder(place / "idx_three") / "t10k-labels-idx1-ubyte").unlink()
    (place / "cifar").mkdir()
    (place / "cifar" / ARCHIVE).write_bytes(b"\x1f\x8b\x08hello")
    evil(place / "evil" / ARCHIVE)
    (images(place / "images_damaged") / "train" / "c" / "2.png").write_text("hello")
    Image.new("L", (9, 9)).save(images(place / "images_sizes") / "train" / "c" / "2.png")
    shutil.rmtree(images(place / "images_no_test") / "test")
    images(place / "images", 10)
    Image.new("L", (9, 9)).save(place / "nine.png")
    Image.new("L", (8, 8)).save(place / "eight.png")
    for name, text in {
        "list.yaml": "- 1",
        "empty.yaml": "",
        "tab.yaml": "epochs:\t- 3",
        "cut.json": '{"epochs": 3',
        "deep.json": "[" * 100_000,
    }.items():
        (place / name).write_text(text)
    (place / "binary.json").write_bytes(bytes(range(256)))
    (place / "foreign.safetensors").write_bytes(b"hello, this is no model")
    save_file({"x": np.zeros(2)}, place / "other.safetensors")
    save_file(
        {"x": np.zeros(2)}, place / "odd.safetensors", {"jaxcnn": '{"settings": {"model": "mlp"}}'}
    )
    model = (place / "run" / "model.safetensors").read_bytes()
    (place / "cut.safetensors").write_bytes(model[: len(model) // 2])
    (place / "mixed").mkdir()
    about = {"jaxcnn": json.dumps({"classes": 3})}
    shutil.copy(place / "run" / "model.safetensors", place / "mixed" / "model.safetensors")
    save_file(
        load_file(place / "run" / "model.safetensors"),
        place / "mixed" / "model_1.safetensors",
        about,
    )
    return place


def fails(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> int:
    """The exit status of a command that fails with one line that has those words."""
    capsys.readouterr()
    try:
        status, lines = main(arguments), 1
    except SystemExit as end:  # so ends what cannot be parsed, in a frame
        status, lines = int(end.code or 0), 0
    told = capsys.readouterr().err
    assert status != 0
    assert "Traceback" not in told, told
    assert words in " ".join(told.replace("│", " ").replace("|", " ").split())
    assert sum(line.startswith("error: ") for line in told.splitlines()) == lines
    return status


GOOD = "--out PLACE/new --model mlp --batch-size 20 --data PLACE/good.npz"
SETTINGS = [
    ("--epochs 0", "--epochs must be an integer ≥ 1, got 0"),
    ("--epochs three", "invalid literal for int() with base 10: 'three'"),
    ("--epochs 1000000000", "--epochs must be at most 214748364 of 10 steps, got 1000000000"),
    ("--model alexnet", "invalid choice 'alexnet'"),
    ("--precision f8", "invalid choice 'f8'"),
    ("--epoch 3", "Unrecognized options: --epoch"),
    ("--learning-rate nan", "--learning-rate must be a number > 0, got nan"),
    ("--dropout 0.5 --warmup 1", "--warmup must be a number between 0 and 1, got 1.0"),
    ("--seed -1", "--seed must be an integer in [0, 4294967294], got -1"),
    ("--batch-size 201", "--batch-size 201 is more than the 200 training images"),
    ("--microbatch 3", "--microbatch 3 does not divide --batch-size 20"),
    ("--devices 9 --batch-size 18", "--devices 9: there are 8 (cpu); give at most that"),
    ("--devices 8", "--batch-size 20 is no multiple of the 8 devices"),
    ("--devices 4 --microbatch 2", "--microbatch 2 does not divide the 5 images that each of the 4 devices has"),
    ("--devices 4 --seeds 2", "--seeds runs side by side on one device; leave out --devices"),
    ("--cut", "--cut needs several devices; say how many with --devices"),
    ("--stream", "good.npz: --stream, --image-size and --skip-bad are for a folder with train/CLASS/IMAGE"),
    ("--image-size 8 8", "good.npz: --stream, --image-size and --skip-bad are for a folder with train/CLASS/IMAGE"),
    ("--coordinator host --processes 2 --process 0", "--coordinator must be HOST:PORT with a port from 1 to 65535, or auto, got host"),
    ("--coordinator host:1 --processes 2 --process 2", "--process must be an integer in [0, 2), got 2"),
    ("--processes 2", "--coordinator, --processes and --process go together"),
    ("--model vgg6 --data PLACE/one_pixel.npz", "one_pixel.npz: there is no such file or folder"),
    ("--out PLACE/good.npz", "good.npz is a file; give a folder"),
    ("--out PLACE/good.npz/new", "good.npz/new cannot be written to (Not a directory)"),
    ("--out PLACE/run", "run holds a run; --resume goes on with it, --overwrite begins anew"),
    ("--resume", "--resume: there is no run in"),
    ("--out PLACE/run --resume --overwrite", "--resume and --overwrite exclude each other"),
    ("--out PLACE/run --resume --learning-rate 0.1", "--resume: learning_rate is 0.002 in"),
]  # fmt: skip
DATA = [
    (
        "nowhere",
        "nowhere: there is no such file or folder, and no set of that name; there is cifar10",
    ),
    ("run", "run: no data set that is known; looked for an .npz file"),
    ("short.npz", "damaged, or not an .npz file"),
    ("damaged.npz", "`train_images` cannot be read (Bad CRC-32"),
    ("text.npz", "damaged, or not an .npz file"),
    ("pickle.npz", "`train_images` cannot be read (Object arrays cannot be loaded"),
    ("nan.npz", "`train_images`: has NaN or infinity"),
    ("none.npz", "and at least one, got shape (0, 8, 8)"),
    ("one_class.npz", "all 200 labels are 0; at least two classes are needed"),
    ("range.npz", "has label 12, but the training labels end at 3"),
    ("negative.npz", "expected labels from 0 to 99999 at most, got -1 to 2"),
    ("sizes.npz", "training images are 8 × 8 pixels but test images 9 × 9"),
    ("black.npz", "black.npz: all pixels of all training images are 0"),
    ("fewer.npz", "200 train images but 199 train labels"),
    ("idx_short", "train-images-idx3-ubyte: cut short; its header says 8 × 10 × 10 = 800 bytes"),
    ("idx_foreign", "not an IDX file; expected it to start with bytes 00 00 08"),
    ("idx_three", "no test labels; looked for t10k-labels-idx1-ubyte[.gz]"),
    ("cifar", "damaged archive"),
    ("evil", "the archive lacks data_batch_1.bin"),
    ("images_damaged", "2.png: damaged, or not an image of PNG"),
    ("images_sizes", "2.png: is 9 × 9 pixels but"),
    ("images_no_test", "test: there is no such folder; expected"),
]
CONFIGS: list[tuple[Any, str]] = [
    ({"epoch": 3}, "there is no setting `epoch`; did you mean `epochs`?"),
    ({"epochs": "three"}, "`epochs` must be an integer, got 'three'"),
    ({"epochs": 3.5}, "`epochs` must be an integer, got 3.5"),
    ({"epochs": True}, "`epochs` must be an integer, got True"),
    ({"epochs": -1}, "--epochs must be an integer ≥ 1, got -1"),
    ({"learning_rate": "fast"}, "`learning_rate` must be a number, got 'fast'"),
    ({"learning_rate": float("nan")}, "JSON has no NaN; expected settings by name"),
    ({"learning_rate": 0}, "--learning-rate must be a number > 0, got 0"),
    ({"stream": "yes"}, "`stream` must be true or false, got 'yes'"),
    ({"clip": [1]}, "`clip` must be a number or null, got [1]"),
    (
        {"model": "alexnet"},
        "`model` must be one of lenet, vgg6, resnet20, resnet50, mlp, got 'alexnet'",
    ),
    ({"precision": None}, "`precision` must be one of f32, bf16, f16, got None"),
    (
        {"augment": ["spin"]},
        "`augment` must be a list, each one of crop, flip, cutout, warp, got ['spin']",
    ),
    ({"image_size": [8]}, "`image_size` must be a list, 2 times an integer or null, got [8]"),
    ({"out": "a\0b"}, "`out` must be text"),
    ("list.yaml", "must hold settings by name, such as `epochs: 3`; got [1]"),
    ("empty.yaml", "must hold settings by name, such as `epochs: 3`; got None"),
    ("tab.yaml", "while scanning for the next token"),
    ("cut.json", "cut.json: Expecting ',' delimiter: line 1 column 13"),
    ("deep.json", "deep.json: is nested too deeply"),
    ("binary.json", "binary.json: 'utf-8' codec can't decode byte 0x80 in position 128"),
    ("images", "images: cannot be read (Is a directory)"),
    ("nowhere.json", "nowhere.json: there is no such file"),
]
USES = [
    ("eval PLACE/nowhere", "nowhere: is not there; give the folder of a run, or a model file"),
    ("eval PLACE/images", "images: is no run; give the folder of a run, or a model file"),
    ("eval PLACE/foreign.safetensors", "foreign.safetensors: "),
    ("eval PLACE/cut.safetensors", "cut.safetensors: "),
    ("eval PLACE/other.safetensors", "has weights, but not what they are of"),
    ("eval PLACE/odd.safetensors", "is not a model file of this version"),
    ("eval PLACE/mixed", "model_1.safetensors: is not of the same run as"),
    ("eval PLACE/run --data PLACE/more.npz", "more.npz has 7 classes, the model 4"),
    ("eval PLACE/run --data PLACE/images", "/images: the model takes images of 8×8×1 (height, width, channels), got 10×10×1"),
    ("eval PLACE/run --data PLACE/short.npz", "damaged, or not an .npz file"),
    ("eval PLACE/run --json PLACE/images", "images is a folder; give a file"),
    ("predict PLACE/run", "IMAGES: give at least one image file"),
    ("predict PLACE/run PLACE/eight.png --top 0", "--top must be an integer ≥ 1, got 0"),
    ("predict PLACE/run PLACE/eight.png --json PLACE/good.npz/x.json", "good.npz is a file; give a folder"),
    ("predict PLACE/cut.safetensors PLACE/eight.png", "cut.safetensors: "),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (" ".join(["train", *others(GOOD.split(), more.split()), more]), words)
        for more, words in SETTINGS
    ]
    + [
        (" ".join(["train", *others(GOOD.split(), ["--data"]), f"--data PLACE/{name}"]), words)
        for name, words in DATA
    ]
    + USES,
)
def test_what_cannot_be_used_is_said_and_nothing_is_changed(
    arguments: str, words: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(place)
    assert fails(arguments.replace("PLACE", str(place)).split(), words, capsys) == 2
    assert content(place) == before


@pytest.mark.parametrize(("settings", "words"), CONFIGS)
def test_a_file_of_settings_that_cannot_be_used(
    settings: Any, words: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = place / settings if isinstance(settings, str) else tmp_path / "mine.json"
    if not isinstance(settings, str):
        path.write_text(json.dumps(settings))
    before = content(place)
    assert (
        fails(["train", "--data", str(place / "good.npz"), "--config", str(path)], words, capsys)
        == 2
    )
    assert content(place) == before


@pytest.mark.parametrize(("name", "words"), [("text.png", "text.png: damaged, or not an image of PNG"), ("none.png", "none.png: there is no such file"), ("nine.png", "nine.png: the model takes images of 8×8×1 (height, width, channels), got 9×9×1; --resize changes the size"), ("images", "images: cannot be read (Is a directory)")])  # fmt: skip
def test_an_image_that_cannot_be_used_does_not_hide_the_others(
    name: str, words: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(place / "run"), str(place / name), str(place / "eight.png")]) == 2
    told = capsys.readouterr()
    assert f"{place / 'eight.png'}  " in told.out
    assert words in told.err
    assert told.err.endswith("error: 1 of 2 images could not be used\n")


def test_a_model_that_does_not_take_such_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (200, 3, 3)).astype(np.uint8)
    write_npz(tmp_path / "tiny.npz", train_images=pixels, test_images=pixels[:48])
    command = [
        "train",
        "--data",
        str(tmp_path / "tiny.npz"),
        "--model",
        "vgg6",
        "--out",
        str(tmp_path / "out"),
    ]
    assert fails(command, "--model vgg6 does not take images of 3×3 pixels", capsys) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (requests.exceptions.ChunkedEncodingError("Connection broken: IncompleteRead"), "cannot be fetched (Connection broken: IncompleteRead); put cifar-10-binary.tar.gz into"),
        (ValueError("SHA256 hash of downloaded file does not match"), "is not what its authors published"),
    ],
)  # fmt: skip
def test_a_download_that_fails(
    error: Exception,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def retrieve(*arguments: Any, **settings: Any) -> None:
        raise error

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    monkeypatch.delenv("JAXCNN_DATA", raising=False)
    assert fails(["train", "--data", "cifar10", "--out", str(tmp_path)], words, capsys) == 2


def copied(place: Path, folder: Path) -> Path:
    """The good run, as if it had begun there."""
    shutil.copytree(place / "run", folder / "run")
    settings = json.loads((folder / "run" / "config.json").read_text(encoding="utf-8"))
    (folder / "run" / "config.json").write_text(
        Config(
            **{**settings, "out": folder / "run", "augment": (), "background": (255, 255, 255)}
        ).text()
    )
    return folder / "run"


def damaged(states: Path) -> None:
    for path in (states / "30" / "state").rglob("d/*"):
        path.write_bytes(b"no longer")


def cut(states: Path) -> None:
    path = states / "30" / "state" / "_METADATA"
    path.write_bytes(path.read_bytes()[:9])


def emptied(states: Path) -> None:
    shutil.rmtree(states / "30")
    (states / "30").mkdir()


def of_another_model(states: Path) -> None:
    path = states / "30" / "about" / "metadata"
    path.write_text(path.read_text().replace('"mlp"', '"lenet"'))
    (states / "30" / "digests.json").unlink()
    write_digests(states / "30", later=("_CHECKPOINT_METADATA", "commit_success.txt"))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (damaged, "checkpoint 30 cannot be read; others: 10, 20 ("),
        (cut, "checkpoint 30 cannot be read; others: 10, 20 ("),
        (emptied, "checkpoint 30 cannot be read; others: 10, 20 ("),
        (of_another_model, "checkpoint 30 has model 'lenet', this run 'mlp'; give another folder"),
    ],
)
def test_a_checkpoint_that_cannot_be_used(
    harm: Callable[[Path], None],
    words: str,
    place: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    run = copied(place, tmp_path)
    harm(run / "checkpoints")
    before = content(tmp_path)
    assert fails(["train", "--resume", "--out", str(run)], words, capfd) == 1
    assert content(tmp_path) == before
    if harm is cut:  # and the way out that it names
        shutil.rmtree(run / "checkpoints" / "30")
        assert main(["train", "--resume", "--out", str(run)]) == 0
        assert (
            load_file(run / "model.safetensors")["params.dense1.kernel"].tobytes()
            == load_file(place / "run" / "model.safetensors")["params.dense1.kernel"].tobytes()
        )


@pytest.mark.parametrize(
    "log", ["{}\n[1]\n", '{"losses": [1]}\n', '{"step": "x", "losses": [1]}\n', None]
)
def test_a_log_of_something_else(
    log: str | None, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(place, tmp_path)
    path = run / "metrics.jsonl"
    path.unlink() if log is None else path.write_text(log)
    before = content(tmp_path)
    fails(
        ["train", "--resume", "--out", str(run)],
        "metrics.jsonl: is not the log of this run",
        capsys,
    )
    assert content(tmp_path) == before


def full(*arguments: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_at_the_start_and_at_the_end(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(place, tmp_path)
    before = content(tmp_path)
    monkeypatch.setattr(jaxcnn._io.files.os, "replace", full)
    assert fails(["train", "--resume", "--out", str(run)], "No space left on device", capsys) == 1
    assert content(tmp_path) == before
    seen = ["eval", str(place / "run"), "--json", str(run / "result.json")]
    assert fails(seen, "No space left on device", capsys) == 1
    assert content(tmp_path) == before
    monkeypatch.undo()
    monkeypatch.setattr("jaxcnn.weights._store.write_file", full)
    words = (
        "model.safetensors: cannot be written (No space left on device); the checkpoints are whole"
    )
    assert fails(["train", "--resume", "--out", str(run)], words, capsys) == 1
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"), "the devices gave up (RESOURCE_EXHAUSTED: Out of memory); if memory ran out, give a smaller --batch-size"),
        (DataError("images/train/a/1.png: damaged"), "--data images/train/a/1.png: damaged; once it is mended, --resume goes on"),
    ],
)  # fmt: skip
def test_what_fails_on_the_way(
    error: Exception,
    words: str,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fit(*arguments: Any, **settings: Any) -> None:
        raise error

    monkeypatch.setattr("jaxcnn.train.fit", fit)
    assert (
        fails(
            ["train", "--data", str(place / "good.npz"), "--model", "mlp", "--out", str(tmp_path)],
            words,
            capsys,
        )
        == 1
    )


def test_a_disk_that_fills_up_while_a_checkpoint_is_written(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "orbax.checkpoint.CheckpointManager.save", lambda *arguments, **settings: full()
    )
    more = [
        "--data",
        str(place / "good.npz"),
        "--model",
        "mlp",
        "--epochs",
        "1",
        "--batch-size",
        "100",
        "--out",
        str(tmp_path),
    ]
    assert (
        fails(
            ["train", *more],
            "checkpoint 2 could not be written; what was whole before still is",
            capsys,
        )
        == 1
    )


def test_a_run_that_diverges_names_the_layer_and_the_step(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    more = [
        "--model",
        "mlp",
        "--batch-size",
        "20",
        "--epochs",
        "1",
        "--optimizer",
        "sgd",
        "--learning-rate",
        "1e6",
    ]
    words = (
        "in step 4 (forward: 80 of 80 numbers of the output of layer `dense2` (dense) are not"
        " finite); try a smaller learning rate or clipped gradients, or look for NaN in the data."
        f" The train state before that step is in {out / 'post_mortem'}"
    )
    for again in ([], ["--resume"]):
        assert (
            fails(
                ["train", "--data", str(place / "good.npz"), "--out", str(out), *more, *again],
                words,
                capsys,
            )
            == 1
        )
        assert [path.name for path in (out / "post_mortem").iterdir()] == ["4"]


NO_EXTRA = (
    "import sys; sys.modules['rich'] = None; from jaxcnn.__main__ import main; main(['train',"
    " '--data', 'nowhere', '--out', sys.argv[1]])"
)


def test_without_the_extra_it_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_EXTRA, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "pip install 'jaxcnn[train]'" in done.stderr
    assert "Traceback" not in done.stderr
