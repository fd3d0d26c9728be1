"""What the fuzz of the commands draws from: odd values, odd names of files, damage done to good
ones. Every draw comes from a seed."""

import contextlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

from jaxcnn._io.sealed import write_sealed
from jaxcnn.runs._command import Train
from jaxcnn.runs._config import Config, flag
from jaxcnn.runs._folder import KIND, MANIFEST
from jaxcnn.train import _digests as digests

NUMBERS = ["0", "-1", "1", "2", "3", "7", "1e3", "1e-300", "1e400", "-inf", "inf", "nan", "0.5", "0x10", "1_000", "²", "٣", "9" * 30, str(2**31), str(2**63), "-9223372036854775809", "None", "", " ", "1,5", "True"]  # fmt: skip
TEXTS = ["", " ", "ünïcødé ∂y 模型", "[red]bold[/]", "[/x]", ":cat:", "*", "?", "[0.1]", "$HOME", "~", "%s%n", "{0}", "a\x1b[2Jb", "a\rb\nc", "\x07\x9b31m", "\u202eevil", "\udcff\udcfe", "x" * 4000, "None", "True", "-", "--", "--help=x", "-1", "@file", "'", '"', "..", "a/../..", "\t"]  # fmt: skip
NAMES = ["out", "a b", "[0.1]", "*", "$HOME", "~", "ünï ∂", "a\x1b[2Jb", "a\nb", "\udcff\udcfe", "[red]x[/]", "x" * 255, "x" * 256, "d/" * 2000, "x" * 4000, "-out", "--out", ".", "'", '"', "{}", "%d", "a\u202eb"]  # fmt: skip
SPECIAL = ["/dev/null", "/dev/zero", "/dev/full", "/dev/stdout", "/dev/stderr", "/dev/fd/1", "/proc/self/mem", "/proc/self/cmdline", "/proc", "/proc/nowhere/x", "PLACE/fifo", "PLACE/loop", "PLACE/dangling", "PLACE/empty", "PLACE/folder", "PLACE/text", "PLACE/link", "PLACE/good.npz/x"]  # fmt: skip
"""``PLACE`` stands for the folder of the inputs."""
# what a long run, or a look at the network, would come of
NEVER = {"coordinator": ["127.0.0.1", ":1", "127.0.0.1:0", "127.0.0.1:99999", "", "localhost:x"], "processes": ["0", "-1", "x"], "seeds": ["0", "-1", "2", "x", "9" * 12], "epochs": ["0", "-1", "1", "2", "x", "9" * 12, "1e3"], "image_size": ["0", "-1", "8", "9 9", "x"], "model": ["mlp", "lenet", "vgg6", "MLP", ""], "keep": NUMBERS, "resume": [], "overwrite": []}  # fmt: skip
OTHERS = ["--json=x", "--top 3", "--op relu", "--smoke", "--full", "--help", "-h", "--version", "-x", "--", "stray", "--no-resume", "--lr 1"]  # fmt: skip
YAML = ["", "---\n---\n", "epochs: 3\nepochs: 3", "a: &a [x]\nb: *a", "[" * 3000, "{a: " * 500, "epochs: !!python/object:os.system x", "epochs: 1e400", "? [a]\n: b", "\x00", "epochs: \x1b[2J", "- 1", "learning_rate: .nan", "out: 'a\\0b'", "augment: crop", "augment: [crop, crop]", "<<: {epochs: 3}", "seed: 0o17", "seed: 2026-01-01", "image_size: [8, 8, 8]", "\ufeffepochs: 1", "epochs: 1\r\nseed: 2\r\n", "\tepochs: 1", "resume: true", "config: x", "clip: null", "1: 2", "null: 1", "epochs: " + "9" * 5000, "'\\uDCFF': 1"]  # fmt: skip


EDITS = [0, -1, 3, 0.5, 1e308, 2**31, 2**63, -(2**63), True, False, None, "", "x", "0.1", "nan", "a\x1b[2Jb", "a\0b", "\udcff", "/dev/zero", "..", [], [8, 8], ["crop"], [[]], {}, {"a": 1}]  # fmt: skip
OWN = ["..", ".", "", "/", "../mine", "a/../../mine", "PLACE/text", "link/text", "link", "checkpoints/../../x", 3, None, [], {}, "x" * 5000, "a\0b", "\udcff", "*"]  # fmt: skip
"""Names that no list of what a run wrote has."""


def value(name: str, draw: random.Random) -> str:
    """An odd one for a setting of that name, as one word or several."""
    if name in NEVER:
        return draw.choice(NEVER[name] or [""])
    if name in ("out", "data", "config"):
        return path(draw)
    return draw.choice(TEXTS if draw.random() < 0.3 else NUMBERS)


def path(draw: random.Random) -> str:
    """An odd name of a file."""
    return (
        draw.choice(SPECIAL)
        if draw.random() < 0.6
        else "odd/" * draw.randint(0, 1) + draw.choice(NAMES)
    )


def arguments(draw: random.Random) -> list[str]:
    """A command line, from its module on. ``PLACE`` and ``RUN`` stand for the folder of the inputs
    and for a run that may be damaged."""
    kinds: dict[str, tuple[int, Callable[[random.Random], list[str]]]] = {
        "train": (40, _train),
        "resume": (20, _resume),
        "eval": (12, _eval),
        "predict": (10, _predict),
        "others": (10, _others),
        "experiment": (8, _experiment),
    }
    return draw.choices(
        [make for _, make in kinds.values()], [weight for weight, _ in kinds.values()]
    )[0](draw)


def _train(draw: random.Random) -> list[str]:
    given = {
        "--data": "PLACE/good.npz",
        "--model": "mlp",
        "--epochs": "1",
        "--batch-size": "20",
        "--out": "out",
    }
    words: list[str] = []
    for name in draw.sample(sorted(get_type_hints(Train)), draw.randint(1, 3)):
        kind = get_type_hints(Train)[name]
        if kind is bool:
            words.append(draw.choice([flag(name), "--no-" + flag(name)[2:], f"{flag(name)}=x"]))
        elif name == "coordinator":
            words += [
                f"{flag(name)}={value(name, draw)}",
                "--processes=2",
                "--process=1",
                "--wait=1",
            ]
        elif name not in ("processes", "process", "wait"):
            odd = value(name, draw)
            words += draw.choice(
                [
                    [f"{flag(name)}={odd}"],
                    [flag(name), odd],
                    [f"--{name}={odd}"],
                    [flag(name), *odd.split(" ")],
                ]
            )
        if draw.random() < 0.8:
            given.pop(flag(name), None)
    if draw.random() < 0.15:
        words += draw.choice(OTHERS).split(" ")
    if draw.random() < 0.1:
        words += words[-1:]
    if draw.random() < 0.15:
        words += ["--config", "settings.yaml"]
    if draw.random() < 0.25:
        given["--data"] = draw.choice(
            ["PLACE/damaged.npz", "PLACE/damaged.npz", "PLACE/idx", "PLACE/images", *SPECIAL]
        )
    if "--data" not in given and not any(word.startswith("--data") for word in words):
        given["--data"] = "PLACE/good.npz"
    return ["jaxcnn", "train", *(word for pair in given.items() for word in pair), *words]


def _resume(draw: random.Random) -> list[str]:
    how = draw.choice(
        [
            ["--resume"],
            ["--resume"],
            ["--overwrite", "--data", "PLACE/good.npz", "--model", "mlp", "--epochs", "1"],
        ]
    )
    more = draw.choice(
        [
            [],
            [],
            ["--keep", "1"],
            ["--seed", "1"],
            ["--patience", "1"],
            ["--tensorboard"],
            ["--watch-every", "1"],
        ]
    )
    return ["jaxcnn", "train", *how, "--out", "RUN", *more]


def _eval(draw: random.Random) -> list[str]:
    run = draw.choice(["RUN", "RUN", "RUN/model.safetensors", path(draw)])
    data = draw.choice([[], ["--data", draw.choice(["PLACE/damaged.npz", *SPECIAL])]])
    json = draw.choice([[], ["--json", path(draw)], ["--json=RUN/config.json"]])
    return ["jaxcnn", "eval", run, *data, *json]


def _predict(draw: random.Random) -> list[str]:
    images = [
        draw.choice(["PLACE/eight.png", "PLACE/nine.png", path(draw)])
        for _ in range(draw.randint(0, 2))
    ]
    more = draw.choice([[], ["--top", draw.choice(NUMBERS)], ["--resize"], ["--json", path(draw)]])
    return ["jaxcnn", "predict", draw.choice(["RUN", "RUN", path(draw)]), *images, *more]


def _others(draw: random.Random) -> list[str]:
    odd, file = draw.choice([*NUMBERS, *TEXTS]), path(draw)
    return [
        "jaxcnn",
        *draw.choice(
            [
                ["ops"],
                ["ops", "--markdown"],
                ["ops", odd],
                [odd],
                [],
                ["verify", "--op", odd],
                ["verify", "--op", "relu", "--seed", odd],
                ["verify", "--op=relu", "--jobs=0", "--html", file],
                ["verify", "--module", odd, "--shapes", "4"],
                ["verify", "--module", "math:sin", "--shapes", odd],
                ["precision", "--op", odd],
                ["precision", "--op", "relu", "--json", file],
                ["precision", "--op", "relu", "--seed", odd],
                ["plan", "--model", odd, "--topology", "cpu:1", "--batch", "8"],
                ["plan", "--model", "lenet", "--topology", odd, "--batch", "8"],
                ["plan", "--model", "lenet", "--topology", "cpu:1", "--batch", "8", "--image", odd],
                [
                    "plan",
                    "--model",
                    "lenet",
                    "--topology",
                    "cpu:2",
                    "--batch",
                    "8",
                    "--mesh",
                    odd,
                    "--json",
                    file,
                ],
                ["plan", "--model", "lenet", "--topology", "cpu:2", "--batch", odd, "--json", file],
            ]
        ),
    ]


def _experiment(draw: random.Random) -> list[str]:
    name = draw.choice(
        [
            "bench",
            "delta",
            "digits",
            "edges",
            "features",
            "feedback",
            "mnist",
            "recurrent",
            "seesaw",
            "vanishing",
            "walkthrough",
        ]
    )
    odd = draw.choice(
        [
            ["--seed", "-1"],
            ["--out", "/dev/null"],
            ["--out", "PLACE/loop"],
            ["--help"],
            ["--seed=1", "--seed=2"],
            ["--out", "PLACE/good.npz"],
            [draw.choice(TEXTS)],
            [f"--{draw.choice(TEXTS)}"],
            ["--seed", draw.choice(TEXTS)],
        ]
    )
    return [
        f"experiments.{name}",
        *odd,
        *(
            ["--seed=-5"]
            if draw.random() < 0.5 and "--seed" not in odd[0]
            else ["--data-dir=/nowhere", "--seed=x"]
        ),
    ]


def damaged(content: bytes, draw: random.Random) -> bytes:
    """The same with something wrong in it."""
    at, end = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    return draw.choice(
        [
            b"",
            content[:at],
            content[:at] + bytes(end - at) + content[end:],
            content[:at] + content[end:],
            content + content[:at],
            bytes(byte ^ (draw.random() < 0.01) << draw.randrange(8) for byte in content),
            content[:at] + draw.randbytes(9) + content[at + 9 :],
        ]
    )


def spoil(file: Path, draw: random.Random) -> None:
    """Damage it, or put something else there."""
    content, mode = file.read_bytes(), file.stat().st_mode
    file.unlink()
    match draw.randrange(12):
        case 0:
            pass
        case 1:
            file.mkdir()
        case 2:
            os.mkfifo(file)
        case 3:
            file.symlink_to(file.name)
        case 4:
            file.symlink_to("/dev/zero")
        case 5:
            file.write_bytes(content)
            file.chmod(0)
        case _:
            file.write_bytes(damaged(content, draw))
            file.chmod(mode)


def edit(run: Path, place: Path, draw: random.Random) -> None:
    """Change one of its settings, or what its lists say, as a hand would that makes the sums
    anew."""
    match draw.randrange(4):
        case 0 | 1:
            settings = json.loads((run / "config.json").read_text())
            name = draw.choice(sorted(settings))
            (run / "config.json").write_text(
                json.dumps(
                    {**settings, name: draw.choice(EDITS[: 3 if name == "epochs" else None])}
                )
            )
        case 2:
            (run / "link").symlink_to(place)
            names = [
                name.replace("PLACE", str(place)) if isinstance(name, str) else name
                for name in draw.sample(OWN, 2)
            ]
            write_sealed(
                run / MANIFEST,
                KIND,
                draw.choice(
                    [{"written": ["config.json", "checkpoints", *names]}, {"written": 3}, {}]
                ),
            )
        case _:
            listed = draw.choice(
                [
                    {},
                    {"files": 3, "later": []},
                    {"files": {"../mine.txt": "x"}, "later": ["../../mine.txt", 3]},
                    {"files": ["x"], "later": None},
                ]
            )
            write_sealed(run / "checkpoints" / "4" / digests.LIST, digests.KIND, listed)


def spoil_run(run: Path, place: Path, draw: random.Random) -> None:
    """Damage one or two of its files, or whole folders."""
    if draw.random() < 0.3:
        edit(run, place, draw)
    for _ in range(draw.randint(0, 2)):
        files = sorted(
            path
            for path in run.rglob("*")
            if path.is_file() and not path.is_symlink() and path.name != "mine.txt"
        )
        near = [path for path in files if path.parent == run]
        far = [path for path in files if path.parent != run]
        if draw.random() < 0.1:
            for path in sorted((run / "checkpoints").glob("[0-9]*"))[: draw.randint(1, 2)]:
                shutil.rmtree(path)
        elif files:
            spoil(file := draw.choice(near if draw.random() < 0.5 or not far else far), draw)
            if file in far and draw.random() < 0.3:  # as if it had been written so
                with contextlib.suppress(Exception):
                    digests.write_digests(
                        run / file.relative_to(run).parents[-3],
                        later=("_CHECKPOINT_METADATA", "commit_success.txt"),
                    )


def settings_text(draw: random.Random) -> str:
    """A file of settings."""
    whole = Config().text()
    return draw.choice([*YAML, whole, damaged(whole.encode(), draw).decode(errors="replace")])


def asked_for(words: list[str], folder: Path) -> set[Path]:
    """The files and folders that the command line names to be written, as their links lead
    there."""
    flags = "--out", "--json", "--html"
    named = [second for first, second in pairwise(words) if first in flags]
    named += [word.partition("=")[2] for word in words if word.partition("=")[0] in flags]
    return {Path(os.path.realpath(folder / name)) for name in named}


def state(folder: Path) -> dict[str, Any]:
    """All that is below a folder: modes, times, links and bytes."""
    return dict(_entries(folder))


def _entries(folder: Path) -> Iterator[tuple[str, Any]]:
    for path, folders, names in os.walk(folder):
        for name in folders + names:
            entry = Path(path, name)
            found = entry.lstat()
            content = (
                os.readlink(entry)
                if entry.is_symlink()
                else entry.read_bytes()
                if entry.is_file()
                else b""
            )
            yield str(entry), (found.st_mode, found.st_ino, found.st_mtime_ns, content)
