"""Real engines on a unix socket, with containers whose programs are this machine's own.

Nothing is fetched: an image is a root with links into ``/usr``, which is mounted read-only. So a
container has every program that is installed here, and files of its own for the rest.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

from certd.testing.processes import Child, ComponentError, NotInstalled, Stopped
from certd.testing.server import find

_VERSION = "/v1.41"
_IMAGE = "machine"
_FOLDERS = ("etc/ssl", "proc", "root", "sys", "tmp", "usr", "var/lib", "var/log")
_LINKS = ("bin", "lib", "lib64", "sbin")
_PATIENCE = 60.0  # seconds for a request
_REFUSALS = 10.0  # seconds for which a refused removal is tried again


@dataclass(frozen=True, slots=True)
class Container:
    """One that runs; ``root`` is its file system, as it sees it itself."""

    id: str
    name: str
    root: Path

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")


class Docker(Stopped):
    """Docker's; ``socket`` is where it listens.

    It has no network but the machine's own, as a container has that asks for it, and whatever it
    mounts is in a name space of its own, as is ``/run``, where another engine may have its files.

    Raises:
        NotInstalled: there is no engine, or no right to run one.
        ComponentError: it did not start.
    """

    package: ClassVar = "docker.io"
    program: ClassVar = "dockerd"

    def __init__(self) -> None:
        program = find(self.program)
        if program is None:
            why = f"no {self.program} on PATH or in /usr/sbin"
            raise NotInstalled(self.package, why, "install it")
        # Not in pytest's own: a socket's path has 107 bytes at most.
        self.folder = Path(tempfile.mkdtemp(prefix="certd-docker-"))
        self.socket = self.folder / "sock"
        prepare = "mount -t tmpfs certd /run"
        apart = ["unshare", "--mount", "sh", "-c"]
        if subprocess.run([*apart, prepare], capture_output=True, check=False).returncode:
            shutil.rmtree(self.folder)
            why = "an engine needs root, and to be allowed to mount"
            raise NotInstalled("the right to run containers", why, "run the tests as root")
        argv = [*apart, f'{prepare} && exec "$@"', "sh", str(program), *self._words()]
        self._child = Child(argv, self.folder / "log", environment=self._environment())
        try:
            self._child.wait_until(lambda: bool(self.request("GET", "/version")), 60)
            self.request("POST", "/images/create", _image(), fromSrc="-", repo=_IMAGE, tag="latest")
        except BaseException:
            self.stop()
            raise

    def _words(self) -> list[str]:
        settings = {
            "host": f"unix://{self.socket}",
            "data-root": self.folder / "data",
            "exec-root": self.folder / "exec",
            "pidfile": self.folder / "pid",
            "storage-driver": "vfs",
            "bridge": "none",
            "iptables": "false",
            "ip6tables": "false",
            "ip-forward": "false",
        }
        return [f"--{key}={value}" for key, value in settings.items()]

    def _environment(self) -> dict[str, str]:
        return {}

    def run(self, name: str, argv: Sequence[str] = ("sleep", "1d"), **labels: str) -> Container:
        """A container that runs this; one of the same name is gone before, with its files."""
        self.remove(name)
        body = {
            "Image": f"{_IMAGE}:latest",
            "Cmd": list(argv),
            "Labels": labels,
            "HostConfig": {
                "Binds": ["/usr:/usr:ro"],
                "NetworkMode": "host",
                "Tmpfs": {"/run": ""},
            },
        }
        identity = self.request("POST", "/containers/create", body, name=name)["Id"]
        self.request("POST", f"/containers/{identity}/start")
        state = self.request("GET", f"/containers/{identity}/json")["State"]
        return Container(identity, name, Path(f"/proc/{state['Pid']}/root"))

    def remove(self, name: str) -> None:
        """A refusal has its time: the engine is at it already, or the machine is busy."""
        until = time.monotonic() + _REFUSALS
        while True:
            try:
                self.request("DELETE", f"/containers/{quote(name)}", force="1")
                return
            except ComponentError:
                if time.monotonic() > until:
                    raise
            time.sleep(0.1)

    def clear(self) -> None:
        """Remove all containers, with whatever runs in them."""
        for one in self.request("GET", "/containers/json", all="1"):
            self.remove(one["Id"])

    def happened(self, container: Container, since: float, action: str) -> int:
        """How often the engine has told of it, since this instant (Unix time)."""
        filters = json.dumps({"container": [container.id], "event": [action]})
        until = f"{time.time():.9f}"
        query = {"since": f"{since:.9f}", "until": until, "filters": filters}
        return len(self._call("GET", "/events", None, query).splitlines())

    def request(
        self, method: str, path: str, body: bytes | dict[str, Any] | None = None, **query: str
    ) -> Any:
        """The answer's JSON; None if there is none, or nothing of this name.

        Raises:
            ComponentError: it was refused.
            OSError: nobody listens.
        """
        data = self._call(method, path, body, query)
        return json.loads(data.splitlines()[-1]) if data else None

    def stop(self) -> None:
        try:
            with contextlib.suppress(OSError):
                self.clear()
        finally:
            self._child.stop(20)
            self._end_helpers()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _end_helpers(self) -> None:
        """Podman's stay for five minutes after a program, in case its end is asked for.

        With what they started: the program of a container that was not removed has no other end.
        """
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if bytes(self.folder) in (process / "cmdline").read_bytes():
                    begun = " ".join(one.read_text() for one in process.glob("task/*/children"))
                    for number in (process.name, *begun.split()):
                        os.kill(int(number), signal.SIGKILL)

    def _call(
        self, method: str, path: str, body: bytes | dict[str, Any] | None, query: dict[str, str]
    ) -> bytes:
        headers = {"Content-Type": "application/x-tar", "Connection": "close"}
        if isinstance(body, dict):
            headers["Content-Type"], body = "application/json", json.dumps(body).encode()
        connection = http.client.HTTPConnection("localhost", timeout=_PATIENCE)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.settimeout(_PATIENCE)
            connection.sock.connect(str(self.socket))
            connection.request(method, f"{_VERSION}{path}?{urlencode(query)}", body, headers)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if answer.status >= 400 and answer.status != 404:
            raise ComponentError(
                f"the engine refuses {method} {path}", data.decode(errors="replace")
            )
        return data if answer.status < 400 else b""


class Podman(Docker):
    """Podman's service, which speaks Docker's API."""

    package: ClassVar = "podman"
    program: ClassVar = "podman"

    def _words(self) -> list[str]:
        return ["system", "service", "--time=0", f"unix://{self.socket}"]

    def _environment(self) -> dict[str, str]:
        (self.folder / "storage.conf").write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{self.folder}/data"\n'
            f'runroot = "{self.folder}/run"\n'
        )
        # Its own limits are above what a machine may allow; its own runtime wants systemd's groups.
        (self.folder / "containers.conf").write_text(
            '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'
            '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        )
        return {
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
        }


def _image() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in _FOLDERS:
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            archive.addfile(folder)
        for name in _LINKS:
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, os.path.join("usr", name)
            archive.addfile(link)
        for name in ("passwd", "group", "ld.so.cache"):
            archive.add(f"/etc/{name}", f"etc/{name}")
    return buffer.getvalue()
