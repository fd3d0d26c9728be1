"""The processes of one run, in touch from before JAX is loaded until the run has ended.

Process 0 listens at the address that JAX's coordinator will have, and nowhere else; the others call. What they were told to do is compared, and whether all see one folder, before any of
them begins. The connections stay: one that breaks tells at once of a process that is no more, and one that is silent of a process that is stopped. JAX alone would wait for minutes,
and then end the process from within.

    others → 0    {"jaxcnn": 1, "process": 1, "of": 2, "told": {"seed": "0", …}}
    0 → others    {"look": NAME}, of a file in the run's folder    others → 0    {"sees": true}
    0 → others    {"go": true}, or {"problem": "…"}
    both ways     {"at": {"1": ["step 50", 7, 0.2]}}, each second: what a process does, the how-manieth thing it is, seconds since it was heard of
                  {"ended": 1}, {"gone": "process 2 …"}
"""

import atexit
import contextlib
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from jaxcnn.command import BAD_INPUT, FAILED, INTERRUPTED, InputError, RunError
from jaxcnn.outside import OutsideError, printable
from jaxcnn.runs.connection import Connection
from jaxcnn.runs.same import difference

LATE = 10.0  # seconds after which it is said who is awaited
TICK = 1.0
GRACE = 5.0  # seconds that a process has to come to an end of its own
STRANGER = "what listens there is no run of jaxcnn; give a free port of process 0's host"


class Roll:
    """A context manager, in which the processes have met. ``at`` says what this one does now.

    Args:
        address: HOST:PORT of process 0.
        count, number: how many there are, and which this is.
        folder: the run's, which must be one for all.
        told: the settings and versions that must be the same for all.
        wait: seconds after which nobody is waited for any longer.

    Raises:
        InputError: the address cannot be used, or the processes were told different things.
        RunError: another process does not come.
    """

    def __init__(self, address: str, count: int, number: int, *, folder: Path, told: Mapping[str, str], wait: float) -> None:  # fmt: skip
        host, _, port = address.rpartition(":")
        self._address, self._port = (host.strip("[]"), int(port)), port
        self._count, self._number, self._folder, self._told, self._wait = count, number, folder, dict(told), wait
        self._peers: dict[int, Connection] = {}
        self._table: dict[int, tuple[str, int, float]] = {}  # what each does, the how-manieth, when that was heard
        self._doing, self._since = ("beginning", 0), time.monotonic()
        self._changed, self._over = threading.Condition(), threading.Event()
        self._said_of: set[tuple[int, int]] = set()
        self.gone = ""

    def __enter__(self) -> "Roll":
        try:
            self._meet()
        except BaseException:
            self._close()
            raise
        for number, peer in self._peers.items():
            threading.Thread(target=self._listen, args=(number, peer), daemon=True).start()
        threading.Thread(target=self._tick, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:  # fmt: skip
        unexplained = isinstance(error, Exception) and not isinstance(error, OutsideError | RunError)
        if unexplained:
            with self._changed:  # what JAX says of a peer that is gone may come before the connection breaks
                self._changed.wait_for(lambda: bool(self.gone), 2.0)
        self._over.set()
        failed = error is not None
        self._tell({"ended": int(failed)})
        if failed and self._number == 0:  # JAX ends the others from within as soon as process 0 is no more
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

    # before the run

    def _meet(self) -> None:
        self._until = time.monotonic() + self._wait
        if self._number == 0:
            self._gather()
        else:
            self._call()

    def _gather(self) -> None:
        """Process 0: until all others have called and said the same."""
        try:
            family, *_, place = socket.getaddrinfo(*self._address, type=socket.SOCK_STREAM)[0]
            door = socket.create_server(place[:2], family=family, backlog=self._count)  # JAX listens there next
        except (OSError, OverflowError) as error:
            raise InputError(f"--coordinator {_shown(self._address)}: cannot listen there ({os.strerror(error.errno) if isinstance(error, OSError) and (error.errno or 0) > 0 else error}); give an address and a free port of process 0's host") from None  # fmt: skip
        with door:
            name = f".jaxcnn-{secrets.token_hex(8)}"
            (self._folder / name).touch()
            try:
                for line in self._callers(door):
                    self._admit(line, name)
            except InputError as error:
                self._turn_away(door, str(error))
                raise
            finally:
                (self._folder / name).unlink(missing_ok=True)
        self._tell({"go": True})

    def _callers(self, door: socket.socket) -> Iterator[Connection]:
        while len(self._peers) < self._count - 1:
            missing = [str(number) for number in range(1, self._count) if number not in self._peers]
            who = f"process {', '.join(missing)} of {self._count}"
            self._patience(who, "to begin", "; start it, with the same --coordinator and --processes")
            door.settimeout(TICK / 4)
            with contextlib.suppress(TimeoutError):
                yield Connection(door.accept()[0])

    def _admit(self, line: Connection, name: str) -> None:
        """What a caller says is compared; one that says nothing of ours is left alone."""
        hello = line.hear(LATE)
        if not isinstance(hello, dict) or hello.get("jaxcnn") != 1 or not isinstance(hello.get("told"), dict):
            line.close()
            return
        number, count = hello.get("process"), hello.get("of")
        problem = ""
        if count != self._count:
            problem = f"process {number} has --processes {count}, process 0 {self._count}"
        elif not isinstance(number, int) or not 0 < number < self._count or number in self._peers:
            problem = f"two processes have --process {number}; number them from 0 to {self._count - 1}"
        else:
            problem = difference(0, self._told, number, hello["told"])
        if not problem:
            line.say({"look": name})
            answer = line.hear(LATE)
            if answer is None:
                line.close()
                return
            if answer.get("sees") is not True:
                problem = f"process {number} has another --out {self._folder} than process 0; give all one folder, on a disk that they share"
        if problem or not isinstance(number, int):
            line.say({"problem": problem})
            raise InputError(problem)
        self._peers[number] = line

    def _turn_away(self, door: socket.socket, problem: str) -> None:
        """Tell those who have called, and those who call in the next seconds."""
        self._tell({"problem": problem})
        end = time.monotonic() + 2.0
        while time.monotonic() < end and len(self._peers) < self._count - 1:
            door.settimeout(TICK / 4)
            with contextlib.suppress(OSError):
                line = Connection(door.accept()[0])
                line.say({"problem": problem})
                self._peers[-1 - len(self._peers)] = line

    def _call(self) -> None:
        """The others: until process 0 answers, and says that all are there."""
        line = self._reach()
        line.say({"jaxcnn": 1, "process": self._number, "of": self._count, "told": self._told})
        said = line.hear(LATE)
        if said is not None and isinstance(name := said.get("look"), str):
            line.say({"sees": self._sees(name)})
            while (said := line.hear(TICK)) is None and not line.broken:
                self._patience("the other processes", "to begin", "")
        elif said is None:
            line.close()
            raise InputError(f"--coordinator {_shown(self._address)}: {STRANGER}")
        if said is None:
            raise RunError("process 0 ended before the run began; its own message says why")
        if "go" not in said:
            raise InputError(printable(said.get("problem", STRANGER), 1000))
        self._peers[0] = line

    def _reach(self) -> Connection:
        while True:
            try:
                return Connection(socket.create_connection(self._address, timeout=TICK))
            except socket.gaierror as error:
                raise InputError(f"--coordinator {_shown(self._address)}: the host is not known ({error.strerror})") from None  # fmt: skip
            except OverflowError as error:
                raise InputError(f"--coordinator {_shown(self._address)}: is no address ({error})") from None
            except OSError:
                self._patience(f"process 0 at {_shown(self._address)}", "to begin", "; start it")
                time.sleep(TICK / 5)

    def _sees(self, name: str) -> bool:
        """Whether a file that process 0 has made is in this one's folder, too; shared disks take a moment."""
        for _ in range(20):
            if name in os.listdir(self._folder):
                return True
            time.sleep(TICK / 4)
        return False

    def _patience(self, who: str, what: str, hint: str) -> None:
        """Say it after a while; RunError when it has been long enough."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise RunError(f"waited {self._wait:g} s (--wait) for {who} {what}{hint}")
        if left < self._wait - LATE and (0, 0) not in self._said_of:
            self._said_of.add((0, 0))
            _write(f"waiting for {who} {what}{hint}; ends after {self._wait:g} s (--wait)")

    # while it goes on

    def _tell(self, message: dict[str, Any]) -> None:
        for line in list(self._peers.values()):
            line.say(message)

    def _tick(self) -> None:
        while not self._over.wait(TICK):
            now = time.monotonic()
            table = {str(number): [what, count, now - when] for number, (what, count, when) in self._table.items()}
            own = {str(self._number): [*self._doing, 0.0]}
            self._tell({"at": own if self._number else table | own})
            for number, (what, count, when) in list(self._table.items()):
                silent, behind = now - when, now - self._since if count < self._doing[1] else 0.0
                waited = max(silent, behind)
                why = f"process {number} ({printable(what, 80)}; {'it is silent: stopped, or cut off' if silent > LATE else 'this one is ahead'})"
                if waited > self._wait:
                    _leave(
                        f"error: waited {self._wait:g} s (--wait) for {why}; the checkpoints that were whole still are"
                    )
                if waited > LATE and (number, count) not in self._said_of:
                    self._said_of.add((number, count))
                    _write(f"waiting for {why}; ends after {self._wait:g} s (--wait)")

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
        self._lose(f"process {number} is gone: it was killed, or its host went down", 0.0 if number == 0 else GRACE)

    def _lose(self, gone: str, grace: float) -> None:
        """A process is no more, so that the others cannot go on."""
        with self._changed:
            self.gone = (
                self.gone
                or f"{printable(gone, 300)}; the checkpoints that were whole still are, and --resume goes on from the last"
            )
            self._changed.notify_all()
        if self._number == 0:
            self._tell({"gone": gone})
        if not self._over.wait(grace):
            _leave(f"error: {self.gone}")

    def _close(self) -> None:
        self._over.set()
        for line in list(self._peers.values()):
            line.close()


def _shown(address: tuple[str, int]) -> str:
    return printable(f"{address[0]}:{address[1]}")


def _write(text: str) -> None:
    """To stderr, if anybody still reads it."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{text}\n".encode(errors="backslashreplace"))


def _skip_goodbyes(status: int) -> None:
    """JAX's wait for the others when the interpreter ends, and then end the process from within."""
    jax = sys.modules.get("jax")
    if jax and jax.distributed.is_initialized():
        atexit.register(os._exit, status)  # what is registered last comes first


def _leave(text: str) -> None:
    """At once, as the main thread may be waiting inside of XLA."""
    _write(text)
    os._exit(FAILED)
