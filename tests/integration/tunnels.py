"""A CONNECT proxy on loopback: it counts, refuses, asks who it is, hangs, and talks nonsense."""

from __future__ import annotations

import base64
import contextlib
import re
import select
import socket
import threading
from collections.abc import Mapping

from certd.testing.processes import Stopped

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Proxy(Stopped):
    """Passes bytes to whatever CONNECT names. ``asked`` has the host:port of each request.

    ``leads`` has the ports of loopback behind names that only it knows. ``pair`` is the
    user:password that it insists on. ``answer`` is what it says instead of
    passing anything; b"" hangs up, None says nothing and goes on listening.
    """

    def __init__(
        self,
        *,
        pair: str | None = None,
        answer: bytes | None = ESTABLISHED,
        scheme: str = "Basic",
        leads: Mapping[str, int] | None = None,
    ) -> None:
        self.pair, self.answer, self.scheme = pair, answer, scheme
        self._leads = leads or {}
        self.asked: list[str] = []
        self.passed = 0  # tunnels
        self.clients: list[str] = []  # addresses
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, client = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            self.clients.append(str(client[0]))
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                piece = connection.recv(4096)
                if not piece:
                    return
                head += piece
            found = re.match(rb"CONNECT (\S+) HTTP/1.1\r\nHost: \1\r\n", head)
            self.asked.append(found[1].decode() if found else head.decode("latin-1"))
            if self.pair is not None:
                wanted = b"Basic " + base64.b64encode(self.pair.encode())
                if b"\r\nProxy-Authorization: " + wanted + b"\r\n" not in head:
                    challenge = f"Proxy-Authenticate: {self.scheme} realm=x\r\nContent-Length: 0"
                    connection.sendall(f"HTTP/1.1 407 Who?\r\n{challenge}\r\n\r\n".encode())
                    return
            if self.answer is None:
                connection.recv(1)
                return
            if self.answer != ESTABLISHED or not found:
                connection.sendall(self.answer)
                return
            where = found[1].decode()
            host, _, port = where.rpartition(":")
            if where in self._leads:
                host, port = "127.0.0.1", str(self._leads[where])
            with socket.create_connection((host.strip("[]"), int(port))) as there:
                self._open.append(there)
                self.passed += 1
                connection.sendall(ESTABLISHED)
                _pass(connection, there)

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()


def _pass(one: socket.socket, other: socket.socket) -> None:
    to = {one: other, other: one}
    while True:
        for ready in select.select([one, other], [], [])[0]:
            data = ready.recv(65536)
            if not data:
                return
            to[ready].sendall(data)
