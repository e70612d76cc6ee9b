"""Docker's Engine API over its unix socket: plain HTTP, with nothing but the standard library."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
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

    def get(self, container: str, path: str) -> tarfile.TarFile | None:
        """What is there; None if nothing is."""
        data = self.call("GET", f"/containers/{container}/archive", accept={404}, path=path)
        try:
            return tarfile.open(fileobj=io.BytesIO(data)) if data else None
        except tarfile.TarError:
            raise TargetError(self.what, f"what came for {path} is no archive") from None

    def leads_to(self, container: str, path: str) -> str | None:
        """Where the link at this path ends, from the root; None if nothing is there.

        Of the answer's head: of a link's archive Docker makes the link, Podman what it leads to.
        """
        where = f"/containers/{container}/archive"
        answer, data = self._ask("HEAD", where, None, SECONDS, {"path": path})
        if answer.status == 404:
            return None
        if answer.status >= 400:
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
    ) -> None:
        """Run a program in it to its end; ``todo`` is what to do if it fails.

        Raises:
            TargetError: it failed, or took longer. The API has no way to end it then.
        """
        body = {"AttachStdout": True, "AttachStderr": True, "Cmd": list(argv), "User": user}
        with self._understood():
            made = json.loads(self.call("POST", f"/containers/{container}/exec", body))["Id"]
        start = {"Detach": False, "Tty": False}
        program = next(iter(argv))
        try:
            output = self.call("POST", f"/exec/{made}/start", start, seconds)
        except TargetBusy as busy:
            why = f"{program} did not end within {seconds:g} s"
            raise TargetError(self.what, why, "see why it hangs") from busy
        with self._understood():
            code = json.loads(self.call("GET", f"/exec/{made}/json"))["ExitCode"]
        if code != 0:
            why = f"{program} ended with status {code} in it{said(_unframed(output))}"
            raise TargetError(self.what, why, todo)

    def call(
        self,
        method: str,
        path: str,
        /,
        body: bytes | Mapping[str, Any] | None = None,
        seconds: float = SECONDS,
        accept: Collection[int] = (),
        **query: str,
    ) -> bytes:
        """One request, all of it within this time; b"" for a status in ``accept``.

        Raises:
            TargetError, TargetBusy: what it refuses, and why.
        """
        answer, data = self._ask(method, path, body, seconds, query)
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
            socket = connection.sock  # the connection lets go of it when the answer begins
            data = bytearray()
            with connection.getresponse() as answer:
                while len(data) <= LARGEST:
                    # A program that writes all the time would never be silent for so long.
                    socket.settimeout(max(deadline - time.monotonic(), 0.001))
                    if not (part := answer.read1(65536)):
                        break
                    data += part
        except PermissionError:
            todo = "let certd's user use the socket, as members of group docker may"
            raise TargetError(self.what, f"{self.path}: permission denied", todo) from None
        except (OSError, http.client.HTTPException) as error:
            why = f"{self.path}: no answer ({type(error).__name__})"
            raise TargetBusy(self.what, why, "look whether the engine runs") from error
        finally:
            connection.close()
        if len(data) > LARGEST:
            raise TargetError(self.what, "the engine does not end its answer")
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
        if "read-only" in words:  # an internal error to both engines, and stays so
            todo = 'mount a volume there that may be written, or one for type = "disk"'
            return TargetError(self.what, why, todo)
        if status >= 500 or status == 429:
            return TargetBusy(self.what, why, "it is tried again by itself")
        todo = "let what lies before the engine pass it" if status in (401, 403) else ""
        return TargetError(self.what, why, todo or "correct what it names")


def _unframed(stream: bytes) -> bytes:
    """The text of both streams: parts with a head of eight bytes, the last four its length."""
    text = b""
    while len(stream) >= 8:
        end = 8 + int.from_bytes(stream[4:8], "big")
        text, stream = text + stream[8:end], stream[end:]
    return text
