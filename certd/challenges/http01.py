"""The HTTP-01 responder (RFC 8555 section 8.3), and the sockets that it listens on.

It faces the internet on port 80, so it knows one path and one answer, and gives every
connection little time and little memory. It must never log a token or a key
authorization. ``Webroot`` is offered here too: this is the door to
all of HTTP-01.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from socket import MSG_DONTWAIT
from typing import Any

from certd.challenges.listening import PortTaken, affordable_connections, open_sockets
from certd.challenges.redirect import to_https
from certd.challenges.webroot import Webroot
from certd.challenges.wellknown import (
    END_OF_HEAD,
    NOT_FOUND,
    OWN_LOOK,
    REQUEST,
    checked,
    found,
    nothing_else,
)
from certd.complaints import Complaints

__all__ = ["PortTaken", "Responder", "Webroot", "nothing_else", "open_sockets", "to_https"]

REQUEST_SECONDS = 5.0  # from accept to answer; a CA sends its request at once
MAX_REQUEST = 8 * 1024  # bytes of request line and headers
MAX_LOOKUPS = 256  # tokens that wait for the store at once; invented ones past it get 404
LOOKUP_THREADS = 2
STARVED_SECONDS = 0.2  # pause in accepting when the machine has no descriptor left
_BURST = 64  # connections accepted before the others get their turn

_STARVED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

log = logging.getLogger(__name__)


class _Connection:
    """One client; its ``repr`` is Python's own, so that no log can show what it sent."""

    __slots__ = ("deadline", "head", "received", "sock", "token")

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock = sock
        self.deadline = deadline  # the loop's clock
        self.received = b""
        self.token = ""
        self.head = False


class Responder:
    """Answers the CA's fetches, in one daemon thread of its own.

    ``lookup(token)`` gives the key authorization from the store or None. It may block: it
    runs in a thread pool, and only for tokens that ``publish`` did not name. ``on_served``
    is told of each token that was given out, on the responder's thread: it must be quick.
    certd's own looks are not told.

    ``request_seconds`` is the time from accept to answer. ``connections`` bounds the open
    ones; the default is ``MAX_CONNECTIONS``, or less where RLIMIT_NOFILE is low. At the
    bound the oldest that still waits makes room: a stalled one is always older than a
    real one, which is answered within a millisecond.

    ``otherwise`` answers a whole request that is for no token; it must be quick.
    """

    def __init__(
        self,
        lookup: Callable[[str], str | None],
        on_served: Callable[[str], None] | None = None,
        *,
        request_seconds: float = REQUEST_SECONDS,
        connections: int | None = None,
        otherwise: Callable[[bytes], bytes] = nothing_else,
    ) -> None:
        self._lookup = lookup
        self._on_served = on_served or (lambda token: None)
        self._request_seconds = request_seconds
        self._connections = connections
        self._otherwise = otherwise
        self._answers: dict[bytes, bytes] = {}
        self._waiting: OrderedDict[int, _Connection] = OrderedDict()  # oldest first
        self._listeners: list[socket.socket] = []
        self._lookups = 0
        self._sweeping = False
        self._complain = Complaints(log)
        self._thread: threading.Thread | None = None

    def publish(self, token: str, key_authorization: str) -> None:
        """Answer this token from memory. Any thread, before or after ``start``.

        Raises:
            ChallengeError: the token is malformed.
        """
        self._answers[checked(token).encode()] = found(key_authorization)

    def withdraw(self, token: str) -> None:
        """Forget the token; one that was not published is fine."""
        self._answers.pop(token.encode(), None)

    def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on these listening sockets, which belong to the responder from now on."""
        if self._thread is not None:
            raise RuntimeError("the responder is running already")
        self._loop = asyncio.new_event_loop()
        # Debug mode prints slow callbacks with their arguments and results: key
        # authorizations among them.
        self._loop.set_debug(False)
        self._loop.set_exception_handler(self._on_bug)
        self._executor = ThreadPoolExecutor(LOOKUP_THREADS, "http01-lookup")
        self._cap = self._connections or affordable_connections()
        self._listeners = list(sockets)
        for listener in self._listeners:
            listener.setblocking(False)
            self._loop.add_reader(listener, self._accept, listener)
        self._thread = threading.Thread(target=self._run, name="http01", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the sockets and end the thread. A second call, or one without a start, is fine."""
        if self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._thread = None

    def _run(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            for listener in self._listeners:
                self._loop.remove_reader(listener)
                listener.close()
            while self._waiting:
                self._drop_oldest()
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._lookups = 0
            self._sweeping = False
            self._loop.close()

    # Sockets rather than asyncio's transports: each system call gives the interpreter's
    # lock away, and winning it back from busy threads can take milliseconds. A request
    # costs accept, recv, send and close here, a transport needs twice as many.

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_BURST):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except (InterruptedError, ConnectionAbortedError):
                continue
            except OSError as error:
                if error.errno in _STARVED and self._waiting:
                    self._drop_oldest()
                    continue
                self._complain("cannot accept connections: %s", error.strerror)
                self._loop.remove_reader(listener)
                self._loop.call_later(STARVED_SECONDS, self._accept_again, listener)
                return
            if len(self._waiting) >= self._cap:
                self._drop_oldest()
            # Read at once: the request is nearly always there already.
            self._read(_Connection(sock, self._loop.time() + self._request_seconds))

    def _accept_again(self, listener: socket.socket) -> None:
        self._loop.add_reader(listener, self._accept, listener)

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(MAX_REQUEST, MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            self._wait(connection)
            return
        except OSError:
            data = b""
        if not data:
            self._close(connection)
            return
        received = connection.received = connection.received + data
        if len(received) > MAX_REQUEST:
            self._answer(connection, NOT_FOUND)
        elif END_OF_HEAD not in received:
            self._wait(connection)
        elif (request := REQUEST.match(received)) is None:
            self._answer(connection, self._otherwise(received))
        else:
            connection.head = request[1] == b"HEAD"
            connection.token = request[2].decode()
            answer = self._answers.get(request[2])
            if answer is None:
                self._look_up(connection)
            else:
                self._serve(connection, answer)

    def _wait(self, connection: _Connection) -> None:
        fd = connection.sock.fileno()
        if fd in self._waiting:
            return
        self._waiting[fd] = connection
        self._loop.add_reader(fd, self._read, connection)
        self._sweep_at(connection.deadline)

    def _look_up(self, connection: _Connection) -> None:
        if self._lookups >= MAX_LOOKUPS:
            self._answer(connection, NOT_FOUND)
            return
        self._lookups += 1
        fd = connection.sock.fileno()
        self._loop.remove_reader(fd)
        self._waiting.setdefault(fd, connection)
        self._sweep_at(connection.deadline)
        future = self._loop.run_in_executor(self._executor, self._lookup, connection.token)
        future.add_done_callback(partial(self._looked_up, connection))

    def _looked_up(self, connection: _Connection, future: asyncio.Future[str | None]) -> None:
        self._lookups -= 1
        error = future.exception()
        if error is not None:
            # Its text may hold the token, as SQLAlchemy's does.
            self._complain("the store could not be asked for a token: %s", type(error).__name__)
        if connection.sock.fileno() == -1:
            return  # out of time, or it made room for another
        key_authorization = None if error else future.result()
        if key_authorization is None:
            self._answer(connection, NOT_FOUND)
        else:
            self._serve(connection, found(key_authorization))

    def _serve(self, connection: _Connection, answer: bytes) -> None:
        if connection.head:
            head, end, _ = answer.partition(END_OF_HEAD)
            self._answer(connection, head + end)
        elif self._answer(connection, answer) and OWN_LOOK not in connection.received:
            self._on_served(connection.token)

    def _answer(self, connection: _Connection, answer: bytes) -> bool:
        # An answer is far smaller than any send buffer: it goes at once or never.
        try:
            sent = connection.sock.send(answer, MSG_DONTWAIT)
        except OSError:
            sent = 0
        self._close(connection)
        return sent == len(answer)

    def _close(self, connection: _Connection) -> None:
        fd = connection.sock.fileno()
        if self._waiting.pop(fd, None) is not None:
            self._loop.remove_reader(fd)
        connection.sock.close()

    def _drop_oldest(self) -> None:
        fd, connection = self._waiting.popitem(last=False)
        self._loop.remove_reader(fd)
        connection.sock.close()

    def _sweep_at(self, deadline: float) -> None:
        # All have the same time, so they run out in the order in which they came: one
        # timer for the oldest does for all.
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_at(deadline, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = False
        now = self._loop.time()
        while self._waiting:
            oldest = next(iter(self._waiting.values()))
            if oldest.deadline > now:
                self._sweep_at(oldest.deadline)
                return
            self._drop_oldest()

    def _on_bug(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # asyncio's own would print the arguments. The type must do.
        self._complain("the HTTP-01 responder failed: %s", type(context.get("exception")).__name__)
