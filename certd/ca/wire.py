"""One HTTPS exchange: a kept connection for each thread and server, one deadline, one size.

Plain ``http.client``: an exchange costs half of what the next better library takes, and an
issuance is eight of them. The deadline holds for the whole exchange, so that a server that
drips a byte now and then cannot hold a thread.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

REPLY_CAP = 1 << 20  # bytes; a directory, an order of 100 names, a long chain stay far below
SILENCE = 15.0  # seconds without a byte
DEADLINE = 30.0  # seconds for a whole exchange, connecting included
IDLE = 15.0  # seconds after which a kept connection is not trusted any more


class WireError(Exception):
    """There was no whole answer; the text says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers with lower-case names (the last of several wins), and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Wire:
    """Shared by all threads; each has connections of its own."""

    def __init__(
        self, context: ssl.SSLContext, silence: float = SILENCE, deadline: float = DEADLINE
    ) -> None:
        self._context = context
        self._silence = silence
        self._deadline = deadline
        self._mine = threading.local()
        self._all: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Hang up, for all threads; a later exchange connects anew."""
        with self._lock:
            for connection in self._all:
                connection.close()

    def exchange(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        """Send and receive; follows no redirect, repeats nothing.

        Raises:
            WireError: no connection, no TLS, no whole answer in time, or too long a one.
        """
        parts = urlsplit(url)
        connection = self._connection(parts)
        path = parts.path or "/"
        try:
            connection.begin(time.monotonic() + self._deadline)
            connection.request(
                method, f"{path}?{parts.query}" if parts.query else path, body, headers
            )
            response = connection.getresponse()
            content = response.read(REPLY_CAP + 1)
            if len(content) > REPLY_CAP:
                raise WireError(f"the answer is longer than {REPLY_CAP} bytes")
            if not response.isclosed():
                response.read()  # the end of a chunked body, so that the connection can be kept
        except BaseException as error:
            connection.close()
            if isinstance(error, OSError | http.client.HTTPException | ValueError):
                raise WireError(_reason(error)) from error
            raise
        connection.used_at = time.monotonic()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, content)

    def _connection(self, parts: SplitResult) -> _Connection:
        kept: dict[str, _Connection] = self._mine.__dict__
        connection = kept.get(parts.netloc)
        if connection is None:
            connection = _Connection(
                parts.hostname or "", parts.port, context=self._context, timeout=self._silence
            )
            kept[parts.netloc] = connection
            with self._lock:
                self._all.add(connection)
        elif time.monotonic() - connection.used_at > IDLE:
            connection.close()  # it opens itself again
        return connection


class _Connection(http.client.HTTPSConnection):
    """Counts the time of a whole exchange, and of each silence in it."""

    used_at = 0.0
    deadline = 0.0

    def begin(self, deadline: float) -> None:
        self.deadline = deadline
        if self.sock is not None:
            self.sock.settimeout(self.timeout)

    def response_class(  # type: ignore[override]  # http.client calls it to make a response
        self, sock: socket.socket, *args: object, method: str | None = None
    ) -> http.client.HTTPResponse:
        shim = _Shim(sock, self.deadline, self.timeout or SILENCE)
        return http.client.HTTPResponse(shim, method=method)  # type: ignore[arg-type]


class _Shim:
    """What HTTPResponse asks of a socket: a file to read from."""

    def __init__(self, sock: socket.socket, deadline: float, silence: float) -> None:
        self._reader = _Reader(sock, deadline, silence)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self._reader)


class _Reader(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: float, silence: float) -> None:
        self._sock = sock
        # Holds the socket open: http.client closes its own hold on a connection that the
        # server will not keep as soon as it has read the headers.
        self._file = sock.makefile("rb", buffering=0)
        self._deadline = deadline
        self._silence = silence

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no whole answer in time")
        self._sock.settimeout(min(left, self._silence))
        return self._file.readinto(buffer) or 0

    def close(self) -> None:
        self._file.close()
        super().close()


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its HTTPS certificate is not trusted ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, http.client.RemoteDisconnected):
        return "it closed the connection without an answer"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}"[:200]
