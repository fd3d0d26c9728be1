"""The folder of a run is one run's at a time, and nothing is deleted there but what its list
says."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from run_files import content

from experiments.files import clear_folder
from jaxcnn._io.command import InputError
from jaxcnn._io.sealed import write_sealed
from jaxcnn.runs._folder import KIND, LOCK, MANIFEST, RunFolder, claimed
from jaxcnn.train import _digests as digests
from jaxcnn.train._checkpoint import UNFINISHED, remove_checkpoints

OWNER = """
import sys, time
from pathlib import Path
from jaxcnn.runs._folder import claimed
with claimed(Path(sys.argv[1])):
    print("claimed", flush=True)
    time.sleep(600)
"""
pytestmark = pytest.mark.skipif(os.name != "posix", reason="locks and links")


def test_a_second_run_is_told_who_has_the_folder(tmp_path: Path) -> None:
    with claimed(tmp_path):
        with (
            pytest.raises(
                InputError,
                match=rf"holds a run that goes on just now \(process {os.getpid()} on .*, since 20",
            ),
            claimed(tmp_path),
        ):
            pass
        assert os.listdir(tmp_path) == [LOCK]
    assert os.listdir(tmp_path) == []
    with claimed(tmp_path):
        pass


def test_a_run_that_was_killed_claims_nothing(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "claimed\n"
        with pytest.raises(InputError, match=rf"process {process.pid} on"), claimed(tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
    assert os.listdir(tmp_path) == [LOCK]
    with claimed(tmp_path):
        assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()} on ")
    assert os.listdir(tmp_path) == []


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("weeks of work")
    (tmp_path / LOCK).symlink_to("mine.txt")
    with pytest.raises(OSError, match=re.escape(LOCK)), claimed(tmp_path):
        pass
    assert (tmp_path / "mine.txt").read_text() == "weeks of work"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A run's folder, ``run``, with what it wrote and what it did not; and something beside it."""
    run = tmp_path / "run"
    run.mkdir()
    folder = RunFolder(run)
    folder.will_write("result.json", "curves", "curves/1")
    for name in ("result.json", "curves/1", "mine.txt", "curves/mine.txt", "theirs/result.json"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text(name)
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "result.json").write_text("weeks of work")
    return tmp_path


def test_what_is_not_listed_stays(place: Path) -> None:
    RunFolder(place / "run").clear()
    left = content(place)
    assert left.pop(f"run/{MANIFEST}")
    assert set(left) == {
        "beside/result.json",
        "run/mine.txt",
        "run/curves/mine.txt",
        "run/theirs/result.json",
    }
    assert RunFolder(place / "run").written == {"curves"}  # in which there is something


def test_a_name_that_is_taken_is_refused(place: Path) -> None:
    folder = RunFolder(place / "run")
    (place / "run" / "dangling").symlink_to("nowhere")
    for name in ("mine.txt", "theirs", "dangling"):
        with pytest.raises(InputError, match=f"has something called {name} that is on no list"):
            folder.will_write("new", name)
    assert (
        folder.written == RunFolder(place / "run").written == {"result.json", "curves", "curves/1"}
    )


@pytest.mark.parametrize("name", ["..", ".", "", "/", "../beside/result.json", "curves/../mine.txt", "./mine.txt", "curves//1", "curves/", "BESIDE/result.json", "a\0b", 3, None, ["mine.txt"]])  # fmt: skip
def test_a_list_with_something_elsewhere_is_refused(name: Any, place: Path) -> None:
    listed = name.replace("BESIDE", str(place / "beside")) if isinstance(name, str) else name
    write_sealed(place / "run" / MANIFEST, KIND, {"written": ["result.json", listed]})
    before = content(place)
    with pytest.raises(InputError, match="it lists what may be deleted here: give another --out"):
        RunFolder(place / "run").clear()
    assert content(place) == before


@pytest.mark.parametrize(
    "value", [{}, {"written": 3}, {"written": {"result.json": 1}, "x": 1}, {"written": "mine"}]
)
def test_a_list_that_is_none_is_refused(value: dict[str, Any], place: Path) -> None:
    write_sealed(place / "run" / MANIFEST, KIND, value)
    with pytest.raises(InputError, match="it lists what may be deleted here"):
        RunFolder(place / "run")


def test_an_edited_list_is_refused(place: Path) -> None:
    path = place / "run" / MANIFEST
    path.write_text(path.read_text().replace("result.json", "mine.txt"))
    with pytest.raises(InputError, match="is damaged, or was edited"):
        RunFolder(place / "run")


def test_nothing_is_deleted_through_a_link(place: Path) -> None:
    run = place / "run"
    (run / "curves" / "1").unlink()
    (run / "curves" / "mine.txt").unlink()
    (run / "curves").rmdir()
    (run / "curves").symlink_to(place / "beside")
    (run / "result.json").unlink()
    (run / "result.json").symlink_to(place / "beside" / "result.json")
    (place / "beside" / "1").write_text("weeks of work")
    RunFolder(run).clear()
    assert sorted(os.listdir(place / "beside")) == ["1", "result.json"]
    # the links themselves were the run's
    assert sorted(os.listdir(run)) == [MANIFEST, "mine.txt", "theirs"]


def test_of_checkpoints_nothing_foreign_is_removed(tmp_path: Path) -> None:
    for name in ("1/state/a", "2/state/a", "2/mine.txt", "3/mine.txt", "mine.txt", f"4{UNFINISHED}-1/a", f"mine{UNFINISHED}"):  # fmt: skip
        (tmp_path / "states" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "states" / name).write_text("weeks of work")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine.txt").touch()
    (tmp_path / "states" / f"5{UNFINISHED}").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "states" / "2" / "mine.txt").rename(tmp_path / "mine.txt")
    for name in "12":
        digests.write_digests(tmp_path / "states" / name)
    (tmp_path / "mine.txt").rename(tmp_path / "states" / "2" / "mine.txt")
    remove_checkpoints(tmp_path / "states")
    assert set(content(tmp_path)) == {
        "states/2/mine.txt",
        "states/3/mine.txt",
        "states/mine.txt",
        f"states/mine{UNFINISHED}",
        "elsewhere/mine.txt",
    }


@pytest.mark.parametrize("sums", [{}, {"files": 3, "later": []}, {"files": ["a"], "later": None}, {"files": {}}, {"files": {"a": 1}, "later": [[]]}, {"files": {"../../mine.txt": "x"}, "later": []}])  # fmt: skip
def test_a_list_of_sums_that_is_none_deletes_nothing(sums: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "b").touch()
    (tmp_path / "mine.txt").touch()
    write_sealed(tmp_path / "1" / digests.LIST, digests.KIND, sums)
    before = set(content(tmp_path))
    remove_checkpoints(tmp_path)
    assert before - set(content(tmp_path)) <= {f"1/{digests.LIST}"}


def test_an_experiment_deletes_only_what_one_wrote(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("weeks of work")
    with pytest.raises(InputError, match=r"has something called result.json that is on no list"):
        clear_folder(tmp_path, ["metrics.jsonl", "result.json"])
    assert content(tmp_path) == {"result.json": b"weeks of work"}
    (tmp_path / "result.json").unlink()
    clear_folder(tmp_path, ["metrics.jsonl", "result.json"])
    (tmp_path / "result.json").touch()
    (tmp_path / "mine.txt").touch()
    clear_folder(tmp_path, ["metrics.jsonl", "result.json"])
    assert set(content(tmp_path)) == {MANIFEST, "mine.txt"}
