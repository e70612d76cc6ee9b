"""Where things are in the state folder, and which form of the database this program knows."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from certd.errors import StoreError

log = logging.getLogger(__name__)

HEAD = "0003"  # the newest migration; a test compares it with the folder


def database_file(state: Path) -> Path:
    return state / "certd.db"


def daemon_lock(state: Path) -> Path:
    return state / "daemon.lock"


def newer(path: Path | None, revision: str) -> StoreError:
    """What to say of a database at a revision above ``HEAD``."""
    return StoreError(
        f"the database {path} was written by a newer certd",
        f"it is at migration {revision}, this program knows {HEAD}",
        "install that version again, or restore the backup made before the upgrade",
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
