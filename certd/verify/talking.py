"""A conversation with a stranger: one deadline for all of it, and caps on what is read."""

from __future__ import annotations

import socket
import time

MOST_LINE = 8192  # bytes; IMAP's capabilities are the longest that are known
MOST_BYTES = 64 * 1024  # of all that is read


class Refusal(Exception):
    """The other side answered, and not with what was needed: ``why``, and ``next``.

    ``passing``: it says that it would answer otherwise at another time.
    """

    def __init__(
        self, why: str, next: str = "look into the server's log", *, passing: bool = False
    ) -> None:
        super().__init__(why, next)
        self.why = why
        self.next = next
        self.passing = passing


def left(deadline: float) -> float:
    """Seconds to the deadline, of the monotonic clock, as a socket wants them."""
    # Zero would mean "do not wait at all" to a socket, and fail with another error.
    return max(deadline - time.monotonic(), 0.001)


class Talk:
    """Lines and octets of a connected socket. Each method may raise OSError, TimeoutError too."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline
        self._buffer = b""
        self._read = 0

    def send(self, data: bytes) -> None:
        self._connection.settimeout(left(self._deadline))
        self._connection.sendall(data)

    def line(self) -> str:
        """The next line, without its end.

        Raises:
            Refusal: it is too long.
        """
        while b"\n" not in self._buffer:
            if len(self._buffer) > MOST_LINE:
                raise Refusal(f"it sent a line of more than {MOST_LINE:,} bytes")
            self._more(4096)
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.rstrip(b"\r").decode("utf-8", errors="replace")

    def octets(self, number: int) -> bytes:
        """Exactly so many, and no more of them are taken from the connection."""
        while len(self._buffer) < number:
            self._more(number - len(self._buffer))
        taken, self._buffer = self._buffer[:number], self._buffer[number:]
        return taken

    def end(self) -> None:
        """From here on it is TLS.

        Raises:
            Refusal: something came in the clear beyond the last answer. It might have been put
                there by somebody on the way (CVE-2011-0411, CVE-2021-23222), and would be taken
                for what the server says under TLS.
        """
        if self._buffer:
            raise Refusal(
                "it sent more than its answer before TLS began",
                "find out what is between here and the server",
            )

    def _more(self, most: int) -> None:
        if self._deadline <= time.monotonic():
            raise TimeoutError("timed out")
        self._connection.settimeout(left(self._deadline))
        chunk = self._connection.recv(most)
        if not chunk:
            raise ConnectionError("the connection was closed")
        self._read += len(chunk)
        if self._read > MOST_BYTES:
            raise Refusal(f"it sent more than {MOST_BYTES:,} bytes")
        self._buffer += chunk
