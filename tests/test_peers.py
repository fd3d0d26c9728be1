"""Processes of a run that meet before JAX is loaded: what is the same, what is not, who does not
come. Threads stand in for the processes."""

import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from jaxcnn._io.command import InputError, RunError
from jaxcnn.runs._meeting import Meeting
from jaxcnn.runs._peers import Peers

TOLD = {"--seed": "0", "--out of which": "a", "jax": "0.10.2"}


@pytest.fixture
def port() -> int:
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return own.getsockname()[1]


def together(
    port: int,
    where: Path,
    *numbers: int,
    count: int = 2,
    wait: float = 5.0,
    **others: dict[int, Any],
) -> dict[int, Any]:
    """What came of the meeting for each of the processes: the numbers of those it is in touch with,
    or the error."""
    ends: dict[int, Any] = {}

    def meet(number: int) -> None:
        given = {"folder": where, "told": TOLD, "wait": wait, "counts": count}
        settings: dict[str, Any] = given | {
            name: own[number] for name, own in others.items() if number in own
        }
        try:
            peers = Meeting(f"127.0.0.1:{port}", settings.pop("counts"), number, **settings).meet()
            ends[number] = sorted(peers)
            time.sleep(0.1)
            for line in peers.values():
                line.close()
        except (InputError, RunError) as error:
            ends[number] = error

    threads = [threading.Thread(target=meet, args=(number,)) for number in numbers or range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends


@pytest.mark.parametrize("count", [2, 4])
def test_those_who_were_told_the_same_meet(port: int, tmp_path: Path, count: int) -> None:
    ends = together(port, tmp_path, count=count)
    assert ends == {0: list(range(1, count))} | {number: [0] for number in range(1, count)}
    assert list(tmp_path.iterdir()) == []


def test_the_address_is_free_for_jax_afterwards_while_the_connections_stay(
    port: int, tmp_path: Path
) -> None:
    found: dict[int, Any] = {}
    threads = [
        threading.Thread(
            target=lambda n=n: found.update(
                {n: Meeting(f"127.0.0.1:{port}", 2, n, folder=tmp_path, told=TOLD, wait=5).meet()}
            )
        )
        for n in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with socket.create_server(("127.0.0.1", port)):
        found[0][1].say({"still": "here"})
        assert found[1][0].hear(5.0) == {"still": "here"}
    for number in found:
        found[number][1 - number].close()


def test_one_that_was_told_otherwise_is_named_to_all(port: int, tmp_path: Path) -> None:
    ends = together(port, tmp_path, count=3, told={2: {**TOLD, "--seed": "\x1b[2J7"}})
    words = "process 2 has --seed \\x1b[2J7, process 0 has 0; give all processes the same"
    assert {number: str(error) for number, error in ends.items()} == dict.fromkeys(range(3), words)


def test_a_setting_that_only_one_has_is_a_difference(port: int, tmp_path: Path) -> None:
    ends = together(port, tmp_path, told={1: {**TOLD, "JAX_ENABLE_X64": "1"}})
    assert "process 1 has JAX_ENABLE_X64 1, process 0 has None" in str(ends[0])


def test_another_folder_is_named_to_all(port: int, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    ends = together(port, tmp_path / "a", folder={1: tmp_path / "b"}, wait=20.0)
    assert all("process 1 has another --out" in str(error) for error in ends.values())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_another_count_is_named_to_all(port: int, tmp_path: Path) -> None:
    ends = together(port, tmp_path, 0, 1, count=2, counts={1: 3})
    assert {str(error) for error in ends.values()} == {"process 1 has --processes 3, process 0 2"}


def test_one_that_does_not_come_is_named_to_all(port: int, tmp_path: Path) -> None:
    ends = together(port, tmp_path, 0, 1, count=3, wait=1.0)
    assert (
        str(ends[0])
        == "waited 1 s (--wait) for process 2 of 3 to begin; start it, with the same --coordinator"
        " and --processes"
    )
    assert str(ends[1]) in (
        "waited 1 s (--wait) for process 2 of 3 to begin",
        "process 0 ended before the run began; its own message says why",
    )


def test_without_process_0(port: int, tmp_path: Path) -> None:
    end = together(port, tmp_path, 1, wait=1.0)[1]
    assert str(end) == f"waited 1 s (--wait) for process 0 at 127.0.0.1:{port} to begin; start it"
    assert isinstance(end, RunError)


def test_an_address_that_is_taken(port: int, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", port)):
        began = time.monotonic()
        end = together(port, tmp_path, 0, wait=60.0)[0]
    assert (
        str(end)
        == f"--coordinator 127.0.0.1:{port}: cannot listen there (Address already in use); give an"
        " address and a free port of process 0's host"
    )
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("noise", [b"", b"GET / HTTP/1.1\r\n\r\n", b"[" * 70_000 + b"\n", json.dumps({"jaxcnn": 2}).encode() + b"\n", b"\xff\n"])  # fmt: skip
def test_strangers_who_call_are_left_alone(port: int, tmp_path: Path, noise: bytes) -> None:
    def stranger() -> None:
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port)) as own:
                    own.sendall(noise)
                    return
            except OSError:
                time.sleep(0.01)

    calls = threading.Thread(target=stranger)
    calls.start()
    first = threading.Thread(target=lambda: ends.update(together(port, tmp_path, 0, wait=20.0)))
    ends: dict[int, Any] = {}
    first.start()
    calls.join()
    ends |= together(port, tmp_path, 1, wait=20.0)
    first.join()
    assert ends == {0: [1], 1: [0]}


def test_a_process_that_leaves_with_an_error_is_told_of(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anybody has to be ended."""
    left: list[str] = []
    monkeypatch.setattr("jaxcnn.runs._peers.GRACE", 0.2)
    monkeypatch.setattr("jaxcnn.runs._peers._leave", left.append)

    def other() -> None:
        with (
            pytest.raises(ValueError, match="a bug"),
            Peers(f"127.0.0.1:{port}", 2, 1, folder=tmp_path, told=TOLD, wait=20.0),
        ):
            raise ValueError("a bug")

    thread = threading.Thread(target=other)
    thread.start()
    with Peers(f"127.0.0.1:{port}", 2, 0, folder=tmp_path, told=TOLD, wait=20.0) as roll:
        thread.join()
        end = time.monotonic() + 10
        while not left and time.monotonic() < end:
            time.sleep(0.01)
    assert roll.gone.startswith(
        "process 1 could not go on; its own message says why; the checkpoints that were whole"
    )
    assert left == [f"error: {roll.gone}"]
