"""Reads from somebody who may be slow, talkative or gone."""

import io
import socket
import time
from collections.abc import Callable

BUFFER = io.DEFAULT_BUFFER_SIZE


class LimitedReader(io.RawIOBase):
    """A socket's input up to so many bytes, until a moment: a byte now and then does not keep it open."""

    def __init__(self, connection: socket.socket, too_much: Callable[[], Exception]) -> None:
        """`too_much`: makes what is raised at more bytes than allowed."""
        self._connection, self._too_much = connection, too_much
        self._deadline, self._left = 0.0, 0

    def allow(self, size: int, seconds: float) -> None:
        """From now on: so much (what a buffer before it reads ahead comes on top), so long."""
        self._deadline, self._left = time.monotonic() + seconds, size + BUFFER

    def readable(self) -> bool:
        """As every input."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """What has come.

        Raises:
            TimeoutError: the time is over.
            Exception: `too_much`.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("too slow")
        if self._left <= 0:
            raise self._too_much()
        self._connection.settimeout(left)
        count = self._connection.recv_into(buffer, min(len(buffer), self._left))
        self._left -= count
        return count
