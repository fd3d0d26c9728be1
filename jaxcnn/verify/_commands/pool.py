"""Workers as their parent sees them: a number of processes, each replaced when it dies, all stopped
when the parent stops listening."""

import json
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from jaxcnn._io.command import RunError
from jaxcnn.verify._commands import report_json
from jaxcnn.verify._commands.tasks import Task
from jaxcnn.verify._report import broken

WORDS = 2_000  # characters of what a dead worker last said on stderr
GRACE = 5.0  # seconds
COMMAND = (sys.executable, "-m", "jaxcnn.verify._commands.worker")


class CannotStartError(RunError):
    """A worker died before it was ready: so would the next one."""


def answers(
    tasks: Sequence[Task], setup: dict[str, Any], jobs: int
) -> Generator[tuple[Task, dict[str, Any]]]:
    """Each task with its answer, as they come. Closing the iterator stops the workers.

    Raises:
        CannotStartError: with what the worker said.
    """
    idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    every: list[_Worker] = []
    stopping = threading.Event()

    def perform(task: Task) -> dict[str, Any]:
        try:
            worker = idle.get_nowait()
        except queue.Empty:
            worker = _Worker()
            every.append(worker)
            # set before the list was gone through: one of the two sees the other
            if stopping.is_set():
                worker.kill()
            if worker.ask(setup) is None:
                raise CannotStartError(worker.last_words()) from None
        answer = worker.ask(task.order)
        if answer is None:
            dead = broken(
                f"{task.row}, {task.label}",
                worker.last_words(),
                f"python -m jaxcnn verify {task.again}",
            )
            return {"report": report_json.pack(dead)}
        idle.put(worker)
        return answer

    executor = ThreadPoolExecutor(jobs)
    futures = {executor.submit(perform, task): task for task in tasks}
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        stopping.set()
        for worker in every:
            worker.kill()
        executor.shutdown()
        for worker in every:
            worker.close()


class _Worker:
    """One process; a line in, a line out. Its stderr goes to a file, which a process that prints
    much cannot fill up as it could a pipe."""

    def __init__(self) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        # A session of its own: Ctrl-C is for the parent, which stops the workers
        self._process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            encoding="utf-8",
            start_new_session=True,
        )

    def ask(self, order: dict[str, Any]) -> dict[str, Any] | None:
        """The answer; None if the process died over it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except OSError:
            return None
        line = self._process.stdout.readline()
        return json.loads(line) if line.endswith("\n") else None

    def last_words(self) -> str:
        """How the process died, and the end of what it said."""
        try:
            status = self._process.wait(timeout=GRACE)
        except subprocess.TimeoutExpired:  # it lives, but has closed its stdout
            self.kill()
            status = self._process.wait()
        how = (
            f"signal {-status}, {signal.strsignal(-status)}"
            if status < 0
            else f"exit status {status}"
        )
        self._said.seek(0)
        words = self._said.read().decode(errors="replace").strip()[-WORDS:]
        return f"the worker process died ({how})" + (f"; its last words:\n{words}" if words else "")

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """Once nobody reads from it any more."""
        for stream in (self._process.stdin, self._process.stdout, self._said):
            try:
                if stream is not None:
                    stream.close()
            except OSError:  # what was still to be written has no reader
                pass
        self._process.wait()
