"""A connection between two processes that carries JSON objects, one a line.

>>> one, other = map(Connection, socket.socketpair())
>>> one.say({"at": "step 50"})
>>> other.hear(1.0)
{'at': 'step 50'}
>>> one.close()
>>> other.hear(1.0), other.broken
(None, True)
>>> other.close()
"""

import contextlib
import json
import socket
import time
from typing import Any

MOST = 1 << 16  # bytes of an object


class Connection:
    """One end of it."""

    def __init__(self, own: socket.socket) -> None:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._socket, self._rest, self.broken = own, b"", False

    def say(self, message: dict[str, Any]) -> None:
        """Send an object, if anybody still listens."""
        with contextlib.suppress(OSError):  # whoever listens here will find out
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def hear(self, timeout: float | None) -> dict[str, Any] | None:
        """The next object; None where it does not come in time, is none, or the connection is
        broken."""
        end = None if timeout is None else time.monotonic() + timeout
        try:
            while b"\n" not in self._rest:
                self._socket.settimeout(None if end is None else max(0.01, end - time.monotonic()))
                more = self._socket.recv(4096)
                if not more or len(self._rest) > MOST:
                    self.broken = True
                    return None
                self._rest += more
            text, _, self._rest = self._rest.partition(b"\n")
            found = json.loads(text)
            return found if isinstance(found, dict) else None
        except TimeoutError:
            return None
        except (OSError, ValueError, RecursionError):
            self.broken = True
            return None

    def close(self) -> None:
        """The other end hears nothing more."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
