"""Files are whole or as they were, whatever is there and whatever they are called."""

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import jaxcnn._io.files
from jaxcnn._io.command import InputError, claim_file, claim_folder
from jaxcnn._io.files import from_json, write_file, write_json
from jaxcnn._io.lines import Log, read_lines
from jaxcnn._io.outside import OutsideError
from jaxcnn._io.sealed import read_sealed

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes, links and pipes")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask() -> Iterator[Callable[[int], None]]:
    before = os.umask(0o022)
    yield lambda number: (os.umask(number), None)[1]
    os.umask(before)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o000])
def test_a_new_file_has_the_mode_of_any_new_file(
    mask: int, tmp_path: Path, umask: Callable[[int], None]
) -> None:
    umask(mask)
    write_file(tmp_path / "new", "x")
    assert mode(tmp_path / "new") == 0o666 & ~mask


@pytest.mark.parametrize("before", [0o600, 0o640, 0o444, 0o755, 0o4755])
def test_a_file_keeps_its_mode(before: int, tmp_path: Path, umask: Callable[[int], None]) -> None:
    umask(0)
    (tmp_path / "old").write_text("old")
    (tmp_path / "old").chmod(before)
    write_file(tmp_path / "old", "new")
    assert (mode(tmp_path / "old"), (tmp_path / "old").read_text()) == (before, "new")


def test_nobody_can_read_meanwhile_what_nobody_could_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: Callable[[int], None]
) -> None:
    umask(0)
    (tmp_path / "old").touch(0o600)
    seen: list[tuple[int, int]] = []
    fsync = os.fsync

    def look(number: int) -> None:
        seen.append((stat.S_IMODE(os.fstat(number).st_mode), os.fstat(number).st_size))
        fsync(number)

    monkeypatch.setattr(jaxcnn._io.files.os, "fsync", look)
    write_file(tmp_path / "old", "new")
    assert seen == [(0o600, 3)]  # on the disk, whole, before it has its name


def test_another_group_gets_no_right_of_the_one_that_cannot_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old").touch()
    (tmp_path / "old").chmod(0o664)
    fstat = os.fstat

    def of_others(number: int) -> Any:
        found = list(fstat(number))
        found[5] += 1  # its group
        return os.stat_result(found)

    monkeypatch.setattr(jaxcnn._io.files.os, "fstat", of_others)
    monkeypatch.setattr(jaxcnn._io.files.os, "fchown", lambda *arguments: _refuse(errno.EPERM))
    write_file(tmp_path / "old", "new")
    monkeypatch.undo()
    assert mode(tmp_path / "old") == 0o604


def _refuse(number: int) -> None:
    raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("relative", [False, True])
def test_a_link_stays_and_what_it_names_is_written(relative: bool, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    real = tmp_path / "there" / "file"
    real.touch(0o600)
    (tmp_path / "first").symlink_to("there/file" if relative else real)
    (tmp_path / "second").symlink_to("first")
    write_file(tmp_path / "second", "x")
    assert (tmp_path / "second").is_symlink()
    assert (tmp_path / "first").is_symlink()
    assert (real.read_text(), mode(real), os.listdir(real.parent)) == ("x", 0o600, ["file"])


def test_a_link_to_nothing_makes_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("new")
    write_file(tmp_path / "link", "x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "new").read_text() == "x"


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        write_file(tmp_path / "a", "x")
    with pytest.raises(InputError, match=r"cannot be written to .*give another file"):
        claim_file("--json", tmp_path / "a")
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_a_device_is_written_into(tmp_path: Path) -> None:
    for path in (Path("/dev/null"), tmp_path / "link"):
        if path.parent == tmp_path:
            path.symlink_to("/dev/null")
        claim_file("--json", path)
        write_file(path, "x")
        assert stat.S_ISCHR(path.stat().st_mode)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        write_file(Path("/dev/full"), "x")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    heard: list[bytes] = []
    reader = threading.Thread(target=lambda: heard.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_file(tmp_path / "pipe", b"x" * 200_000)  # more than a pipe holds
    reader.join(60)
    assert heard == [b"x" * 200_000]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_pipe_that_nobody_reads_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(jaxcnn._io.files, "PATIENCE", 0.1)
    with pytest.warns(RuntimeWarning, match="is a pipe that nobody reads"):
        write_file(tmp_path / "pipe", "x")


def test_a_stream_of_ones_own_is_printed_to(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    print("first")
    for name in ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
        claim_file("--json", Path(name))
        write_file(Path(name), f"{name}\n")
    assert capfd.readouterr().out == "first\n/dev/stdout\n/dev/fd/1\n/proc/self/fd/1\n"


@pytest.mark.parametrize("fails", ["write", "fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_no_scrap(
    fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("old")
    if fails == "write":
        fdopen = os.fdopen

        def full(number: int, *arguments: Any) -> Any:
            os.close(number)
            return fdopen(os.open("/dev/full", os.O_WRONLY), *arguments)

        monkeypatch.setattr(jaxcnn._io.files.os, "fdopen", full)
    else:
        monkeypatch.setattr(jaxcnn._io.files.os, fails, lambda *arguments: _refuse(errno.ENOSPC))
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as caught:
        write_file(tmp_path / "file", "new")
    assert caught.value.filename == str(tmp_path / "file")
    monkeypatch.undo()
    assert ((tmp_path / "file").read_text(), os.listdir(tmp_path)) == ("old", ["file"])


def test_a_file_system_without_fsync_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxcnn._io.files.os, "fsync", lambda number: _refuse(errno.EINVAL))
    write_file(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


def test_of_many_writers_at_once_one_is_found_whole(tmp_path: Path) -> None:
    path, size, problems = tmp_path / "file", 100_000, []
    write_file(path, "0" * size)

    def write(letter: str) -> None:
        try:
            for _ in range(10):
                write_file(path, letter * size)
                found = path.read_text()
                assert len(found) == size
                assert len(set(found)) == 1
        except BaseException as error:
            problems.append(error)

    writers = [threading.Thread(target=write, args=[letter]) for letter in "abcd"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert not problems
    assert os.listdir(tmp_path) == ["file"]


NAMES = ["[0.1]", "*", "?", "$HOME", "~", "a b", "\udcff\udcfe", "a\nb", "a\x1b[2J", "-out", "x" * 255, "%s", "{}", "∂y", "'\"", "a\\b", "#", ":"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_data(name: str, tmp_path: Path) -> None:
    try:
        (tmp_path / name).touch()
    except OSError:
        pytest.skip("this file system has no such names")
    (tmp_path / name).unlink()
    path = tmp_path / (name[:250] if len(name) == 255 else name) / name
    claim_file("--json", path)
    write_json(path, {"name": name})
    assert from_json(path.read_text()) == {"name": name}
    assert [os.listdir(tmp_path), os.listdir(path.parent)] == [[path.parent.name], [name]]


@pytest.mark.parametrize("name", ["x" * 256, "x" * 4000, "d/" * 3000, "a\0b", "\ud800"])
def test_a_name_that_no_file_can_have_is_refused_in_a_line(name: str, tmp_path: Path) -> None:
    for claim in (claim_file, claim_folder):
        with pytest.raises(InputError) as caught:
            claim("--out", tmp_path / name)
        said = str(caught.value)
        assert said.startswith(f"--out {tmp_path}")
        assert len(said) < 1000
        assert said.isprintable()
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="who may write everywhere")
def test_a_folder_that_is_not_to_be_written_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    for claim in (claim_file, claim_folder):
        with pytest.raises(InputError, match="cannot be written to"):
            claim("--out", tmp_path / "new")


@pytest.mark.parametrize("read", [read_lines, lambda path: read_sealed(path, "a list")])
def test_nobody_waits_for_a_pipe_or_reads_a_device_to_its_end(
    read: Callable[[Path], Any], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(OutsideError, match="is a pipe or a device"):
            read(tmp_path / name)


def test_a_log_does_not_wait_for_its_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match=os.strerror(errno.ENXIO)):
        Log(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with Log(tmp_path / "pipe") as log:
        log.write(step=1)
    assert os.read(reader, 100) == b'{"step": 1}\n'
    os.close(reader)
