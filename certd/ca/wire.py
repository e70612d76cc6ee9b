"""One HTTPS exchange: a kept connection for each thread and server, one deadline, one size.

Sockets of our own, answers read by llhttp: an exchange costs half of what ``http.client``
takes, and an issuance is nine of them. The deadline holds for the whole exchange, so that a
server that drips a byte now and then cannot hold a thread.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from certd.ca.reading import Answer, Reading, WireError
from certd.ca.route import DIRECT, Route, patience

REPLY_CAP = 1 << 20  # bytes; a directory, an order of 100 names, a long chain stay far below
HEAD_CAP = 1 << 16  # bytes of status line and headers
SILENCE = 15.0  # seconds without a byte
DEADLINE = 30.0  # seconds for a whole exchange, connecting included
FRESH = 0.1  # seconds for which a kept connection is used without a look at it
IDLE = 15.0  # seconds after which it is not trusted any more

# OpenSSL's reasons: where the other end has no version in common with us, and says so or not.
TOO_OLD = {"TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL"}
_CHUNK = 1 << 14  # bytes read at once: a TLS record has no more
_TARGET = re.compile(r"/[!-~]*")  # of a request; the rest would end its line


class Wire:
    """Shared by all threads; each has connections of its own."""

    def __init__(
        self,
        context: ssl.SSLContext,
        silence: float = SILENCE,
        deadline: float = DEADLINE,
        route: Route = DIRECT,
    ) -> None:
        self._context = context
        self._route = route
        self._silence = silence
        self._deadline = deadline
        self._mine = threading.local()
        self._all: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Hang up, for all threads; a later exchange connects anew."""
        with self._lock:
            for connection in self._all:
                connection.hang_up()

    def exchange(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        """Send and receive; follows no redirect, repeats nothing.

        Raises:
            WireError: no connection, no TLS, no whole answer in time, or too long a one.
        """
        try:
            parts = urlsplit(url)
            request = compose(method, parts, body, headers)
            connection = self._connection(parts)
        except ValueError as error:
            raise WireError(f"its URL is none ({error})"[:200]) from error
        deadline = time.monotonic() + self._deadline
        try:
            return connection.exchange(request, Reading(method == "HEAD"), deadline)
        except BaseException as error:
            connection.close()
            if isinstance(error, OSError | ValueError):
                raise WireError(_reason(error)) from error
            raise

    def _connection(self, parts: SplitResult) -> _Connection:
        kept: dict[str, _Connection] = self._mine.__dict__
        connection = kept.get(parts.netloc)
        if connection is None:
            address = (parts.hostname or "", parts.port or 443)
            connection = _Connection(address, self._context, self._route, self._silence)
            kept[parts.netloc] = connection
            with self._lock:
                self._all.add(connection)
        elif (idle := time.monotonic() - connection.used_at) > FRESH and (
            idle > IDLE or connection.stale()
        ):
            connection.close()  # it opens itself again
        return connection


class _Connection:
    """One thread's way to one server, opened when it is needed."""

    def __init__(
        self, address: tuple[str, int], context: ssl.SSLContext, route: Route, silence: float
    ) -> None:
        self._address = address
        self._context = context
        self._route = route
        self._silence = silence
        self._socket: ssl.SSLSocket | None = None
        self.used_at = 0.0

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def hang_up(self) -> None:
        """Close it for whoever waits in another thread too: without this he would wait on."""
        tls = self._socket
        if tls is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(tls, socket.SHUT_RDWR)
        self.close()

    def __del__(self) -> None:
        self.close()  # its thread has ended, as spare ones do

    def stale(self) -> bool:
        """Whether the server has hung up, or has said something that nobody asked for."""
        if self._socket is None:
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0) or self._socket.pending())

    def exchange(self, request: bytes, reading: Reading, deadline: float) -> Answer:
        tls = self._socket or self._open(deadline)
        self._limit(tls, deadline)
        tls.sendall(request)
        received = 0
        while not reading.done:
            self._limit(tls, deadline)
            try:
                data = tls.recv(_CHUNK)
            except ssl.SSLEOFError as error:
                raise reading.cut() from error
            if not data:
                reading.end()
                break
            received += len(data)
            reading.feed(data)
            if received > HEAD_CAP and not reading.status:
                raise WireError(f"the headers of its answer are longer than {HEAD_CAP} bytes")
            if received > HEAD_CAP + REPLY_CAP:
                raise WireError(f"the answer is longer than {REPLY_CAP} bytes")
        if not reading.keep:
            self.close()
        self.used_at = time.monotonic()
        return Answer(reading.status, reading.headers, b"".join(reading.body))

    def _open(self, deadline: float) -> ssl.SSLSocket:
        plain = self._route.connect(self._address, deadline, self._silence)
        try:
            plain.settimeout(self._patience(deadline))
            # Ragged: an end without the alert that says so, which anybody on the way can make.
            self._socket = self._context.wrap_socket(
                plain, server_hostname=self._address[0], suppress_ragged_eofs=False
            )
        except BaseException:
            plain.close()
            raise
        return self._socket

    def _limit(self, tls: ssl.SSLSocket, deadline: float) -> None:
        patience = self._patience(deadline)
        if patience != tls.gettimeout():  # setting it is a system call
            tls.settimeout(patience)

    def _patience(self, deadline: float) -> float:
        return patience(deadline, self._silence)


def compose(
    method: str,
    parts: SplitResult,
    body: bytes | None,
    headers: Mapping[str, str],
    *,
    whole: bool = False,
) -> bytes:
    """The octets of a request; ``whole``: with all of the URL, for a proxy (RFC 9112 section
    3.2.2).

    Raises:
        WireError: the URL would end its line.
    """
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    if not _TARGET.fullmatch(target) or not _TARGET.fullmatch(f"/{parts.netloc}"):
        raise WireError("its URL has characters that no URL may have")
    if whole:
        target = f"{parts.scheme}://{parts.netloc}{target}"
    lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + (body or b"")


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its HTTPS certificate is not trusted ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, ssl.SSLError) and error.reason in TOO_OLD:
        return "it speaks no version of TLS that is new enough"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}"[:200]
