"""The commands with what nobody would give them: however a setting is, and whatever its files hold,
they end in time, with a status that --help names, a line, and nothing else changed."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz_settings import arguments, asked_for, damaged, settings_text, spoil_run, state
from idx_files import stripes, write_folder
from PIL import Image
from run_files import write_npz

from jaxcnn._io.command import BAD_INPUT, CLOSED, FAILED, INTERRUPTED
from jaxcnn._io.outside import UNSEEN, printable

SECONDS = 60.0
EACH, QUICK = 25, 10  # settings of one test
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 25))]
COMMAND = re.compile(r"^(error: |╭|\+--)", re.MULTILINE)
Command = Callable[..., int | None]


@pytest.fixture(scope="module")
def command() -> Iterator[Command]:
    """Runs one in a process of its own: its status, None where it did not end."""
    nowhere = {f"{kind}_proxy": "http://127.0.0.1:9" for kind in ("http", "https", "all")}
    server = [sys.executable, str(Path(__file__).with_name("fuzz_server.py"))]
    root = str(Path(__file__).parent.parent)
    environment = {
        **os.environ,
        **nowhere,
        "PYTHONPATH": root,
        "MPLBACKEND": "agg",
        "PYTHONUTF8": "1",
    }
    with subprocess.Popen(
        server, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        orders, answers = process.stdin, process.stdout
        assert orders is not None
        assert answers is not None

        def run(words: list[str], folder: Path, stdout: str = "stdout") -> int | None:
            said = [str(folder / name) for name in (stdout, "stderr")]
            orders.write(
                json.dumps({"argv": words, "cwd": str(folder), "said": said, "seconds": SECONDS})
                + "\n"
            )
            orders.flush()
            return json.loads(answers.readline())

        yield run
        orders.close()


@pytest.fixture(scope="module")
def good(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and a run that nothing is wrong with."""
    place = tmp_path_factory.mktemp("good")
    (images, labels), (tests, test_labels) = stripes(40, size=8), stripes(12, size=8, seed=1)
    write_npz(
        place / "good.npz",
        train_images=images.astype(np.uint8),
        train_labels=labels,
        test_images=tests.astype(np.uint8),
        test_labels=test_labels,
    )
    words = [
        "jaxcnn",
        "train",
        "--data",
        "good.npz",
        "--model",
        "mlp",
        "--epochs",
        "2",
        "--batch-size",
        "20",
        "--checkpoint-every",
        "2",
        "--out",
        "run",
    ]
    assert command(words, place) == 0, (place / "stderr").read_text()
    settings = json.loads((place / "run" / "config.json").read_text())
    (place / "run" / "config.json").write_text(
        json.dumps({**settings, "data": str(place / "good.npz")})
    )
    (place / "run" / "mine.txt").write_text("weeks of work")
    (place / "run" / "checkpoints" / "mine.txt").write_text("weeks of work")
    return place


def inputs(place: Path, good: Path, draw: random.Random) -> None:
    """What the settings name by ``PLACE``."""
    place.mkdir()
    shutil.copy(good / "good.npz", place)
    (place / "damaged.npz").write_bytes(damaged((good / "good.npz").read_bytes(), draw))
    for file in draw.sample(
        sorted(write_folder(place / "idx", train=40, test=12, size=8).iterdir()), 1
    ):
        file.write_bytes(damaged(file.read_bytes(), draw))
    for number, (pixels, label) in enumerate(zip(*stripes(8, size=8), strict=True)):
        path = (
            place
            / "images"
            / ("train", "test")[number // 4 % 2]
            / ["a", "[red]b", "c\x1b[2J", "d\udcff"][label]
            / f"{number}.png"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        if draw.random() < 0.1:
            path.write_bytes(damaged(path.read_bytes(), draw))
    for size, name in ((8, "eight.png"), (9, "nine.png")):
        Image.new("L", (size, size)).save(place / name)
    os.mkfifo(place / "fifo")
    (place / "loop").symlink_to("loop")
    (place / "dangling").symlink_to("/proc/nowhere/at/all")
    (place / "link").symlink_to("text")
    (place / "empty").touch()
    (place / "folder").mkdir()
    (place / "text").write_text("hello\n")
    (place / "text").chmod(0o600)


def problems(status: int | None, folder: Path) -> Iterator[str]:
    """What is wrong with how a command ended."""
    out, err = (
        (folder / name).read_bytes().decode(errors="surrogateescape")
        for name in ("stdout", "stderr")
    )
    if status is None:
        yield f"did not end in {SECONDS} seconds"
    elif status not in (0, FAILED, BAD_INPUT, INTERRUPTED, CLOSED):
        yield f"ended with status {status}"
    for name, text in (("stdout", out), ("stderr", err)):
        if "Traceback" in text or "Warning" in text:
            yield f"{name} has a traceback or a warning"
        if printable(text.replace("\n", "").replace("\t", "")) != text.replace("\n", "").replace(
            "\t", ""
        ):
            yield f"{name} has characters that are not seen, of {sorted(UNSEEN)}"
    if status and not COMMAND.search(err) and "\nFAILED: " not in out:
        yield "says no error"
    if status == 0 and re.search("^error: ", err, re.MULTILINE):
        yield "says an error, and ends well"
    if len(err.splitlines()) > 60 or max(map(len, err.splitlines()), default=0) > 12_000:
        yield "says too much"
    scraps = [
        path
        for path in folder.rglob("*")
        if path.name.endswith(".part") or path.name == ".jaxcnn.lock"
    ]
    if scraps:
        yield f"leaves {scraps}"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a fork for each setting")
@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_is_given_ends_in_a_line(
    seed: int, command: Command, good: Path, tmp_path: Path
) -> None:
    failures, counts = [], Counter[int | None]()
    for number in range(EACH if seed else QUICK):
        draw = random.Random(f"{seed}/{number}")
        folder, place = tmp_path / str(number), tmp_path / f"{number} inputs"
        folder.mkdir()
        inputs(place, good, draw)
        shutil.copytree(good / "run", folder / "run", symlinks=True)
        spoil_run(folder / "run", place, draw)
        (folder / "settings.yaml").write_text(settings_text(draw), errors="surrogateescape")
        words = [
            word.replace("PLACE", str(place)).replace("RUN", "run") for word in arguments(draw)
        ]
        canary = {**state(place), **state(good)}
        kept = [path for path in folder.rglob("mine.txt") if path.read_text() == "weeks of work"]
        (folder / "stdout").touch()
        status = command(words, folder, "/dev/full" if draw.random() < 0.1 else "stdout")
        counts[status] += 1
        found = [*problems(status, folder)]
        now: dict[str, Any] = {**state(place), **state(good)}
        written = asked_for(words, folder)
        changed = sorted(
            name
            for name in canary | now
            if canary.get(name) != now.get(name)
            and written.isdisjoint([Path(name), *Path(name).parents])
        )
        # a mode
        changed += [name for name in canary if name in now and now[name][0] != canary[name][0]]
        changed += [
            str(path) for path in kept if not path.exists() or path.read_text() != "weeks of work"
        ]
        if changed:
            found.append(f"changed {changed[:5]}")
        if found:
            failures.append(
                f"seed {seed}/{number}:"
                f" {words}\n{found}\n{(folder / 'stderr').read_bytes()[-3000:]!r}"
                f"\n{(folder / 'stdout').read_bytes()[-500:]!r}"
            )
        shutil.rmtree(folder)
        shutil.rmtree(place)
    print(counts)
    assert not failures, "\n\n".join(failures)
