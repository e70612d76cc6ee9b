"""An HTTPS server that answers every request with the bytes it is told to."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from certd.ca.wire import Wire
from certd.testing.tls import Minted

OK = b"HTTP/1.1 200 OK\r\n"


@contextmanager
def server(minted: Minted, answer: bytes, piece: int) -> Iterator[tuple[str, list[bytes]]]:
    """Gives each request this answer, so many bytes at a time; the URL, and what was asked."""
    goes_on = bool(re.search(rb"Content-Length|chunked|^HTTP/1.1 204", answer))

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(answer), piece):
            yield answer[start : start + piece]

    with saying(minted, pieces, goes_on=goes_on) as served:
        yield served


@contextmanager
def saying(
    minted: Minted,
    pieces: Callable[[], Iterator[bytes]],
    *,
    goes_on: bool = False,
    says_so: bool = True,
) -> Iterator[tuple[str, list[bytes]]]:
    """Gives each request these pieces, which may be without end, then waits for the next
    one or hangs up; and says so with TLS's alert, or not.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(minted.fullchain, minted.key)
    asked: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        # It has hung up, as it may.
        with (
            contextlib.suppress(OSError),
            connection,
            context.wrap_socket(connection, server_side=True) as tls,
        ):
            while request := tls.recv(65536):
                asked.append(request)
                for part in pieces():
                    tls.sendall(part)
                if not goes_on:
                    break
            if says_so:
                tls.unwrap()

    def accept() -> None:
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            serve(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"https://127.0.0.1:{listener.getsockname()[1]}", asked
        finally:
            listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)
    assert not thread.is_alive()


def wire(minted: Minted, silence: float = 5, deadline: float = 10) -> Wire:
    return Wire(ssl.create_default_context(cafile=minted.root), silence, deadline)
