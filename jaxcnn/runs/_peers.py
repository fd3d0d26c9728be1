"""The processes of one run, in touch from before JAX is loaded until the run has ended.

Process 0 listens at the address that JAX's coordinator will have, and nowhere else; the others
call. Their settings are compared, and whether all see one folder, before any of them
begins. The connections stay: one that breaks tells at once of a process that is no more, and one
that is silent of a process that is stopped. JAX alone would wait for minutes, and then end the
process from within.

    both ways     {"at": {"1": ["step 50", 7, 0.2]}}, each second: what a process does, the
                  how-manieth thing it is, seconds since it was heard of
                  {"ended": 1}, {"gone": "process 2 …"}
"""

import atexit
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxcnn._io.command import BAD_INPUT, FAILED, INTERRUPTED, RunError
from jaxcnn._io.outside import OutsideError, printable
from jaxcnn.runs._connection import Connection
from jaxcnn.runs._meeting import LATE, TICK, Meeting, write

SILENT = "it is silent: stopped, or cut off"
GRACE = 5.0  # seconds that a process has to come to an end of its own


class Peers:
    """A context manager, in which the processes have met. ``at`` says what this one does now.

    Args:
        address: HOST:PORT of process 0.
        count, number: how many there are, and which this is.
        folder: the run's, which must be one for all.
        told: the settings and versions that must be the same for all.
        wait: seconds after which nobody is waited for any longer.

    Raises:
        InputError: the address cannot be used, or the settings of the processes differ.
        RunError: another process does not come.
    """

    def __init__(
        self,
        address: str,
        count: int,
        number: int,
        *,
        folder: Path,
        told: Mapping[str, str],
        wait: float,
    ) -> None:
        self._meeting = Meeting(address, count, number, folder=folder, told=told, wait=wait)
        self._number, self._wait = number, wait
        self._peers: dict[int, Connection] = {}
        # what each does, the how-manieth, when that was heard
        self._table: dict[int, tuple[str, int, float]] = {}
        self._doing, self._since = ("beginning", 0), time.monotonic()
        self._changed, self._over = threading.Condition(), threading.Event()
        self._said_of: set[tuple[int, int]] = set()
        self.gone = ""

    def __enter__(self) -> "Peers":
        self._peers = self._meeting.meet()
        for number, peer in self._peers.items():
            threading.Thread(target=self._listen, args=(number, peer), daemon=True).start()
        threading.Thread(target=self._tick, daemon=True).start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        unexplained = isinstance(error, Exception) and (
            not isinstance(error, OutsideError | RunError) or _from_jax(error)
        )
        if unexplained:
            # what JAX says of a peer that is gone may come before the connection breaks
            with self._changed:
                self._changed.wait_for(lambda: bool(self.gone), 2.0)
        self._over.set()
        failed = error is not None
        self._tell({"ended": int(failed)})
        # JAX ends the others from within as soon as process 0 is no more
        if failed and self._number == 0:
            end = time.monotonic() + GRACE + TICK
            while self._peers and time.monotonic() < end:
                time.sleep(0.05)
        self._close()
        if failed:
            _skip_goodbyes(
                INTERRUPTED
                if isinstance(error, KeyboardInterrupt)
                else BAD_INPUT
                if isinstance(error, OutsideError)
                else FAILED
            )
        if unexplained and self.gone:
            raise RunError(self.gone) from None

    def at(self, what: str) -> None:
        """This process does ``what`` now."""
        self._doing, self._since = (what, self._doing[1] + 1), time.monotonic()

    def _tell(self, message: dict[str, Any]) -> None:
        for line in list(self._peers.values()):
            line.say(message)

    def _tick(self) -> None:
        while not self._over.wait(TICK):
            now = time.monotonic()
            table = {
                str(number): [what, count, now - when]
                for number, (what, count, when) in self._table.items()
            }
            own = {str(self._number): [*self._doing, 0.0]}
            self._tell({"at": own if self._number else table | own})
            for number, (what, count, when) in list(self._table.items()):
                silent, behind = now - when, now - self._since if count < self._doing[1] else 0.0
                waited = max(silent, behind)
                why = (
                    f"process {number} ({printable(what, 80)};"
                    f" {SILENT if silent > LATE else 'this one is ahead'})"
                )
                if waited > self._wait:
                    _leave(
                        f"error: waited {self._wait:g} s (--wait) for {why}; the checkpoints that"
                        " were whole still are"
                    )
                if waited > LATE and (number, count) not in self._said_of:
                    self._said_of.add((number, count))
                    write(f"waiting for {why}; ends after {self._wait:g} s (--wait)")

    def _listen(self, number: int, line: Connection) -> None:
        """What one process says, until it ends."""
        while (said := line.hear(None)) is not None:
            if isinstance(states := said.get("at"), dict):
                for other, state in states.items():  # the process is one that has been admitted
                    if other != str(self._number):
                        what, count, ago = state
                        self._table[int(other)] = what, count, time.monotonic() - ago
            if "gone" in said:
                self._lose(str(said["gone"]), GRACE)
            if "ended" in said:
                self._table.pop(number, None)
                if said["ended"]:
                    self._lose(f"process {number} could not go on; its own message says why", GRACE)
                self._peers.pop(number, None)
                line.close()
                return
        self._peers.pop(number, None)
        self._table.pop(number, None)
        # without process 0 JAX ends this process from within, at once
        self._lose(
            f"process {number} is gone: it was killed, or its host went down",
            0.0 if number == 0 else GRACE,
        )

    def _lose(self, gone: str, grace: float) -> None:
        """A process is no more, so that the others cannot go on, if they have not ended
        themselves."""
        if self._over.is_set():
            return
        with self._changed:
            self.gone = (
                self.gone
                or f"{printable(gone, 300)}; the checkpoints that were whole still are, and"
                " --resume goes on from the last"
            )
            self._changed.notify_all()
        self._table.clear()  # nobody is waited for any longer
        if self._number == 0:
            self._tell({"gone": gone})
        if not self._over.wait(grace):
            _leave(f"error: {self.gone}")

    def _close(self) -> None:
        self._over.set()
        for line in list(self._peers.values()):
            line.close()


def _skip_goodbyes(status: int) -> None:
    """JAX's wait for the others when the interpreter ends, and then end the process from within."""
    jax = sys.modules.get("jax")
    if jax and jax.distributed.is_initialized():
        atexit.register(os._exit, status)  # what is registered last comes first


def _from_jax(error: BaseException | None) -> bool:
    """Whether it began with what JAX's runtime says, in words of its own, of a process that is no
    more."""
    jax = sys.modules.get("jax")
    return (
        jax is not None
        and error is not None
        and (
            isinstance(error, jax.errors.JaxRuntimeError)
            or _from_jax(error.__cause__ or error.__context__)
        )
    )


def _leave(text: str) -> None:
    """At once, as the main thread may be waiting inside of XLA."""
    write(text)
    os._exit(FAILED)
