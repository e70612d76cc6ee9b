"""A name server at another address: its queries are passed on to where it really listens.

BIND listens only at addresses that an interface has, and 127.0.0.2 is none, though every
program may use it. Without root there is no other way to two servers at one port.
"""

from __future__ import annotations

import contextlib
import select
import socket
import socketserver
import threading

PATIENCE = 5.0  # seconds that a query waits: longer than anybody who asked


class Relay:
    """What comes to ``host:port``, over UDP and TCP, goes to ``backend`` on 127.0.0.1."""

    def __init__(self, host: str, port: int, backend: int) -> None:
        self._servers: list[socketserver.BaseServer] = []
        for kind, handler in ((_UDP, _Datagram), (_TCP, _Stream)):
            server = kind((host, port), handler)
            server.backend = backend
            self._servers.append(server)
            poll = {"poll_interval": 0.05}
            threading.Thread(target=server.serve_forever, kwargs=poll, daemon=True).start()

    def stop(self) -> None:
        while self._servers:
            server = self._servers.pop()
            server.shutdown()
            server.server_close()


class _UDP(socketserver.ThreadingUDPServer):
    daemon_threads = True
    block_on_close = False
    max_packet_size = 65535
    backend = 0


class _TCP(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64
    backend = 0


class _Datagram(socketserver.BaseRequestHandler):
    server: _UDP

    def handle(self) -> None:
        query, listener = self.request
        with (
            contextlib.suppress(OSError),  # the silence of a server that is gone
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as behind,
        ):
            behind.settimeout(PATIENCE)
            behind.connect(("127.0.0.1", self.server.backend))
            behind.send(query)
            listener.sendto(behind.recv(65535), self.client_address)


class _Stream(socketserver.BaseRequestHandler):
    server: _TCP

    def handle(self) -> None:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.server.backend), PATIENCE) as behind,
        ):
            other = {self.request: behind, behind: self.request}
            while ready := select.select(list(other), [], [], PATIENCE)[0]:
                for end in ready:
                    if not (data := end.recv(65535)):
                        return
                    other[end].sendall(data)
