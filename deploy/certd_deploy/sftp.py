"""One certificate's folder on another machine, over SFTP: the layout of the disk target.

    versions/7/{privkey,cert,chain,fullchain}.pem
    current -> versions/7

SFTP as OpenSSH speaks it: draft-ietf-secsh-filexfer-02 with the extensions posix-rename@openssh.com
and fsync@openssh.com (OpenSSH's file PROTOCOL, section 4). A folder cannot be forced to the disk
over it: should that machine lose its power at once, the link may be the old one, which is found.
"""

from __future__ import annotations

import contextlib
import posixpath
import re
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from certd.api import TargetError, failpoint
from certd_deploy.folders import FOLDER_MODE, MOST_BYTES, Content
from certd_deploy.versions import surplus

if TYPE_CHECKING:
    from asyncssh import SFTPClient, SFTPClientFile

_NUMBER = re.compile(r"[1-9][0-9]*")
_UNFINISHED = re.compile(r"\.[0-9]+\.tmp")


@dataclass(frozen=True, slots=True)
class RemoteFolder:
    """Its methods raise ``asyncssh.SFTPError`` where the server refuses."""

    sftp: SFTPClient
    path: str

    async def put(self, wanted: int, files: Mapping[str, Content]) -> str | None:
        """Have a version with these files, and ``current`` lead to it, switched at one instant.

        Returns where it led before.
        """
        before = await self.link()
        await self._make(self._at("versions"))
        number = await self._keep(wanted, files)
        failpoint("ssh: version written")
        now = f"versions/{number}"
        if before != now:
            await self._switch(now)
        failpoint("ssh: link switched")
        await self._prune({before, now})
        return before

    async def back(self, before: str | None) -> None:
        """Let ``current`` lead there again; nowhere, if there was none."""
        if before is None:
            await self.sftp.remove(self._at("current"))
        else:
            await self._switch(before)

    async def link(self) -> str | None:
        """Where ``current`` leads; None if there is none.

        Raises:
            TargetError: there is something else in its place.
        """
        import asyncssh

        try:
            status = await self.sftp.lstat(self._at("current"))
        except asyncssh.SFTPNoSuchFile:
            return None
        if not stat.S_ISLNK(status.permissions or 0):
            raise TargetError(
                f"{self._at('current')} is there and is not a link of certd's",
                "",
                "move it away, or give certd a folder of its own by path",
            )
        return str(await self.sftp.readlink(self._at("current")))

    async def in_place(self, names: Collection[str]) -> dict[str, bytes]:
        """These files of what is in place, as far as they are there."""
        import asyncssh

        link, there = await self.link(), dict[str, bytes]()
        for name in names if link is not None else ():
            with contextlib.suppress(asyncssh.SFTPNoSuchFile):
                there[name] = await self._read(f"{link}/{name}")
        return there

    async def _keep(self, wanted: int, files: Mapping[str, Content]) -> int:
        """The number of the folder with these files: its own, or the next that is free."""
        there = await self._versions()
        for number in sorted(there, key=lambda one: one != wanted):
            if await self._holds(f"versions/{number}", files):
                return number
        free = wanted if wanted not in there else max(there) + 1
        unfinished = f"versions/.{free}.tmp"
        if await self.sftp.lexists(self._at(unfinished)):  # of a run that was killed
            await self.sftp.rmtree(self._at(unfinished))
        await self._make(self._at(unfinished))
        for name, content in files.items():
            await self._write(f"{unfinished}/{name}", content)
        failpoint("ssh: version is complete, without its name")
        await self.sftp.posix_rename(self._at(unfinished), self._at(f"versions/{free}"))
        return free

    async def _holds(self, version: str, files: Mapping[str, Content]) -> bool:
        """Whether it has exactly this; modes and owners are put right."""
        import asyncssh

        try:
            for name, content in files.items():
                if not content.is_in(await self._read(f"{version}/{name}")):
                    return False
        except asyncssh.SFTPNoSuchFile:
            return False
        for name, content in files.items():
            async with self.sftp.open(self._at(f"{version}/{name}"), "rb") as file:
                await self._settle(file, content)
        return True

    async def _write(self, name: str, content: Content) -> None:
        import asyncssh

        # Nobody else can open it between its first instant and the right mode.
        closed = asyncssh.SFTPAttrs(permissions=0o600)
        async with self.sftp.open(self._at(name), "xb", attrs=closed) as file:
            await self._settle(file, content)
            await file.write(content.data)
            await file.fsync()

    async def _settle(self, file: SFTPClientFile, content: Content) -> None:
        """Owner, then mode; for a change of owner may clear bits of the mode."""
        import asyncssh

        status = await file.stat()
        uid = status.uid if content.uid == -1 else content.uid
        gid = status.gid if content.gid == -1 else content.gid
        if (uid, gid) != (status.uid, status.gid):
            try:
                await file.setstat(asyncssh.SFTPAttrs(uid=uid, gid=gid))
            except asyncssh.SFTPPermissionDenied as error:
                raise TargetError(
                    "the owner of the files cannot be set",
                    f"the user there may not give files to user {uid}, group {gid}",
                    "choose a group that the user is a member of",
                ) from error
        if stat.S_IMODE(status.permissions or 0) != content.mode:
            await file.setstat(asyncssh.SFTPAttrs(permissions=content.mode))

    async def _make(self, folder: str) -> None:
        """The way to a folder, as far as it is missing; all may enter, whatever the umask."""
        import asyncssh

        if await self.sftp.isdir(folder):
            return
        if (above := posixpath.dirname(folder)) != folder:
            await self._make(above)
        await self.sftp.mkdir(folder, asyncssh.SFTPAttrs(permissions=0o700))
        await self.sftp.chmod(folder, FOLDER_MODE)

    async def _switch(self, to: str) -> None:
        unfinished = self._at(".current.tmp")
        if await self.sftp.lexists(unfinished):
            await self.sftp.remove(unfinished)
        await self.sftp.symlink(to, unfinished)
        failpoint("ssh: link is made, not switched")
        await self.sftp.posix_rename(unfinished, self._at("current"))

    async def _prune(self, in_use: set[str | None]) -> None:
        there = await self.sftp.listdir(self._at("versions"))
        old = surplus(filter(_NUMBER.fullmatch, there), in_use)
        for name in (*old, *filter(_UNFINISHED.fullmatch, there)):
            await self.sftp.rmtree(self._at(f"versions/{name}"), ignore_errors=True)

    async def _versions(self) -> set[int]:
        there = await self.sftp.listdir(self._at("versions"))
        return {int(name) for name in there if _NUMBER.fullmatch(name)}

    async def _read(self, name: str) -> bytes:
        async with self.sftp.open(self._at(name), "rb") as file:
            data = await file.read(MOST_BYTES)
            return data if isinstance(data, bytes) else data.encode()

    def _at(self, name: str) -> str:
        return posixpath.join(self.path, name)
