"""The versions of a certificate in a folder of a container, laid out as the disk target does it.

    path/versions/7-0123456789abcdef/{privkey,cert,chain,fullchain}.pem
    path/current -> versions/7-0123456789abcdef

An archive is unpacked one file after the other: a version's files first, then a link, which a
rename in the container puts in place of ``current``.
"""

from __future__ import annotations

import posixpath
import re
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from certd.api import Bundle, failpoint
from certd_deploy.engine import Engine
from certd_deploy.folders import FOLDER_MODE, Content
from certd_deploy.versions import KEPT

_SECONDS = 20.0  # for mv and rm in a container


@dataclass(frozen=True, slots=True)
class ContainerFolder:
    """``path`` in ``container``; the folder above it must be there. What is made is of ``owner``.

    Raises (each method):
        TargetError, TargetBusy: what the engine refuses, and why.
    """

    engine: Engine
    container: str
    path: str
    owner: int
    group: int

    def link(self) -> str | None:
        """Where ``current`` leads: a folder of ``versions``, or where somebody else lets it."""
        current = f"{self.path}/current"
        to = self.engine.leads_to(self.container, current)
        if to is None or to == current:
            return None
        above, own = posixpath.split(to)
        return f"versions/{own}" if posixpath.basename(above) == "versions" else to

    def in_place(self) -> dict[str, bytes]:
        """The files that ``current`` leads to."""
        link = self.link()
        return self._read(posixpath.join(self.path, link)) if link else {}

    def put(self, bundle: Bundle, wanted: Mapping[str, Content]) -> None:
        before = self.link()
        # By its content, for after the loss of the database numbers come again.
        version = f"versions/{bundle.version}-{bundle.certificate.fingerprint[:16]}"
        own = posixpath.basename(self.path)
        folders = [own, f"{own}/versions", f"{own}/{version}"]
        entries = [(self._entry(one, tarfile.DIRTYPE, FOLDER_MODE), b"") for one in folders]
        # What is there already stays as it is, for it may be in use.
        there = self._read(f"{self.path}/{version}")
        for name, content in wanted.items():
            if not holds(there, {name: content}):
                entry = self._entry(f"{folders[-1]}/{name}", tarfile.REGTYPE, content.mode)
                entries.append((entry, content.data))
        self._switch(version, entries)
        self._prune({before, version})

    def put_back(self, before: str | None) -> None:
        """Let ``current`` lead to where it led; None: there was none."""
        if before is None:
            self._run("rm", "-rf", f"{self.path}/current")
        else:
            self._switch(before)

    def _switch(self, to: str, entries: Sequence[tuple[tarfile.TarInfo, bytes]] = ()) -> None:
        """Let ``current`` lead there at one instant, after these are unpacked."""
        above, own = posixpath.split(self.path)
        link = self._entry(f"{own}/.current.tmp", tarfile.SYMTYPE, 0o777)
        link.linkname = to
        self.engine.put(self.container, above, [*entries, (link, b"")])
        failpoint("docker: version is copied")
        # The engine itself would remove the old link before it makes the new one.
        self._run("mv", "-fT", f"{self.path}/.current.tmp", f"{self.path}/current")
        failpoint("docker: link switched")

    def _prune(self, in_use: set[str | None]) -> None:
        archive = self.engine.get(self.container, f"{self.path}/versions")
        if archive is None:
            return
        with archive:
            depth = [entry.name.strip("/").split("/") for entry in archive if entry.isdir()]
        names = [parts[1] for parts in depth if len(parts) == 2 and parts[1][:1].isdigit()]
        names.sort(key=lambda name: int(re.match(r"[0-9]+", name)[0]))  # type: ignore[index]
        old = [f"versions/{name}" for name in names[:-KEPT]]
        if gone := [f"{self.path}/{name}" for name in old if name not in in_use]:
            self._run("rm", "-rf", *gone)

    def _read(self, folder: str) -> dict[str, bytes]:
        archive = self.engine.get(self.container, folder)
        if archive is None:
            return {}
        with archive:
            return {
                posixpath.basename(entry.name): file.read()
                for entry in archive
                if entry.isfile() and (file := archive.extractfile(entry))
            }

    def _run(self, *argv: str) -> None:
        todo = (
            f"the image needs {argv[0]}, its root the right to change the folder, which may be no"
            ' tmpfs; else mount a folder of this machine, and use type = "disk"'
        )
        self.engine.run(self.container, argv, _SECONDS, "0", todo)

    def _entry(self, name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.uid, entry.gid = kind, mode, self.owner, self.group
        entry.mtime = int(time.time())  # what some servers know a change by
        return entry


def holds(there: Mapping[str, bytes], wanted: Mapping[str, Content]) -> bool:
    return all(name in there and one.is_in(there[name]) for name, one in wanted.items())
