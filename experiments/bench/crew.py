"""The processes of the peers, as the parent sees them: who could be started, and a line in, a line
out."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
REFERENCE = "reference"  # the plain network in float64
GRACE = 5.0  # seconds for a process to end by itself
WORDS = 300


class PeerError(RuntimeError):
    """A peer could not do what it was asked for; the message says why, in one line."""


class Crew:
    """Peers by name, each in a process of its own; :data:`REFERENCE` is one more."""

    def __init__(self, peers: Sequence[str], threads: int, folder: Path) -> None:
        self.absent: dict[str, str] = {}  # who could not be started, and why
        self.versions: dict[str, str] = {}
        commands = {peer: [peer, str(threads)] for peer in peers} | {
            REFERENCE: ["autodiff", str(threads), "x64"]
        }
        self._workers = {peer: _Worker(command, folder) for peer, command in commands.items()}

    def meet(self) -> None:
        """Wait until everybody has loaded their packages: before that, nothing can be timed."""
        for peer, worker in self._workers.items():
            try:
                self.versions |= worker.answer()["ready"]
            except PeerError as problem:
                self.absent[peer] = str(problem)

    def ask(self, peer: str, **order: Any) -> dict[str, Any]:
        """The answer. PeerError where there is none, or where it is a complaint."""
        if peer in self.absent:
            raise PeerError(self.absent[peer])
        return self._workers[peer].ask(order)

    def drop(self) -> None:
        """Everybody forgets what they have prepared."""
        for worker in self._workers.values():
            with contextlib.suppress(PeerError):
                worker.ask({"do": "drop"})

    def close(self) -> None:
        """End all processes."""
        for worker in self._workers.values():
            worker.close()


@contextlib.contextmanager
def crew(peers: Sequence[str], threads: int, folder: Path) -> Iterator[Crew]:
    """A crew that has met, for as long as the context lasts; its peers write what they must into
    ``folder``."""
    made = Crew(peers, threads, folder)
    try:
        made.meet()
        yield made
    finally:
        made.close()


class _Worker:
    """One process. Its stderr goes to a file, which a process that prints much cannot fill up as it
    could a pipe."""

    def __init__(self, arguments: list[str], folder: Path) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        # a session of its own: Ctrl-C is for the parent, which ends the workers
        self._process = subprocess.Popen(
            [sys.executable, "-m", "experiments.bench.worker", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            encoding="utf-8",
            start_new_session=True,
            env=_environment(folder),
        )

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise PeerError(self._last_words()) from None
        return self.answer()

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise PeerError(self._last_words())
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)
        self._said.seek(0)
        words = " ".join(self._said.read().decode(errors="replace").split())[-WORDS:]
        return f"its process died with status {self._process.returncode}: {words}"

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            # with the compilers that it may have started
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._said):
            with contextlib.suppress(OSError):  # what was still to be written has no reader
                if stream is not None:
                    stream.close()


def _environment(folder: Path) -> dict[str, str]:
    """The user's, but for where ``torch.compile`` keeps what it makes: it starts from nothing, and
    leaves nothing behind."""
    return {
        **os.environ,
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }
