"""Containers of a real engine, and a proxy before it, for the tests of the docker target."""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from certd.testing import docker as real


@dataclass
class Site:
    """Containers are gone with it; ``since`` is when it began."""

    engine: real.Docker
    since: float = field(default_factory=time.time)

    def make(self, name: str = "web", app: str = "web") -> real.Container:
        """A new one in place of one of the same name, with nothing that was copied into that."""
        self.since = time.time()
        return self.engine.run(name, app=app)

    def copied(self, container: real.Container) -> int:
        return self.engine.happened(container, self.since, "extract-to-dir")

    def told(self, container: real.Container) -> int:
        return self.engine.happened(container, self.since, "kill")

    def stop(self, container: real.Container) -> None:
        self.engine.request("POST", f"/containers/{container.id}/kill")
        self.engine.request("POST", f"/containers/{container.id}/wait")


class Front(socketserver.ThreadingUnixStreamServer):
    """What lies before the engine: it has an answer of its own, or one to some methods only."""

    daemon_threads = True

    def __init__(self, engine: Path, path: Path) -> None:
        super().__init__(str(path), _Passage)
        self.engine, self.path = engine, path
        self.status, self.body, self.method = 200, b"", ""

    def answer(self, status: int, body: bytes, method: str = "") -> None:
        self.status, self.body, self.method = status, body, method


class _Passage(socketserver.BaseRequestHandler):
    server: Front

    def handle(self) -> None:
        begun = b""
        while b"\r\n\r\n" not in begun and (part := self.request.recv(65536)):
            begun += part
        if begun.startswith(self.server.method.encode()):
            head = f"HTTP/1.1 {self.server.status} x\r\nContent-Length: {len(self.server.body)}"
            self.request.sendall(f"{head}\r\n\r\n".encode() + self.server.body)
            return
        with socket.socket(socket.AF_UNIX) as engine:
            engine.connect(str(self.server.engine))
            engine.sendall(self._whole(begun))
            while part := engine.recv(65536):
                self.request.sendall(part)

    def _whole(self, begun: bytes) -> bytes:
        """With what is sent after the head."""
        head, _, body = begun.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
        missing = int(length[1]) - len(body) if length else 0
        while missing > 0 and (part := self.request.recv(65536)):
            begun, missing = begun + part, missing - len(part)
        return begun


@contextlib.contextmanager
def before(engine: real.Docker) -> Iterator[Front]:
    with (
        tempfile.TemporaryDirectory(prefix="certd-front-") as folder,
        Front(engine.socket, Path(folder) / "sock") as server,
    ):
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
