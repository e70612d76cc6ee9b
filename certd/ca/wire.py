"""One HTTPS exchange: a kept connection for each thread and server, one deadline, one size.

Sockets of our own, answers read by llhttp (``httptools``): an exchange costs half of what
``http.client`` takes, and an issuance is nine of them. The deadline holds for the whole
exchange, so that a server that drips a byte now and then cannot hold a thread.
"""

from __future__ import annotations

import re
import select
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import httptools

REPLY_CAP = 1 << 20  # bytes; a directory, an order of 100 names, a long chain stay far below
HEAD_CAP = 1 << 16  # bytes of status line and headers
SILENCE = 15.0  # seconds without a byte
DEADLINE = 30.0  # seconds for a whole exchange, connecting included
FRESH = 0.1  # seconds for which a kept connection is used without a look at it
IDLE = 15.0  # seconds after which it is not trusted any more

_CHUNK = 1 << 14  # bytes read at once: a TLS record has no more
_TARGET = re.compile(r"/[!-~]*")  # of a request; the rest would end its line


class WireError(Exception):
    """There was no whole answer; the text says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers by lower-case names (of several the last, of Link all), the whole body."""

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
        try:
            parts = urlsplit(url)
            request = _request(method, parts, body, headers)
            connection = self._connection(parts)
        except ValueError as error:
            raise WireError(f"its URL is none ({error})"[:200]) from error
        deadline = time.monotonic() + self._deadline
        try:
            return connection.exchange(request, _Reading(method == "HEAD"), deadline)
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
            connection = kept[parts.netloc] = _Connection(address, self._context, self._silence)
            with self._lock:
                self._all.add(connection)
        elif (idle := time.monotonic() - connection.used_at) > FRESH and (
            idle > IDLE or connection.stale()
        ):
            connection.close()  # it opens itself again
        return connection


class _Connection:
    """One thread's way to one server, opened when it is needed."""

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext, silence: float) -> None:
        self._address = address
        self._context = context
        self._silence = silence
        self._socket: ssl.SSLSocket | None = None
        self.used_at = 0.0

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __del__(self) -> None:
        self.close()  # its thread has ended, as spare ones do

    def stale(self) -> bool:
        """Whether the server has hung up, or has said something that nobody asked for."""
        if self._socket is None:
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0) or self._socket.pending())

    def exchange(self, request: bytes, reading: _Reading, deadline: float) -> Answer:
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
        plain = self._connect(deadline)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.settimeout(self._patience(deadline))
            # Ragged: an end without the alert that says so, which anybody on the way can make.
            self._socket = self._context.wrap_socket(
                plain, server_hostname=self._address[0], suppress_ragged_eofs=False
            )
        except BaseException:
            plain.close()
            raise
        return self._socket

    def _connect(self, deadline: float) -> socket.socket:
        """To the first address that takes a connection; each gets its share of the time."""
        addresses = socket.getaddrinfo(*self._address, type=socket.SOCK_STREAM)
        for left, (family, kind, protocol, _, address) in zip(
            range(len(addresses), 0, -1), addresses, strict=True
        ):
            connection = socket.socket(family, kind, protocol)
            try:
                share = (deadline - time.monotonic()) / left
                connection.settimeout(min(self._patience(deadline), share))
                connection.connect(address)
            except BaseException as error:
                connection.close()
                if left == 1 or not isinstance(error, OSError):
                    raise
            else:
                return connection
        raise AssertionError("unreachable: no addresses are an error")

    def _limit(self, tls: ssl.SSLSocket, deadline: float) -> None:
        patience = self._patience(deadline)
        if patience != tls.gettimeout():  # setting it is a system call
            tls.settimeout(patience)

    def _patience(self, deadline: float) -> float:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return min(left, self._silence)


def _request(
    method: str, parts: SplitResult, body: bytes | None, headers: Mapping[str, str]
) -> bytes:
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    if not _TARGET.fullmatch(target) or not parts.netloc.isascii():
        raise WireError("its URL has characters that no URL may have")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + (body or b"")


class _Reading:
    """An answer as it comes in; the ``on_`` methods are called by the parser."""

    def __init__(self, head_only: bool) -> None:
        """``head_only``: the answer to a HEAD, which has no body whatever its headers say."""
        self._head_only = head_only
        self._parser = httptools.HttpResponseParser(self)
        self._begun = False
        self._unended = False  # the body ends where the connection does
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body: list[bytes] = []
        self.done = False
        self.keep = False  # whether another request may follow on this connection

    def feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.keep = False
            if not self.done:
                raise WireError(f"its answer is not HTTP ({error})"[:200]) from error

    def end(self) -> None:
        """The server has hung up, and has said so."""
        if not self._unended:
            raise self.cut()
        self.done = True

    def cut(self) -> WireError:
        """What it is when the connection ends here: no whole answer (RFC 9112 section 9.8)."""
        return WireError(
            "it hung up in the middle of its answer"
            if self._begun
            else "it closed the connection without an answer"
        )

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:  # what follows the body is no header (RFC 9110 section 6.5.1)
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            # Several of these mean the same as one with commas (RFC 9110 section 5.3).
            before = self.headers.get(key, "") if key == "link" else ""
            self.headers[key] = f"{before}, {text}" if before else text

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self.done or status < 200:  # 1xx: the answer is still to come
            return
        self.status = status
        bodiless = self._head_only or status in (204, 304)
        measured = {"content-length", "transfer-encoding"} & self.headers.keys()
        self._unended = not bodiless and not measured
        self.keep = not self._unended and self._parser.should_keep_alive()
        self.done = bodiless

    def on_body(self, data: bytes) -> None:
        if not self.done:
            self.body.append(data)

    def on_message_complete(self) -> None:
        if self.status:
            self.done = True
        else:
            self.headers.clear()

    def on_message_begin(self) -> None:
        self._begun = True
        if self.done:
            self.keep = False  # more than was asked for: whose answer would that be?


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its HTTPS certificate is not trusted ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}"[:200]
