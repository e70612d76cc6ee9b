"""Files in a container, and a signal or a command that makes its server read them.

By the Docker Engine API (https://docs.docker.com/reference/api/engine/version/v1.41/) over its unix
socket; Podman's service answers the same. An archive is unpacked in a folder of the container one
file after the other: a version's files first, then the link ``current``, switched by one rename:

    path/versions/7/{privkey,cert,chain,fullchain}.pem
    path/current -> versions/7

What is copied is in the container and not in its image: when it is made anew, by an update say,
nothing is in place, which is seen by the next look, and put right.
"""

from __future__ import annotations

import posixpath
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from certd.api import Bundle, ConfigError, Pair, Secret, failpoint
from certd_deploy import command, settings
from certd_deploy.engine import Engine
from certd_deploy.folders import FOLDER_MODE
from certd_deploy.pem import pair_fingerprint
from certd_deploy.sftp import contents
from certd_deploy.versions import KEPT

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_SECONDS = 20.0  # for mv and rm in a container


def _check_container(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(f'"{name}" is no name of a container', "", "`docker ps` shows them")


def _check_path(path: str) -> None:
    settings.check_path_elsewhere("in a container", path)


def _check_signal(name: str) -> None:
    if not re.fullmatch(r"[A-Z][A-Z0-9+-]*", name):
        raise ConfigError(f'"{name}" is no signal', "", 'write its name, as in "HUP"')


@dataclass(frozen=True, slots=True)
class Docker:
    """Files in containers of Docker's or Podman's, and how their server takes them up."""

    credential: ClassVar[str] = (
        "the right to use the socket, which is as good as root's: a proxy before it may let pass"
        " /containers (json, archive, kill, exec) and /exec only"
    )

    path: str = field(
        metadata={
            "description": "folder in the container of one certificate's files; {name} is its name;"
            " the folder above it must be there",
            "check": _check_path,
            "example": "/etc/ssl/{name}",
            "missing": "every docker target needs a folder",
        }
    )
    container: str | None = field(
        default=None,
        metadata={"description": "name of the container", "check": _check_container},
    )
    label: str | None = field(
        default=None,
        metadata={"description": "in place of a name: all containers with this label that run"},
    )
    socket: Path = field(
        default=Path("/var/run/docker.sock"),
        metadata={"description": "unix socket of the engine", "example": "/run/podman/podman.sock"},
    )
    signal: str | None = field(
        default=None,
        metadata={
            "description": "signal for the container that makes its server read them",
            "check": _check_signal,
            "example": "HUP",
        },
    )
    exec: tuple[str, ...] = field(
        default=(),
        metadata={
            "description": "program and arguments, run in the container, that make it read them",
            "example": ["nginx", "-s", "reload"],
        },
    )
    exec_timeout: float = field(
        default=60.0,
        metadata={
            "description": "seconds after which exec has failed",
            "check": command.check_timeout,
        },
    )
    mode: str = field(
        default="0600",
        metadata={
            "description": "mode of the private key, in octal",
            "check": settings.check_mode,
            "example": "0640",
        },
    )
    owner: int = field(
        default=0,
        metadata={
            "description": "number of the user that the files are of",
            "check": settings.check_id_elsewhere,
        },
    )
    group: int = field(
        default=0,
        metadata={
            "description": "number of the group that the files are of",
            "check": settings.check_id_elsewhere,
        },
    )

    def __post_init__(self) -> None:
        if (self.container is None) == (self.label is None):
            both = "container and label are both set"
            what = both if self.label else "neither container nor label is set"
            raise ConfigError(what, "one of them says where the files go", "write one")

    def deploy(self, bundle: Bundle) -> None:
        """Put the bundle in place and have it taken up, also if it is in place already."""
        engine = self._engine(f"version {bundle.version} is not in place in {self._who}")
        wanted = (bundle.fullchain_pem, bundle.key_pem.reveal())
        for container in engine.containers(self.container, self.label):
            if self._pair(engine, container, bundle.name) != wanted:
                self._put(engine, container, bundle, wanted)
            failpoint("docker: in place")
            self._reload(container, bundle)
            failpoint("docker: taken up")

    def serving(self, name: str) -> str:
        """The fingerprint in place; "" if not all of the containers have the same pair."""
        found = {"" if pair is None else pair_fingerprint(*pair) for pair in self._pairs(name)}
        return found.pop() if len(found) == 1 else ""

    def recover(self, name: str) -> Pair | None:
        found = next((pair for pair in self._pairs(name) if pair is not None), None)
        return None if found is None else Pair(found[0], Secret(found[1]))

    def place(self, name: str) -> str:
        return f"{self.socket} {self._who}:{self._path(name)}"

    @property
    def _who(self) -> str:
        return self.container or f"containers with label {self.label}"

    def _engine(self, what: str) -> Engine:
        return Engine(self.socket, what)

    def _path(self, name: str) -> str:
        return self.path.replace(settings.PLACEHOLDER, name)

    def _pairs(self, name: str) -> Iterator[tuple[str, str] | None]:
        engine = self._engine(f"{self.place(name)} cannot be read")
        for container in engine.containers(self.container, self.label):
            yield self._pair(engine, container, name)

    def _pair(self, engine: Engine, container: str, name: str) -> tuple[str, str] | None:
        """The chain and the key that ``current`` leads to."""
        link = self._link(engine, container, name)
        return self._read(engine, container, f"{self._path(name)}/{link}") if link else None

    def _read(self, engine: Engine, container: str, folder: str) -> tuple[str, str] | None:
        archive = engine.get(container, folder)
        if archive is None:
            return None
        with archive:
            texts = dict[str, str]()
            for entry in archive:
                if entry.isfile() and (file := archive.extractfile(entry)):
                    texts[posixpath.basename(entry.name)] = file.read().decode(errors="replace")
        if not {"fullchain.pem", "privkey.pem"} <= texts.keys():
            return None
        return texts["fullchain.pem"], texts["privkey.pem"]

    def _link(self, engine: Engine, container: str, name: str) -> str | None:
        archive = engine.get(container, f"{self._path(name)}/current")
        if archive is None:
            return None
        with archive:
            first = archive.next()
            return first.linkname if first is not None and first.issym() else None

    def _put(self, engine: Engine, container: str, bundle: Bundle, wanted: tuple[str, str]) -> None:
        path, before = self._path(bundle.name), self._link(engine, container, bundle.name)
        # By its content, for after the loss of the database numbers come again.
        version = f"{bundle.version}-{bundle.certificate.fingerprint[:16]}"
        above, own = posixpath.split(path)
        folders = [own, f"{own}/versions", f"{own}/versions/{version}"]
        entries = [(self._entry(one, tarfile.DIRTYPE, FOLDER_MODE), b"") for one in folders]
        # The chain is unpacked last: with it all is there, from a run that was killed.
        if self._read(engine, container, f"{path}/versions/{version}") != wanted:
            files = contents(bundle, int(self.mode, 8), self.owner, self.group)
            for name, content in files.items():
                entry = self._entry(f"{folders[-1]}/{name}", tarfile.REGTYPE, content.mode)
                entries.append((entry, content.data))
        link = self._entry(f"{own}/.current.tmp", tarfile.SYMTYPE, 0o777)
        link.linkname = f"versions/{version}"
        engine.put(container, above, [*entries, (link, b"")])
        failpoint("docker: version is copied")
        # The engine itself would remove the old link before it makes the new one.
        switch = ["mv", "-fT", f"{path}/.current.tmp", f"{path}/current"]
        engine.run(container, switch, _SECONDS, user="0")
        failpoint("docker: link switched")
        self._prune(engine, container, path, {before, link.linkname})

    def _prune(self, engine: Engine, container: str, path: str, in_use: set[str | None]) -> None:
        archive = engine.get(container, f"{path}/versions")
        if archive is None:
            return
        with archive:
            depth = [entry.name.strip("/").split("/") for entry in archive if entry.isdir()]
        names = [parts[1] for parts in depth if len(parts) == 2 and parts[1][:1].isdigit()]
        names.sort(key=lambda name: int(re.match(r"[0-9]+", name)[0]))  # type: ignore[index]
        old = [f"versions/{name}" for name in names[:-KEPT]]
        if gone := [f"{path}/{name}" for name in old if name not in in_use]:
            engine.run(container, ["rm", "-rf", *gone], _SECONDS, user="0")

    def _entry(self, name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.uid, entry.gid = kind, mode, self.owner, self.group
        return entry

    def _reload(self, container: str, bundle: Bundle) -> None:
        engine = self._engine(f"version {bundle.version} is in place in {self._who}, not taken up")
        if self.signal is not None:
            engine.call("POST", f"/containers/{container}/kill", signal=self.signal)
        if self.exec:
            engine.run(container, self.exec, self.exec_timeout)
