"""Docker's Engine API on a unix socket, strict, over containers that are folders.

After https://docs.docker.com/reference/api/engine/version/v1.41/: containers by name or label,
their archives, signals and programs. An archive is unpacked as the engine does it: entry by
entry, and what is in the way of one is removed first. Programs are ``mv -fT``, ``rm -rf`` and what
a test adds.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import socketserver
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Answer = tuple[int, bytes]
Program = Callable[["Container", list[str]], tuple[int, str]]


@dataclass
class Container:
    id: str
    name: str
    root: Path
    labels: dict[str, str] = field(default_factory=dict)
    running: bool = True
    signals: list[str] = field(default_factory=list)
    programs: dict[str, Program] = field(default_factory=dict)
    ran: list[list[str]] = field(default_factory=list)
    copies: int = 0  # of keys

    def at(self, path: str) -> Path:
        assert path.startswith("/"), path
        return self.root / path.lstrip("/")


def said(status: int, message: str) -> Answer:
    return status, json.dumps({"message": message}).encode()


@dataclass
class Engine:
    folder: Path
    containers: dict[str, Container] = field(default_factory=dict)
    execs: dict[str, tuple[Container, list[str], int | None]] = field(default_factory=dict)
    refuses: Callable[[str, str], Answer | None] = lambda method, path: None

    def create(self, name: str, **labels: str) -> Container:
        """A new one in place of one of the same name, with nothing that was copied into that."""
        identity = f"{name}{len(list(self.folder.iterdir()))}".encode().hex().ljust(64, "0")
        root = self.folder / identity
        (root / "etc/ssl").mkdir(parents=True)
        container = Container(identity, name, root, labels)
        container.programs = {"mv": _mv, "rm": _rm}
        self.containers[name] = container
        return container

    def slowly(self, path: str) -> bool:
        """Whether this is a program that writes something all the time, and does not end."""
        found = re.search(r"/exec/([^/]+)/start$", path)
        return found is not None and self.execs[found[1]][1][0] == "tail"

    def answer(self, method: str, target: str, kind: str, body: bytes) -> Answer:
        parts = urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        path = re.sub(r"^/v1\.[0-9]+", "", parts.path)
        if refused := self.refuses(method, path):
            return refused
        if (method, path) == ("GET", "/containers/json"):
            return 200, json.dumps(self._listed(json.loads(query["filters"]))).encode()
        if found := re.fullmatch(r"/containers/([^/]+)/(json|archive|kill|exec)", path):
            container = self._container(found[1])
            if container is None:
                return said(404, f"No such container: {found[1]}")
            act = getattr(self, f"_{method.lower()}_{found[2]}")
            answer: Answer = act(container, query, kind, body)
            return answer
        if found := re.fullmatch(r"/exec/([^/]+)/(start|json)", path):
            return self._exec(found[1], found[2], body)
        return said(404, "page not found")

    def _container(self, wanted: str) -> Container | None:
        for one in self.containers.values():
            if wanted in (one.id, one.name):
                return one
        return None

    def _listed(self, filters: dict[str, list[str]]) -> list[dict[str, Any]]:
        assert filters.keys() <= {"label", "status"}, filters
        return [
            {"Id": one.id, "Names": [f"/{one.name}"], "Labels": one.labels, "State": "running"}
            for one in self.containers.values()
            if one.running and set(filters["label"]) <= {f"{k}={v}" for k, v in one.labels.items()}
        ]

    def _get_json(self, container: Container, *_: Any) -> Answer:
        state = {"Running": container.running}
        return 200, json.dumps({"Id": container.id, "State": state}).encode()

    def _get_archive(self, container: Container, query: dict[str, str], *_: Any) -> Answer:
        path = container.at(query["path"])
        if not os.path.lexists(path):
            return said(
                404, f"Could not find the file {query['path']} in container {container.name}"
            )
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.add(path, path.name)  # a link as itself
        return 200, buffer.getvalue()

    def _put_archive(
        self, container: Container, query: dict[str, str], kind: str, body: bytes
    ) -> Answer:
        folder = container.at(query["path"])
        if not folder.is_dir():
            return said(
                404, f"Could not find the file {query['path']} in container {container.name}"
            )
        if kind != "application/x-tar":
            return said(400, "not a tar archive")
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            container.copies += any(name.endswith("/privkey.pem") for name in archive.getnames())
            for entry in archive:
                there = folder / entry.name
                is_folder = there.is_dir() and not there.is_symlink()
                if not there.parent.is_dir():
                    there.parent.mkdir(parents=True)
                if is_folder and not entry.isdir() and query.get("noOverwriteDirNonDir") == "1":
                    return said(400, f"cannot overwrite directory {there} with non-directory")
                if os.path.lexists(there) and not is_folder:
                    there.unlink()
                archive.extract(entry, folder, filter="fully_trusted")
        return 200, b""

    def _post_kill(self, container: Container, query: dict[str, str], *_: Any) -> Answer:
        if not container.running:
            return said(409, f"Container {container.id} is not running")
        container.signals.append(query["signal"])
        return 204, b""

    def _post_exec(self, container: Container, _: Any, kind: str, body: bytes) -> Answer:
        if not container.running:
            return said(409, f"Container {container.id} is not running")
        if kind != "application/json":
            return said(400, "unsupported Content-Type")
        identity = f"e{len(self.execs)}"
        self.execs[identity] = (container, json.loads(body)["Cmd"], None)
        return 201, json.dumps({"Id": identity}).encode()

    def _exec(self, identity: str, what: str, body: bytes) -> Answer:
        if identity not in self.execs:
            return said(404, f"No such exec instance: {identity}")
        container, argv, code = self.execs[identity]
        if what == "json":
            return 200, json.dumps({"ExitCode": code, "Running": code is None}).encode()
        assert json.loads(body) == {"Detach": False, "Tty": False}
        missing = f'OCI runtime exec failed: exec: "{argv[0]}": executable file not found in $PATH'
        program = container.programs.get(argv[0])
        container.ran.append(argv)
        code, text = (126, missing) if program is None else program(container, argv)
        self.execs[identity] = (container, argv, code)
        head = bytes([1, 0, 0, 0]) + len(text.encode()).to_bytes(4, "big")
        return 200, head + text.encode() if text else b""


def _mv(container: Container, argv: list[str]) -> tuple[int, str]:
    assert argv[1] == "-fT"
    container.at(argv[2]).replace(container.at(argv[3]))
    return 0, ""


def _rm(container: Container, argv: list[str]) -> tuple[int, str]:
    assert argv[1] == "-rf"
    for path in argv[2:]:
        there = container.at(path)
        if there.is_symlink():
            there.unlink()
        else:
            shutil.rmtree(there)
    return 0, ""


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextlib.contextmanager
def running(engine: Engine, path: Path) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kind = self.headers.get("Content-Type", "")
            if engine.slowly(self.path):
                self.send_response(200)
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    for _ in range(50):
                        self.wfile.write(bytes([1, 0, 0, 0, 0, 0, 0, 1]) + b".")
                        time.sleep(0.05)
                return
            status, data = engine.answer(self.command, self.path, kind, body)
            with contextlib.suppress(ConnectionError):
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        do_POST = do_PUT = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with _Server(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def hang(container: Container, argv: list[str]) -> tuple[int, str]:
    time.sleep(2)
    return 0, ""
