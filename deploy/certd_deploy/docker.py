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
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from certd.api import Bundle, ConfigError, Pair, Secret, SecretReference, failpoint
from certd_deploy import command, extra, settings
from certd_deploy.engine import Engine
from certd_deploy.extra import Extra
from certd_deploy.folders import FOLDER_MODE, Content
from certd_deploy.pem import pair_fingerprint, pair_of
from certd_deploy.versions import KEPT, contents

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
            "description": "seconds after which test or exec has failed",
            "check": command.check_timeout,
        },
    )
    files: dict[str, str] = field(default_factory=dict, metadata=extra.FILES)
    password: SecretReference | None = field(default=None, metadata=extra.PASSWORD)
    test: tuple[str, ...] = field(
        default=(),
        metadata={
            "description": "program and arguments, run in the container, that test its server's"
            " configuration before it is told",
            "example": ["nginx", "-t"],
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
        extra.check_together(self.files, self.password)

    def deploy(self, bundle: Bundle) -> None:
        """Put the bundle in place and have it taken up, also if it is in place already."""
        engine = self._engine(f"version {bundle.version} is not in place in {self._who}")
        wanted = contents(bundle, self._extra, int(self.mode, 8), self.owner, self.group)
        for container in engine.containers(self.container, self.label):
            before = self._link(engine, container, bundle.name)
            if not _holds(self._in_place(engine, container, bundle.name), wanted):
                self._put(engine, container, bundle, wanted)
            failpoint("docker: in place")
            self._try(container, bundle, before)
            self._reload(container, bundle)
            failpoint("docker: taken up")

    def serving(self, name: str) -> str:
        """The fingerprint in place; "" if not all of the containers have the same pair."""
        found = {self._fingerprint(name, there) for there in self._all_in_place(name)}
        return found.pop() if len(found) == 1 else ""

    def recover(self, name: str) -> Pair | None:
        found = next(filter(None, map(pair_of, self._all_in_place(name))), None)
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

    @property
    def _extra(self) -> Extra:
        return Extra(self.files, self.password)

    def _fingerprint(self, name: str, there: Mapping[str, bytes]) -> str:
        pair = pair_of(there)
        if pair is None or not (found := pair_fingerprint(*pair)):
            return ""
        return found if self._extra.made_of(name, *pair, there) else ""

    def _all_in_place(self, name: str) -> Iterator[dict[str, bytes]]:
        engine = self._engine(f"{self.place(name)} cannot be read")
        for container in engine.containers(self.container, self.label):
            yield self._in_place(engine, container, name)

    def _in_place(self, engine: Engine, container: str, name: str) -> dict[str, bytes]:
        """The files that ``current`` leads to."""
        link = self._link(engine, container, name)
        path = self._path(name)
        return self._read(engine, container, posixpath.join(path, link)) if link else {}

    def _read(self, engine: Engine, container: str, folder: str) -> dict[str, bytes]:
        archive = engine.get(container, folder)
        if archive is None:
            return {}
        with archive:
            return {
                posixpath.basename(entry.name): file.read()
                for entry in archive
                if entry.isfile() and (file := archive.extractfile(entry))
            }

    def _link(self, engine: Engine, container: str, name: str) -> str | None:
        """Where ``current`` leads: a folder of ``versions``, or where somebody else lets it."""
        current = f"{self._path(name)}/current"
        to = engine.leads_to(container, current)
        if to is None or to == current:
            return None
        above, own = posixpath.split(to)
        return f"versions/{own}" if posixpath.basename(above) == "versions" else to

    def _put(
        self, engine: Engine, container: str, bundle: Bundle, wanted: Mapping[str, Content]
    ) -> None:
        path, before = self._path(bundle.name), self._link(engine, container, bundle.name)
        # By its content, for after the loss of the database numbers come again.
        version = f"{bundle.version}-{bundle.certificate.fingerprint[:16]}"
        own = posixpath.basename(path)
        folders = [own, f"{own}/versions", f"{own}/versions/{version}"]
        entries = [(self._entry(one, tarfile.DIRTYPE, FOLDER_MODE), b"") for one in folders]
        # What is there already stays as it is, for it may be in use.
        there = self._read(engine, container, f"{path}/versions/{version}")
        for name, content in wanted.items():
            if not _holds(there, {name: content}):
                entry = self._entry(f"{folders[-1]}/{name}", tarfile.REGTYPE, content.mode)
                entries.append((entry, content.data))
        self._switch(engine, container, path, f"versions/{version}", entries)
        self._prune(engine, container, path, {before, f"versions/{version}"})

    def _switch(
        self,
        engine: Engine,
        container: str,
        path: str,
        to: str,
        entries: Sequence[tuple[tarfile.TarInfo, bytes]] = (),
    ) -> None:
        """Let ``current`` lead there at one instant, after these are unpacked."""
        above, own = posixpath.split(path)
        link = self._entry(f"{own}/.current.tmp", tarfile.SYMTYPE, 0o777)
        link.linkname = to
        engine.put(container, above, [*entries, (link, b"")])
        failpoint("docker: version is copied")
        # The engine itself would remove the old link before it makes the new one.
        switch = ["mv", "-fT", f"{path}/.current.tmp", f"{path}/current"]
        engine.run(container, switch, _SECONDS, user="0")
        failpoint("docker: link switched")

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
        entry.mtime = int(time.time())  # what some servers know a change by
        return entry

    def _try(self, container: str, bundle: Bundle, before: str | None) -> None:
        """Let its server look at what is in place; if that fails, the link is where it was."""
        if not self.test:
            return
        what = f"version {bundle.version} is not taken up: the test in {self._who} refuses it"
        engine, path = self._engine(what), self._path(bundle.name)
        try:
            engine.run(container, self.test, self.exec_timeout)
        except BaseException:
            if before is None:
                engine.run(container, ["rm", "-rf", f"{path}/current"], _SECONDS, user="0")
            else:
                self._switch(engine, container, path, before)
            raise

    def _reload(self, container: str, bundle: Bundle) -> None:
        engine = self._engine(f"version {bundle.version} is in place in {self._who}, not taken up")
        if self.signal is not None:
            engine.call("POST", f"/containers/{container}/kill", signal=self.signal)
        if self.exec:
            engine.run(container, self.exec, self.exec_timeout)


def _holds(there: Mapping[str, bytes], wanted: Mapping[str, Content]) -> bool:
    return all(name in there and one.is_in(there[name]) for name, one in wanted.items())
