"""Files in a container, and a signal or a command that makes its server read them.

By the Docker Engine API over its unix socket, which Podman's service has too. What is copied is in
the container and not in its image: when it is made anew, by an update say, nothing is in place,
which is seen by the next look, and put right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from certd.api import Bundle, ConfigError, Pair, Secret, SecretReference, failpoint
from certd_deploy import command, extra, settings
from certd_deploy.containerfolder import ContainerFolder
from certd_deploy.engine import Engine
from certd_deploy.extra import Extra
from certd_deploy.pem import pair_fingerprint, pair_of
from certd_deploy.versions import contents

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


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
        what = f"version {bundle.version} is not in place in {self._who}"
        wanted = contents(bundle, self._extra, int(self.mode, 8), self.owner, self.group)
        for folder in self._folders(bundle.name, what):
            before, now = folder.put(bundle, wanted)
            failpoint("docker: in place")
            self._try(folder, bundle, before)
            if before != now:
                folder.prune({before, now})
            self._reload(folder.container, bundle)
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

    def _path(self, name: str) -> str:
        return self.path.replace(settings.PLACEHOLDER, name)

    @property
    def _extra(self) -> Extra:
        return Extra(self.files, self.password)

    def _folders(self, name: str, what: str) -> list[ContainerFolder]:
        engine = Engine(self.socket, what)
        return [
            ContainerFolder(engine, container, self._path(name), self.owner, self.group)
            for container in engine.containers(self.container, self.label)
        ]

    def _all_in_place(self, name: str) -> Iterator[dict[str, bytes]]:
        for folder in self._folders(name, f"{self.place(name)} cannot be read"):
            yield folder.in_place()

    def _fingerprint(self, name: str, there: Mapping[str, bytes]) -> str:
        pair = pair_of(there)
        if pair is None or not (found := pair_fingerprint(*pair)):
            return ""
        return found if self._extra.made_of(name, *pair, there) else ""

    def _try(self, folder: ContainerFolder, bundle: Bundle, before: str | None) -> None:
        """Let its server look at what is in place; if that fails, the link is where it was."""
        if not self.test:
            return
        what = f"version {bundle.version} is not taken up: the test in {self._who} refuses it"
        try:
            Engine(self.socket, what).run(folder.container, self.test, self.exec_timeout)
        except BaseException:
            folder.put_back(before)
            raise

    def _reload(self, container: str, bundle: Bundle) -> None:
        what = f"version {bundle.version} is in place in {self._who}, not taken up"
        engine = Engine(self.socket, what)
        if self.signal is not None:
            engine.call("POST", f"/containers/{container}/kill", signal=self.signal)
        if self.exec:
            engine.run(container, self.exec, self.exec_timeout)
