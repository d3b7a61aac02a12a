"""A socket to a process as the wire's transport: the serial line of emulators and of the host."""

from __future__ import annotations

import select
import socket

from tinyhil.harness.deadline import Deadline


class SocketLine:
    """One end of a `socket.socketpair()`; the other end belongs to the process that runs firmware."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def write(self, data: bytes) -> None:
        """Sends all of `data`; EOFError if the process is gone."""
        try:
            self._end.sendall(data)
        except OSError as error:
            raise EOFError(str(error)) from error

    def read(self, deadline: Deadline) -> bytes:
        """What has come, waiting until `deadline` for the first byte; EOFError at the end."""
        ready, _, _ = select.select([self._end], [], [], deadline.remaining())
        if not ready:
            return b""
        try:
            data = self._end.recv(65536)
        except OSError as error:
            raise EOFError(str(error)) from error
        if not data:
            raise EOFError("the process has ended")
        return data


def wait_until_closed(line: SocketLine, deadline: Deadline) -> None:
    """Reads and drops what comes until the process closes its end or `deadline` passes."""
    while not deadline.expired:
        try:
            line.read(deadline)
        except EOFError:
            return
