"""Every experiment once in short form, and the map of the documents: it names only what there
is."""

import importlib
import inspect
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_seed_documents
from idx_files import write_folder

import jaxcnn
from experiments import command
from jaxcnn._io.command import BAD_INPUT

ROOT = Path(__file__).parent.parent
README = (ROOT / "experiments" / "README.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in README.splitlines()
    if re.match(r"\| S\d\.\d+ ", line)
]
SEEDS = {0: 9, 1: 9, 2: 4, 3: 8, 4: 11}
NAMES = (
    "walkthrough",
    "seesaw",
    "delta",
    "vanishing",
    "edges",
    "recurrent",
    "features",
    "feedback",
    "digits",
)
NEEDS_DATA = "vanishing", "recurrent", "features", "feedback", "digits"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set of images of the right shape."""
    return write_folder(tmp_path_factory.mktemp("images"), train=300, test=120, size=28)


def work(name: str, out: Path, *flags: str) -> int:
    config = importlib.import_module(f"experiments.{name}.config").Config
    return command.main(config, name, ["--out", str(out), *flags])


LONG = "features", "feedback", "recurrent"  # tens of seconds


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in NAMES]
)
def test_every_experiment_runs(
    name: str, tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data-dir", str(images)] if name in NEEDS_DATA else []
    assert work(name, tmp_path, "--smoke", *data) == 0, capsys.readouterr().err
    told = capsys.readouterr().out
    assert "Next: python -m experiments." in told
    files = importlib.import_module(f"experiments.{name}.work").FILES
    assert {path.name for path in tmp_path.iterdir()} == {*files, "manifest.json"}
    result = json.loads((tmp_path / "result.json").read_text())
    assert result
    if name == "delta":
        assert all(way["largest_difference"] < 1e-14 for way in result["ways"].values())
    for path in tmp_path.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_map_has_every_row_of_the_documents() -> None:
    assert [row[0] for row in ROWS] == [
        f"S{d}.{n}" for d, count in SEEDS.items() for n in range(1, count + 1)
    ]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_map_names_only_what_there_is(row: list[str]) -> None:
    name, _, functions, test, commands = row
    assert functions
    for dotted in re.findall(r"`([\w.]+)`", functions):
        found: Any = jaxcnn
        for part in dotted.split("."):
            found = getattr(found, part)
    own = f"test_{name.lower().replace('.', '_')}_"
    (held,) = re.findall(r"`([\w.]+)`", test)
    if held.endswith(".py"):
        assert (ROOT / "tests" / held).exists()
        assert commands, "a row without a test of its own has an experiment"
    else:
        assert held.startswith(own)
        source = inspect.getsource(getattr(test_seed_documents, held))
        for called in set(re.findall(r"\b\w+(?=\()", source)):
            if inspect.isfunction(helper := getattr(test_seed_documents, called, None)):
                source += inspect.getsource(helper)
        for dotted in re.findall(r"`([\w.]+)`", functions):
            assert re.search(rf"\b{dotted.split('.')[-1]}\b", source), (
                f"{held} does not use {dotted}"
            )
    for experiment in re.findall(r"`(\w+)`", commands):
        assert (ROOT / "experiments" / experiment / "__main__.py").exists()


def test_every_experiment_is_in_the_list() -> None:
    listed = set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE))
    assert listed == {path.parent.name for path in (ROOT / "experiments").glob("*/__main__.py")}


@pytest.mark.parametrize(
    ("name", "flags", "words"),
    [
        ("seesaw", ["--starts", "0"], "--starts must be an integer ≥ 1, got 0"),
        ("seesaw", ["--scale", "-1"], "--scale must be a number > 0"),
        ("delta", ["--seed", "-1"], "--seed must be an integer in [0, "),
        ("vanishing", ["--data-dir", "/nowhere"], "--data-dir: "),
        ("edges", ["--image", "/nowhere.png"], "--image must be a PNG or JPEG file"),
        ("walkthrough", ["--image", "3"], "--image is not for the seesaw"),
        ("features", ["--image", "9999999", "--smoke"], "--image must be less than the"),
        ("recurrent", ["--length", "1"], "--length must be an integer ≥ 2"),
        ("feedback", ["--learning-rate", "0"], "--learning-rate must be a number > 0"),
        ("digits", ["--networks", "0"], "--networks must be an integer ≥ 1"),
    ],
)
def test_bad_input_is_refused_in_a_line(
    name: str, flags: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert work(name, tmp_path, *flags) == BAD_INPUT
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert error.count("\n") == 1


def test_a_picture_that_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = tmp_path / "fake.png"
    fake.write_bytes(b"not a picture")
    assert work("edges", tmp_path / "out", "--image", str(fake)) == BAD_INPUT
    assert "cannot be read as a picture" in capsys.readouterr().err


def test_the_walkthrough_tells_the_documents_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert work("walkthrough", tmp_path) == 0
    told = capsys.readouterr().out
    for number in (
        "0.66809",
        "0.29015",
        "-0.487315",
        "0.023243",
        "0.00087817",
        "-0.00365477",
        "-0.00063452",
        "0.001",
    ):
        assert number in told
    rows = {
        row["name"]: row for row in json.loads((tmp_path / "result.json").read_text())["quantities"]
    }
    np.testing.assert_allclose(
        rows["gradient reaching A, B"]["value"], [-0.00365477, 0.00487303], atol=5e-9
    )


def test_seesaw_order_and_summary() -> None:
    from experiments.seesaw.work import order, summary

    found = {
        "a": summary(np.array([10, 20, 30, 6000]), 5000),
        "b": summary(np.array([5, 6, 7, 8]), 5000),
        "c": summary(np.array([6000] * 4), 5000),
    }
    assert found["a"] == {"arrived": 0.75, "quartiles": [10, 20, 30], "median_of_arrived": 20}
    assert found["c"] == {
        "arrived": 0.0,
        "quartiles": [None, None, None],
        "median_of_arrived": None,
    }
    assert order(found, of_all=True) == "b < a"  # c has none
    found["c"]["median_of_arrived"] = 1.0
    assert order(found, of_all=False) == "c < b < a"


BROWSER = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)


@pytest.mark.slow
def test_the_page_of_a_model_has_a_section_a_layer(tmp_path: Path, images: Path) -> None:
    assert (
        work(
            "walkthrough",
            tmp_path,
            "--smoke",
            "--model",
            "lenet",
            "--image",
            "7",
            "--data-dir",
            str(images),
        )
        == 0
    )
    text = (tmp_path / "walkthrough.html").read_text(encoding="utf-8")
    assert re.findall(r"<summary>\d+ · (\w+)<", text) == [
        "conv1",
        "pool1",
        "relu1",
        "conv2",
        "pool2",
        "relu2",
        "flatten",
        "dense1",
        "relu3",
        "dropout",
        "dense2",
    ]
    assert text.count("<img ") >= 2 * 11
    assert not re.search(r"(src|href)=\"(?!data:)", text)  # it loads nothing


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_a_click_opens_a_layer_in_a_real_browser(tmp_path: Path, images: Path) -> None:
    assert (
        work("walkthrough", tmp_path, "--smoke", "--model", "mlp", "--data-dir", str(images)) == 0
    )
    page = tmp_path / "walkthrough.html"
    click = "<script>document.querySelectorAll('summary')[2].click()</script></body>"
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", click), encoding="utf-8")
    assert BROWSER is not None
    command_line = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--dump-dom",
        page.as_uri(),
    ]
    shown = subprocess.run(
        command_line, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    states = [" open" in tag for tag in re.findall(r"<details[^>]*>", shown)]
    assert states == [True, False, True, *[False] * (len(states) - 3)]
