"""The versions of a certificate in a folder of a container, laid out as the disk target does it.

    path/versions/7-0123456789abcdef/{privkey,cert,chain,fullchain}.pem
    path/current -> versions/7-0123456789abcdef

An archive is unpacked one file after the other: a version's files first, then a link, which a
rename in the container puts in place of ``current``.
"""

from __future__ import annotations

import logging
import posixpath
import re
import stat
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from certd.api import Bundle, TargetError, failpoint
from certd_deploy.engine import Engine
from certd_deploy.folders import FOLDER_MODE, Content
from certd_deploy.versions import surplus

_SECONDS = 20.0  # for mv and its like in a container
_VERSION = re.compile(r"[1-9][0-9]*-[0-9a-f]{16}")

log = logging.getLogger(__name__)


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
        """Where ``current`` leads: a folder of ``versions``, or where somebody else lets it.

        Raises:
            TargetError: there is something else in its place.
        """
        current = f"{self.path}/current"
        to = self.engine.leads_to(self.container, current)
        if to is None:
            return None
        if to == current:
            why = f"{current} is there and is not a link of certd's"
            todo = "move it away, or give certd a folder of its own by path"
            raise TargetError(self.engine.what, why, todo)
        above, own = posixpath.split(to)
        return f"versions/{own}" if posixpath.basename(above) == "versions" else to

    def in_place(self) -> dict[str, bytes]:
        """The files that ``current`` leads to."""
        link = self.link()
        return self._read(link) if link else {}

    def put(self, bundle: Bundle, wanted: Mapping[str, Content]) -> tuple[str | None, str]:
        """Have these in place, of their modes and owners. Returns where the link led, and leads."""
        before = self.link()
        if before is not None and holds(self._read(before), wanted):
            self._settle(before, wanted)
            return before, before
        # By its content, for after the loss of the database numbers come again.
        version = f"versions/{bundle.version}-{bundle.certificate.fingerprint[:16]}"
        there = self._read(version)
        right = {name: one for name, one in wanted.items() if holds(there, {name: one})}
        # What is there already stays, for it may be in use.
        self._settle(version, right)
        own = posixpath.basename(self.path)
        entries = [(entry, b"") for entry in self._missing(own, version)]
        for name, one in wanted.items():
            if name not in right:
                entry = self._entry(f"{own}/{version}/{name}", tarfile.REGTYPE, one.mode)
                entries.append((entry, one.data))
        self._switch(version, entries)
        return before, version

    def prune(self, in_use: set[str | None]) -> None:
        """Old versions go, as far as they can be removed: nobody needs them, or their room."""
        try:
            listed = self._run("ls", "-1", f"{self.path}/versions").decode(errors="replace")
            old = surplus(filter(_VERSION.fullmatch, listed.splitlines()), in_use)
            if old:
                self._run("rm", "-rf", *(f"{self.path}/versions/{name}" for name in old))
        except TargetError as error:
            where = f"{self.container[:12]}:{self.path}"
            log.warning("%s: old versions stay for now: %s", where, error.why)

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

    def _missing(self, own: str, version: str) -> Iterator[tarfile.TarInfo]:
        """The folders that are to be made; one that is there stays as it is."""
        above = posixpath.dirname(self.path)
        for folder in (own, f"{own}/versions", f"{own}/{version}"):
            if self.engine.leads_to(self.container, posixpath.join(above, folder)) is None:
                yield self._entry(folder, tarfile.DIRTYPE, FOLDER_MODE)

    def _settle(self, version: str, files: Mapping[str, Content]) -> None:
        """Owner, then mode, of files that are right but for these.

        Unpacked anew, each would be missing for an instant. ``ls`` is asked, for the owner that
        is in an archive of Podman's is the container's user, whoever's the files are.
        """
        paths = {f"{self.path}/{version}/{name}": one for name, one in files.items()}
        if not paths:
            return
        lines = self._run("ls", "-ln", *paths).decode(errors="replace").splitlines()
        wrong = [
            path for path, one in paths.items() if not any(_shows(x, path, one) for x in lines)
        ]
        if wrong:
            self._run("chown", f"{self.owner}:{self.group}", *wrong)
        for mode in {paths[path].mode for path in wrong}:
            self._run("chmod", f"{mode:o}", *(path for path in wrong if paths[path].mode == mode))

    def _read(self, folder: str) -> dict[str, bytes]:
        return self.engine.read(self.container, posixpath.join(self.path, folder))

    def _run(self, *argv: str) -> bytes:
        todo = (
            f"the image needs {argv[0]}, its root the right to change the folder, which may be no"
            ' tmpfs; else mount a folder of this machine, and use type = "disk"'
        )
        return self.engine.run(self.container, argv, _SECONDS, "0", todo)

    def _entry(self, name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.uid, entry.gid = kind, mode, self.owner, self.group
        entry.mtime = int(time.time())  # what some servers know a change by
        return entry


def holds(there: Mapping[str, bytes], wanted: Mapping[str, Content]) -> bool:
    return all(name in there and one.is_in(there[name]) for name, one in wanted.items())


def _shows(line: str, path: str, wanted: Content) -> bool:
    """Whether a line of ``ls -ln`` is of this file, and it has the mode and owner wanted."""
    words = line.split()
    if len(words) < 4 or not line.endswith(f" {path}"):
        return False
    # A sign may come after the mode, of more rights than it tells.
    shown = (words[0][:10], *words[2:4])
    return shown == (
        stat.filemode(stat.S_IFREG | wanted.mode),
        str(wanted.uid),
        str(wanted.gid),
    )
