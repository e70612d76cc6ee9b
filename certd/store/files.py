"""Where things are in the state folder, and which form of the database this program knows."""

from __future__ import annotations

import os
from pathlib import Path

from certd.errors import StoreError

HEAD = "0001"  # the newest migration; a test compares it with the folder


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
    hand_over(fd, path.parent)
    return fd


def hand_over(made: int | Path, folder: Path) -> None:
    """What root has made in this folder goes to the folder's owner."""
    owner = folder.stat()
    if os.geteuid() == 0 != owner.st_uid and os.stat(made).st_uid == 0:
        os.chown(made, owner.st_uid, owner.st_gid)
