"""Where things are in the state folder, and which form of the database this program knows."""

from __future__ import annotations

import errno
import logging
import os
import stat
from pathlib import Path

from certd.errors import StoreError

log = logging.getLogger(__name__)

HEAD = "0012"  # the newest migration; a test compares it with the folder


def database_file(state: Path) -> Path:
    return state / "certd.db"


def backups(state: Path) -> Path:
    return state / "backups"


def workers(state: Path) -> Path:
    return state / "workers"


def gate(state: Path) -> Path:
    """The lock that is held while the database is opened, and while another takes its place."""
    return state / "open.lock"


def daemon_lock(state: Path) -> Path:
    return state / "daemon.lock"


def advice(error: Exception, otherwise: str) -> str:
    """What to do when the system refuses something in the state folder."""
    match getattr(error, "errno", None):
        case errno.ENOSPC | errno.EDQUOT:
            return "make room on that disk"
        case errno.EROFS:
            return "see the kernel's log, and mount it writable"
        case errno.ENOTDIR | errno.EISDIR | errno.EEXIST:
            return "correct [certd] state: it names a folder, and certd.db in it is a file"
    return otherwise


def newer(path: Path | None, revision: str) -> StoreError:
    """What to say of a database at a revision above ``HEAD``."""
    return StoreError(
        f"the database {path} was written by a newer certd",
        f"it is at migration {revision}, this program knows {HEAD}",
        "install that version again, or restore the backup made before the upgrade: "
        "`certd db restore`, with the file before-… of the folder backups beside it",
    )


def open_own(path: Path) -> int:
    """A descriptor of this file of the state folder, for its owner only; made if need be.

    What root makes in certd's folder is certd's: else one command as root would lock the
    daemon out.
    """
    # Mode before content: some will hold private keys.
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    mode = stat.S_IMODE(os.fstat(fd).st_mode)
    if mode & 0o077:  # a copy, or a backup put back
        log.warning("%s had mode %04o: others could read it, and cannot any more", path, mode)
        os.fchmod(fd, 0o600)
    hand_over(fd, path.parent)
    return fd


def make_own(folder: Path) -> None:
    """The same for a folder in the state folder."""
    folder.mkdir(mode=0o700, exist_ok=True)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        hand_over(fd, folder.parent)
    finally:
        os.close(fd)


def hand_over(fd: int, folder: Path) -> None:
    """What root has made in this folder goes to the folder's owner."""
    made, owner = os.fstat(fd), folder.stat()
    # Not another name of a file that was root's before: certd's user could put it there.
    linked = stat.S_ISREG(made.st_mode) and made.st_nlink > 1
    if os.geteuid() == 0 != owner.st_uid and made.st_uid == 0 and not linked:
        os.fchown(fd, owner.st_uid, owner.st_gid)
