"""How the processes of a run meet: process 0 listens, the others call, and nobody begins before all
have the same settings and see one folder.

others → 0    {"jaxcnn": 1, "process": 1, "of": 2, "told": {"--seed": "0", …}}
0 → others    {"look": NAME}, of a file in the run's folder
others → 0    {"sees": true}
0 → others    {"awaited": "process 2 of 3"} while it is so, then {"go": true}; or {"problem": "…"}
"""

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxcnn._io.command import InputError, RunError, expect
from jaxcnn._io.outside import printable
from jaxcnn.runs._agreement import difference
from jaxcnn.runs._connection import Connection

LATE = 10.0  # seconds after which it is said who is awaited
TICK = 1.0
STRANGER = "what listens there is no run of jaxcnn; give a free port of process 0's host"


def parts(
    said: str, address: str, wanted: str = "HOST:PORT with a port from 1 to 65535"
) -> tuple[str, int]:
    """Host and port. InputError, in which it is called ``said``, where ``address`` is not
    HOST:PORT.

    >>> parts("--coordinator", "[::1]:8476")
    ('::1', 8476)
    """
    host, _, port = address.rpartition(":")
    decimal = port.isascii() and port.isdecimal() and len(port) < 6
    expect(bool(host) and decimal and 0 < int(port) < 1 << 16, said, wanted, address)
    return host.strip("[]"), int(port)


def listen(address: tuple[str, int], said: str, backlog: int = 1) -> socket.socket:
    """A socket that listens there. InputError, in which it is called ``said``, where none can."""
    try:
        family, *_, place = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
        return socket.create_server(place[:2], family=family, backlog=backlog)
    except (OSError, OverflowError, UnicodeError) as error:
        number = (
            getattr(error, "errno", None) or 0
        )  # negative where a name means nothing, which the system has no words for
        why = os.strerror(number) if number > 0 else error
        raise InputError(
            f"{said}: cannot listen there ({why}); give an address and a free port of process 0's"
            " host"
        ) from None


class Meeting:
    """One process's part in it; the arguments are those of :class:`jaxcnn.runs._peers.Peers`."""

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
        self._address, self._count, self._number = parts("--coordinator", address), count, number
        self._folder, self._told, self._wait = folder, dict(told), wait
        self._peers: dict[int, Connection] = {}
        self._until, self._said = time.monotonic() + wait, False

    def meet(self) -> dict[int, Connection]:
        """Connections to the others, by their numbers; of process 0 to all, of each other to
        process 0. Raises as :class:`jaxcnn.runs._peers.Peers` says."""
        try:
            if self._number == 0:
                self._gather()
            else:
                self._call()
        except BaseException:
            self._send_away()
            raise
        return self._peers

    def _send_away(self) -> None:
        for line in self._peers.values():
            line.close()

    def _gather(self) -> None:
        """Process 0: until all others have called and said the same."""
        # JAX listens there next
        door = listen(self._address, f"--coordinator {shown(self._address)}", self._count)
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
            self._patience(who, "; start it, with the same --coordinator and --processes")
            self._tell({"awaited": who})
            door.settimeout(TICK / 4)
            with contextlib.suppress(TimeoutError):
                yield Connection(door.accept()[0])

    def _admit(self, line: Connection, name: str) -> None:
        """What a caller says is compared; one that says nothing of ours is left alone."""
        hello = line.hear(LATE)
        if (
            not isinstance(hello, dict)
            or hello.get("jaxcnn") != 1
            or not isinstance(hello.get("told"), dict)
        ):
            line.close()
            return
        number, count = hello.get("process"), hello.get("of")
        problem = ""
        if count != self._count:
            problem = f"process {number} has --processes {count}, process 0 {self._count}"
        elif not isinstance(number, int) or not 0 < number < self._count or number in self._peers:
            problem = (
                f"two processes have --process {number}; number them from 0 to {self._count - 1}"
            )
        else:
            problem = difference(0, self._told, number, hello["told"])
        if not problem:
            line.say({"look": name})
            answer = line.hear(LATE)
            if answer is None:
                line.close()
                return
            if answer.get("sees") is not True:
                problem = (
                    f"process {number} has another --out {self._folder} than process 0; give all"
                    " one folder, on a disk that they share"
                )
        if problem or not isinstance(number, int):
            self._peers[-1] = line  # to be told with the others
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
                line.hear(TICK)  # what is closed unread takes with it what was said
                line.say({"problem": problem})
                self._peers[-1 - len(self._peers)] = line

    def _call(self) -> None:
        """The others: until process 0 answers, and says that all are there."""
        line = self._peers[0] = self._reach()
        line.say({"jaxcnn": 1, "process": self._number, "of": self._count, "told": self._told})
        said = line.hear(LATE)
        if said is not None and isinstance(name := said.get("look"), str):
            line.say({"sees": self._sees(name)})
            who = "the other processes"
            while not line.broken and ((said := line.hear(TICK)) is None or "awaited" in said):
                who = str((said or {}).get("awaited", who))
                self._patience(printable(who, 200), "")
        elif said is None:
            raise InputError(f"--coordinator {shown(self._address)}: {STRANGER}")
        if said is None:
            raise RunError("process 0 ended before the run began; its own message says why")
        if "go" not in said:
            raise InputError(printable(said.get("problem", STRANGER), 1000))

    def _reach(self) -> Connection:
        while True:
            try:
                return Connection(socket.create_connection(self._address, timeout=TICK))
            except socket.gaierror as error:
                raise InputError(
                    f"--coordinator {shown(self._address)}: the host is not known"
                    f" ({error.strerror})"
                ) from None
            except OverflowError as error:
                raise InputError(
                    f"--coordinator {shown(self._address)}: is no address ({error})"
                ) from None
            except OSError:
                self._patience(f"process 0 at {shown(self._address)}", "; start it")
                time.sleep(TICK / 5)

    def _sees(self, name: str) -> bool:
        """Whether a file that process 0 has made is in this one's folder, too; shared disks take a
        moment, for which the others wait."""
        for _ in range(max(1, int(min(LATE / 2, self._wait / 4) / (TICK / 4)))):
            if name in os.listdir(self._folder):
                return True
            time.sleep(TICK / 4)
        return False

    def _patience(self, who: str, hint: str) -> None:
        """Say it after a while; RunError when it has been long enough."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise RunError(f"waited {self._wait:g} s (--wait) for {who} to begin{hint}")
        if left < self._wait - LATE and not self._said:
            self._said = True
            write(f"waiting for {who} to begin{hint}; ends after {self._wait:g} s (--wait)")

    def _tell(self, message: dict[str, Any]) -> None:
        for line in self._peers.values():
            line.say(message)


def shown(address: tuple[str, int]) -> str:
    """As it was given."""
    return printable(f"{address[0]}:{address[1]}")


def write(text: str) -> None:
    """A line to stderr, from whatever thread, if anybody still reads it."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{text}\n".encode(errors="backslashreplace"))
