"""A setting given twice, in whatever spelling, is an error; a file of settings stands for what is
written in it, and costs no more than its length."""

import dataclasses
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from experiments.delta.config import Config as Delta
from jaxcnn._io.command import InputError
from jaxcnn._io.outside import OutsideError
from jaxcnn.runs._command import Predict, Train
from jaxcnn.runs._config import LARGEST, Config, as_flags, read_settings, settings_of
from jaxcnn.runs._flags import read_flags
from jaxcnn.runs._yaml import read_yaml

TWICE = [
    (Train, "--learning-rate 1 --learning-rate=2", "--learning-rate"),
    (Train, "--learning_rate=1 --learning-rate 1", "--learning-rate"),
    (Train, "--learning_rate 1 --learning_rate 2", "--learning-rate"),
    (Train, "--stream --no-stream", "--stream"),
    (Train, "--no_stream --stream", "--stream"),
    (Train, "--no-cut --no-cut", "--cut"),
    (Train, "--not-finite stop --not_finite=skip", "--not-finite"),
    (Train, "--augment crop --augment flip", "--augment"),
    (Train, "--image-size 8 8 --image_size 9 9", "--image-size"),
    (Train, "--out=a --seed 1 --out b", "--out"),
    (Predict, "run --top 1 image.png --top=2", "--top"),
    (Delta, "--out a --seed 1 --seed 1", "--seed"),
]


@pytest.mark.parametrize(("kind", "words", "named"), TWICE)
def test_twice_in_any_spelling(kind: type, words: str, named: str) -> None:
    with pytest.raises(InputError, match=f"^{named} is given twice; give it once$"):
        read_flags(kind, words.split(), "x")


@pytest.mark.parametrize("words", ["--lr 1 --lr=2", "--learning-rat 1", "--epoch=1", "--Seed 1", "-seed 1", "--stream=yes", "stray", "--"])  # fmt: skip
def test_nothing_is_guessed(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        read_flags(Train, [*words.split(), "--no-such"], "x")
    assert end.value.code == 2
    assert capsys.readouterr().err


def test_a_flag_as_a_value_is_no_second_flag() -> None:
    found = read_flags(Train, ["--out=--seed", "--seed=1"], "x")
    assert (found.out, found.seed) == (Path("--seed"), 1)


def test_flags_count_more_than_what_was_before() -> None:
    found = read_flags(
        Train,
        ["--seed", "2", "--no-stream"],
        "x",
        before=lambda: ["--seed=1", "--epochs=9", "--stream"],
    )
    assert (found.seed, found.epochs, found.stream) == (2, 9, False)


@pytest.mark.parametrize("odd", ["", " ", "-1", "--seed", "a=b", "*", "$HOME", "~", "[0.1]", "a\nb", "\udcff", "None", "x" * 4000, "'\"", "#", "@x", "ünï"])  # fmt: skip
def test_text_and_paths_come_through_flags_and_files_as_they_are(odd: str, tmp_path: Path) -> None:
    config = Config(data=odd, out=Path(odd))
    assert read_flags(Train, as_flags({"data": odd, "out": odd}), "x").data == odd
    assert read_flags(Train, as_flags({"data": odd, "out": odd}), "x").out == Path(odd)
    (tmp_path / "config.json").write_text(config.text())
    found = read_flags(Train, as_flags(settings_of(tmp_path / "config.json")), "x")
    assert {
        field.name: getattr(found, field.name) for field in dataclasses.fields(Config)
    } == dataclasses.asdict(config)


KEYS = [
    "epochs: 30\nseed: 1\nepochs: 3",
    "epochs: 3\n'epochs': 3",
    '{"epochs": 3, "epochs": 4}',
    "{epochs: 3, epochs: 3}",
    "augment: [{a: 1, a: 2}]",
    "? epochs\n: 3\n? epochs\n: 4",
]


@pytest.mark.parametrize("text", KEYS)
def test_a_name_twice_in_a_file(text: str) -> None:
    with pytest.raises(InputError, match="is there twice, in lines"):
        read_settings(text, "mine.yaml")


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE = {
    "nine to the ninth": (BOMB, "stands for what is written elsewhere"),
    "an alias of itself": ("&a [*a]", "stands for what is written elsewhere"),
    "merged": ("<<: {epochs: 3}", "there is no setting `<<`"),
    "deep lists": ("[" * 50_000, "is nested too deeply|while parsing"),
    "deep maps": ("{a: " * 10_000, "is nested too deeply|while parsing"),
    "deep blocks": ("- " * 40_000 + "x", "is nested too deeply|while parsing"),
    "long": ("#" * (LARGEST + 1), "has more than the 100,000 bytes"),
    "many digits": ("epochs: " + "9" * 50_000, "beyond what 64 bits|Exceeds the limit"),
    "octal": ("epochs: 0o" + "7" * 50_000, "epochs"),
    "an object": (
        "epochs: !!python/object/apply:os.getcwd []",
        "could not determine a constructor",
    ),
    "several documents": ("epochs: 1\n---\nepochs: 2", "but found another document"),
    "a list as a name": ("? [a]\n: b", "unhashable|there is no setting"),
    "a NUL": ("epochs: \0", "special characters are not allowed"),
    "a bell": ("data: \x07", "special characters are not allowed"),
    "infinity": ("learning_rate: .inf", "learning.rate"),
    "a date": ("seed: 2026-01-01", "`seed` must be an integer"),
    "sixty": ("epochs: 1:30", "epochs"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_a_line_and_in_time(name: str) -> None:
    text, words = HOSTILE[name]
    found: list[Any] = []

    def read() -> None:
        try:
            settings = read_settings(text, "mine.yaml")
            config = Config(**settings)
            config.check()
            found.append(config)
        except OutsideError as error:
            found.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(60)
    assert found, "it takes more than a minute"
    if name == "sixty":  # as YAML 1.1 has it
        assert found[0].epochs == 90
        return
    with pytest.raises(OutsideError, match=words):
        raise found[0]
    assert str(found[0]).isprintable()
    assert len(str(found[0])) < 600


def test_what_is_written_twice_is_no_anchor() -> None:
    # of which nobody makes use
    assert read_yaml("augment: &a [crop, flip]") == {"augment": ["crop", "flip"]}


def test_settings_from_a_pipe_are_read_and_from_a_device_without_end_refused(
    tmp_path: Path,
) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_text("epochs: 3"))
    mouth = os.open(tmp_path / "pipe", os.O_RDWR)  # so that nobody waits for the other
    writer.start()
    writer.join(60)
    reader = threading.Timer(0.5, os.close, [mouth])
    reader.start()
    assert settings_of(tmp_path / "pipe") == {"epochs": 3}
    reader.join(60)
    for device in ("/dev/zero", "/dev/full"):
        with pytest.raises(InputError, match="has more than the 100,000 bytes"):
            settings_of(Path(device))
    with pytest.raises(InputError, match="must hold settings by name"):
        settings_of(Path(os.devnull))
