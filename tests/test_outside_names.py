"""Names of classes, folders and files from outside: whatever they are, they are read, trained on,
printed, drawn, and written to pages and JSON, as text and nothing else."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from idx_files import stripes
from PIL import Image

from experiments.mnist.pictures import mistakes
from jaxcnn.__main__ import main
from jaxcnn._io import html
from jaxcnn._io.drawing import save
from jaxcnn._io.files import from_json
from jaxcnn._io.outside import UNSEEN, printable
from jaxcnn.data import load
from jaxcnn.runs._model_file import open_models
from jaxcnn.train._draw import heat_map
from jaxcnn.train._watch import Table

ODD = sorted(
    [
        "cat\x1b[2J",
        "$x_{$",
        "[red]y[bold]",
        "two\nlines",
        os.fsdecode(b"odd\xff"),
        "a\tb",
        "\u202ertl",
        ":cat:",
        "<b>&amp;",
        "猫",
        "-x",
        "~",
        "\\mathbb{",
        "%s {0}",
        "a" * 150,
    ]
)
ROOT = "pets $x^$ [red]\x1b[31m" + os.fsdecode(b"\xfe")


def seen(text: str, lines: int | None = None) -> str:
    """``text``, in which nothing is unseen but the ends of so many lines."""
    assert not {unicodedata.category(c) for c in text.replace("\n", "")} & UNSEEN, ascii(text)
    assert lines is None or text.count("\n") == lines, text
    return text


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class for each odd name, with three images to train on and one to test with."""
    root = tmp_path_factory.mktemp("names") / ROOT
    for split, count in (("train", 3), ("test", 1)):
        images, _ = stripes(len(ODD) * count, size=8, classes=4, seed=count)
        for number, pixels in enumerate(images.astype(np.uint8)):
            path = root / split / ODD[number % len(ODD)] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return root


def test_they_are_read_as_they_are(root: Path) -> None:
    found = load(root)
    assert found.names == tuple(ODD)
    assert (found.name, found.classes) == (ROOT, len(ODD))


def test_they_are_trained_on_printed_and_written(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run\x1b[2J $x^$"
    model = ["--model", "mlp", "--epochs", "1", "--batch-size", "15", "--watch-every", "1"]
    assert main(["train", "--data", str(root), "--out", str(out), *model]) == 0
    told = capsys.readouterr()
    assert seen(told.out) == ""
    assert printable(ROOT) in seen(told.err)
    assert open_models(out).names == tuple(ODD)
    assert from_json((out / "result.json").read_bytes())["data"] == ROOT
    assert main(["eval", str(out), "--json", str(tmp_path / "eval.json")]) == 0
    told = capsys.readouterr()
    assert seen(told.err) == ""
    by_class = from_json((tmp_path / "eval.json").read_bytes())["accuracy_by_class"]
    assert list(by_class) == ODD
    for name, line in zip(ODD, seen(told.out, len(ODD) + 1).splitlines()[1:], strict=True):
        assert line.startswith(f"  {printable(name)} ")
    image = next((root / "test" / "two\nlines").iterdir())
    assert (
        main(
            [
                "predict",
                str(out),
                str(image),
                str(image.parent / "none\n.png"),
                "--top",
                "15",
                "--json",
                str(tmp_path / "predict.json"),
            ]
        )
        == 2
    )
    told = capsys.readouterr()
    assert all(f"  {printable(name)} " in seen(told.out, 1) for name in ODD)
    assert "none\\n.png: there is no such file" in seen(told.err, 2)
    ((_, answers),) = from_json((tmp_path / "predict.json").read_bytes()).items()
    assert sorted(answers) == sorted(by_class)


def test_they_are_drawn_as_text(tmp_path: Path) -> None:
    images, _ = stripes(len(ODD), size=8, classes=4)
    picture = mistakes(
        images.astype(np.uint8), np.arange(len(ODD)), np.roll(np.eye(len(ODD)), 1, 1), ODD
    )
    table = Table(np.array([1, 2]), ODD, np.ones((2, len(ODD))))
    for figure in (picture, heat_map(table, ROOT, label=ROOT)):
        save(figure, tmp_path / "picture.png")
        assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_they_are_no_markup_on_a_page() -> None:
    page = html.page(
        ROOT, html.table(ODD, [ODD, [html.element("b", name, title=name) for name in ODD]])
    )
    assert page.encode()
    assert page.count("<b ") == len(ODD)  # those that are meant
    assert page.count("&lt;b&gt;&amp;amp;") == 4
    assert not {unicodedata.category(c) for c in page.replace("\n", "").replace("\t", "")} & UNSEEN
