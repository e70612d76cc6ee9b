"""Servers of one's own behind an endpoint: what each does with a connection is a function."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from certd.testing.tls import mint

Answer = Callable[[socket.socket], None]
PATIENCE = 10.0  # seconds; no test comes near it


@contextlib.contextmanager
def endpoint(answer: Answer, address: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """The port of a server that answers each connection so, one after the other."""
    with socket.create_server((address, port)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with contextlib.suppress(OSError), connection:
                    connection.settimeout(PATIENCE)
                    answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)


@dataclass
class Tls:
    """Answers with a certificate; ``asked`` is the SNI that came."""

    folder: Path
    names: tuple[str, ...] = ("www.example.com",)
    only_known_names: bool = False
    asked: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.minted = mint(self.folder, self.names)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.minted.fullchain, self.minted.key)
        self.context.sni_callback = self._choose

    def _choose(self, _: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> int | None:
        self.asked.append(name)
        unknown = self.only_known_names and name not in self.names
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME if unknown else None

    def __call__(self, connection: socket.socket) -> None:
        with self.context.wrap_socket(connection, server_side=True) as channel:
            channel.recv(1)
