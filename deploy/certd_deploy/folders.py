"""Files and folders by descriptor, no link followed: a swapped link cannot redirect a write."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from certd.api import TargetError, failpoint

MOST_BYTES = 1024 * 1024  # of a file that is read back; certd's own have some KiB
FOLDER_MODE = 0o755

_NO_LINK = os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Content:
    """What a file is to hold, and for whom. ``uid`` and ``gid`` of -1 stay as they come.

    ``same``: whether other octets say the same, where something in them is drawn anew each time.
    """

    data: bytes
    mode: int
    uid: int = -1
    gid: int = -1
    same: Callable[[bytes], bool] | None = None

    def is_in(self, there: bytes) -> bool:
        return there == self.data or (self.same is not None and self.same(there))


@contextlib.contextmanager
def opened(name: str, parent: int | None = None) -> Iterator[int]:
    """A folder's descriptor; ``name`` may be a link only where there is no ``parent``."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    descriptor = os.open(name, flags if parent is None else flags | os.O_NOFOLLOW, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def make(name: str, parent: int) -> None:
    """A folder that all may enter, whatever the umask; nothing if it is there."""
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        return
    with opened(name, parent) as folder:
        os.fchmod(folder, FOLDER_MODE)
    _sync_or(parent, lambda: os.rmdir(name, dir_fd=parent))


def make_all(folder: Path) -> None:
    """The way to a folder, as far as it is missing."""
    for each in (*reversed(folder.parents), folder):
        if each.is_dir():
            continue
        try:
            each.mkdir()
        except FileExistsError:
            if not each.is_dir():
                raise
            continue  # another certificate's deployment was quicker
        each.chmod(FOLDER_MODE)  # whatever the umask


def write_folder(name: str, parent: int, files: Mapping[str, Content]) -> None:
    """A folder with these files, on disk in full before it has its name."""
    unfinished = f".{name}.tmp"
    os.mkdir(unfinished, 0o700, dir_fd=parent)
    try:
        with opened(unfinished, parent) as folder:
            for file, content in files.items():
                _write(file, folder, content)
            os.fchmod(folder, FOLDER_MODE)
            os.fsync(folder)
        failpoint("disk: version is complete, without its name")
        os.rename(unfinished, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        remove(unfinished, parent)
        raise
    _sync_or(parent, lambda: remove(name, parent))


def holds(name: str, parent: int, files: Mapping[str, Content]) -> bool:
    """Whether the folder has this in these files; their modes and owners are put right."""
    try:
        with opened(name, parent) as folder:
            if not all(content.is_in(read(file, folder)) for file, content in files.items()):
                return False
            for file, content in files.items():
                with _file(file, folder, os.O_RDONLY) as descriptor:
                    _settle(descriptor, content)
    except OSError:
        return False
    return True


def read(name: str, folder: int) -> bytes:
    """The content of a small regular file.

    Raises:
        OSError: it is not there, not a file, or too large.
    """
    # Not blocking: a FIFO in its place would be waited for.
    with _file(name, folder, os.O_RDONLY | os.O_NONBLOCK) as descriptor:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_BYTES:
            raise OSError(f"{name} is no small regular file")
        return os.read(descriptor, MOST_BYTES)


def link(name: str, parent: int) -> str | None:
    """Where a link leads; None if there is none, or something else in its place."""
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError:
        return None


def switch(name: str, parent: int, to: str) -> None:
    """Make the link lead there, at one instant."""
    unfinished = f".{name}.tmp"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(unfinished, dir_fd=parent)
    os.symlink(to, unfinished, dir_fd=parent)
    failpoint("disk: link is made, not switched")
    os.replace(unfinished, name, src_dir_fd=parent, dst_dir_fd=parent)


@contextlib.contextmanager
def back_if_it_fails(name: str, parent: int, before: str | None) -> Iterator[None]:
    """Whatever fails, the link is again where it was; nowhere, if there was none."""
    try:
        yield
    except BaseException:
        if before is None:
            os.unlink(name, dir_fd=parent)
        elif before != link(name, parent):
            switch(name, parent, before)
        os.fsync(parent)
        raise


def remove(name: str, parent: int) -> None:
    """A folder and all in it; what cannot be removed now is there to be removed later."""
    shutil.rmtree(name, ignore_errors=True, dir_fd=parent)


def _sync_or(folder: int, undo: Callable[[], None]) -> None:
    """Bring a new name in this folder to the disk; where that fails, there is none.

    The next try must make it anew: the system tells of what it could not write once only,
    and a second fsync would succeed without it.
    """
    try:
        os.fsync(folder)
    except OSError:
        undo()
        raise


@contextlib.contextmanager
def _file(name: str, folder: int, flags: int) -> Iterator[int]:
    descriptor = os.open(name, flags | _NO_LINK, 0o600, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write(name: str, folder: int, content: Content) -> None:
    with _file(name, folder, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as descriptor:
        # Before the content: nobody may read it at any time who may not read it later.
        _settle(descriptor, content)
        rest = memoryview(content.data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)


def _settle(descriptor: int, content: Content) -> None:
    """Owner, then mode; for a change of owner may clear bits of the mode."""
    status = os.fstat(descriptor)
    uid = status.st_uid if content.uid == -1 else content.uid
    gid = status.st_gid if content.gid == -1 else content.gid
    if (uid, gid) != (status.st_uid, status.st_gid):
        try:
            os.fchown(descriptor, uid, gid)
        except PermissionError as error:
            raise TargetError(
                "the owner of the files cannot be set",
                f"user {os.geteuid()} may not give files to user {uid}, group {gid}",
                "choose a group that certd's user is a member of, or run certd as root",
            ) from error
    if stat.S_IMODE(status.st_mode) != content.mode:
        os.fchmod(descriptor, content.mode)
