"""Docker's Engine API over its unix socket: plain HTTP, with nothing but the standard library."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import posixpath
import socket
import tarfile
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from certd.api import TargetBusy, TargetError, plain, said

VERSION = "/v1.41"  # of Docker 20.10, and what Podman's service speaks
LARGEST = 8 * 2**20  # bytes of an answer
SECONDS = 30.0  # for a request and its answer

_MOST_OUTPUT = 64 * 1024  # bytes kept of what a program writes, the last ones
_NOBODY: dict[type[Exception], str] = {
    FileNotFoundError: "there is no such socket",
    ConnectionRefusedError: "nobody listens there",
}
_LINK = "a link there leads to itself: remove it"
_STAYS = {  # what is an internal error to an engine, or to both, and stays one
    "read-only": 'mount a volume there that may be written, or one for type = "disk"',
    "invalid signal": "correct signal",
    "too many links": _LINK,
    "too many levels of symbolic links": _LINK,
}


class Output:
    """The last of what a program writes to both streams, which has no end that one could wait for.

    It comes in parts with a head of eight bytes, the last four their length.
    """

    def __init__(self) -> None:
        self._last = bytearray()
        self._head, self._left = b"", 0

    @property
    def last(self) -> bytes:
        return bytes(self._last)

    def add(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            if self._left:
                text, rest = rest[: self._left], rest[self._left :]
                self._left -= len(text)
                self._last += text
                del self._last[:-_MOST_OUTPUT]
                continue
            missing = 8 - len(self._head)
            self._head, rest = self._head + rest[:missing], rest[missing:]
            if len(self._head) == 8:
                self._head, self._left = b"", int.from_bytes(self._head[4:], "big")


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@dataclass(frozen=True, slots=True)
class Engine:
    """``what`` opens every error."""

    path: Path
    what: str

    def containers(self, name: str | None, label: str | None) -> list[str]:
        """The ids of those that run; names are whole, labels as in ``app=web``."""
        if name is not None:
            with self._understood():
                found = json.loads(self.call("GET", f"/containers/{name}/json"))
                runs, id = found["State"]["Running"], str(found["Id"])
            if not runs:
                why, todo = f"container {name} does not run", "start it"
                raise TargetError(self.what, why, todo)
            return [id]
        filters = json.dumps({"label": [label], "status": ["running"]})
        with self._understood():
            found = json.loads(self.call("GET", "/containers/json", filters=filters))
            ids = [str(one["Id"]) for one in found]
        if not ids:
            why = f"no container that runs has the label {label}"
            raise TargetError(self.what, why, "start one, or correct label")
        return sorted(ids)

    def put(
        self, container: str, folder: str, entries: Collection[tuple[tarfile.TarInfo, bytes]]
    ) -> None:
        """Unpack these below a folder that is there."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for entry, data in entries:
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        path = f"/containers/{container}/archive"
        self.call("PUT", path, buffer.getvalue(), path=folder, noOverwriteDirNonDir="1")

    def read(self, container: str, path: str) -> dict[str, bytes]:
        """The files of a folder by their names; none if it is not there."""
        data = self.call("GET", f"/containers/{container}/archive", accept={404}, path=path)
        if not data:
            return {}
        try:
            with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
                return {
                    posixpath.basename(entry.name): file.read()
                    for entry in archive
                    if entry.isfile() and (file := archive.extractfile(entry))
                }
        except tarfile.TarError as error:
            why = f"what came for {path} is no archive, or breaks off"
            raise TargetBusy(self.what, why, "look whether socket is the engine's") from error

    def leads_to(self, container: str, path: str) -> str | None:
        """Where the link at this path ends, from the root; None if nothing is there.

        What is no link leads to itself. It is of the answer's head: of a link's archive Docker
        makes the link, Podman what it leads to.
        """
        where = f"/containers/{container}/archive"
        answer, data = self._ask("HEAD", where, None, SECONDS, {"path": path})
        if answer.status == 404:
            return None
        if answer.status >= 400:
            self.call("GET", where, path=path)  # which has the words: a head alone has none
            raise self._refused(answer.status, data)
        with self._understood():
            stat = json.loads(base64.b64decode(answer.headers["X-Docker-Container-Path-Stat"]))
            return str(stat["linkTarget"]) or path

    def run(
        self,
        container: str,
        argv: Collection[str],
        seconds: float,
        user: str = "",
        todo: str = "run it there by hand (docker exec) to see what it lacks",
    ) -> bytes:
        """Run a program in it to its end, and give the last of what it wrote.

        ``todo`` is what to do if it fails.

        Raises:
            TargetError: it failed, or took longer. The API has no way to end it then.
            TargetBusy: it is not known what it did.
        """
        body = {"AttachStdout": True, "AttachStderr": True, "Cmd": list(argv), "User": user}
        with self._understood():
            made = json.loads(self.call("POST", f"/containers/{container}/exec", body))["Id"]
        start = {"Detach": False, "Tty": False}
        program, output = next(iter(argv)), Output()
        try:
            self.call("POST", f"/exec/{made}/start", start, seconds, output=output)
        except TargetBusy as busy:
            if not isinstance(busy.__cause__, TimeoutError):
                raise
            why = f"{program} did not end within {seconds:g} s{said(output.last)}"
            raise TargetError(self.what, why, "see why it hangs") from busy
        with self._understood():
            code = json.loads(self.call("GET", f"/exec/{made}/json"))["ExitCode"]
        if code != 0:
            why = f"{program} ended with status {code} in it{said(output.last)}"
            raise TargetError(self.what, why, todo)
        return output.last

    def call(
        self,
        method: str,
        path: str,
        /,
        body: bytes | Mapping[str, Any] | None = None,
        seconds: float = SECONDS,
        accept: Collection[int] = (),
        output: Output | None = None,
        **query: str,
    ) -> bytes:
        """One request, all of it within this time; b"" for a status in ``accept``.

        To ``output`` goes what a program writes, in place of the answer.

        Raises:
            TargetError, TargetBusy: what it refuses, and why.
        """
        answer, data = self._ask(method, path, body, seconds, query, output)
        if answer.status in accept:
            return b""
        if answer.status >= 400:
            raise self._refused(answer.status, data)
        return data

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | Mapping[str, Any] | None,
        seconds: float,
        query: Mapping[str, str],
        output: Output | None = None,
    ) -> tuple[http.client.HTTPResponse, bytes]:
        headers = {"Content-Type": "application/x-tar", "Connection": "close"}
        if body is not None and not isinstance(body, bytes):
            headers["Content-Type"], body = "application/json", json.dumps(body).encode()
        target = f"{VERSION}{path}?{urlencode(query)}" if query else VERSION + path
        connection = _Connection(self.path, seconds)
        deadline = time.monotonic() + seconds
        try:
            # What it refuses by the head alone it does not read to the end; the answer says why.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, target, body, headers)
            line = connection.sock  # the connection lets go of it when the answer begins
            data = bytearray()
            with connection.getresponse() as answer:
                while len(data) <= LARGEST and (part := _part(answer, line, deadline)):
                    if output is not None and answer.status < 400:
                        output.add(part)
                    else:
                        data += part
        except PermissionError:
            todo = "let certd's user use the socket, as members of group docker may"
            raise TargetError(self.what, f"{self.path}: permission denied", todo) from None
        except (OSError, http.client.HTTPException) as error:
            words = _NOBODY.get(type(error), f"no answer ({type(error).__name__})")
            why = f"{self.path}: {words}"
            raise TargetBusy(self.what, why, "look whether the engine runs") from error
        finally:
            connection.close()
        if len(data) > LARGEST:
            why = "the engine does not end its answer"
            raise TargetError(self.what, why, "look whether socket is the engine's")
        return answer, bytes(data)

    @contextlib.contextmanager
    def _understood(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            why = f"{self.path} answers what certd does not understand ({type(error).__name__})"
            raise TargetError(self.what, why, "look whether socket is the engine's") from None

    def _refused(self, status: int, data: bytes) -> TargetError:
        try:
            words = str(json.loads(data)["message"])
        except (ValueError, KeyError, TypeError):
            words = ""
        why = plain(f"HTTP {status}: {words}" if words else f"HTTP {status}")
        for sign, todo in _STAYS.items():
            if sign in words.lower():
                return TargetError(self.what, why, todo)
        if status >= 500 or status == 429:
            return TargetBusy(self.what, why, "it is tried again by itself")
        todo = "let what lies before the engine pass it" if status in (401, 403) else ""
        return TargetError(self.what, why, todo or "correct what it names")


def _part(answer: http.client.HTTPResponse, line: socket.socket, deadline: float) -> bytes:
    """What comes next; b"" at the end."""
    # By the clock: what comes all the time would never be silent for so long.
    if (left := deadline - time.monotonic()) <= 0:
        raise TimeoutError
    line.settimeout(left)
    return answer.read1(65536)
