"""The operator's file of sealing keys: another one made, and put first."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from certd.errors import StoreError
from certd.failpoint import failpoint
from certd.references import LARGEST, read_file
from certd.secrets import Secret
from certd.store.backup import sync
from certd.store.envelope import new_sealing_key, sealing_keys


def add_key(file: Path) -> str:
    """Make a key and put it before those that are there; returns its id.

    The file has the old content or the new at any instant. A new one is its owner's only.

    Raises:
        StoreError: it cannot be written, or there is something else in it.
    """
    made = new_sealing_key()
    [key] = sealing_keys(made)
    unfinished = file.with_name(f".{file.name}.tmp")
    try:
        before, mode, owner = _before(file)
        unfinished.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(unfinished, flags, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as writing:
            if owner is not None and os.geteuid() == 0:
                os.fchown(fd, *owner)
            os.fchmod(fd, mode)
            writing.write(f"{made.reveal()}\n{before.reveal()}")
            writing.flush()
            os.fsync(fd)
        failpoint("seal: a key is written")
        os.replace(unfinished, file)
        sync(file.parent)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        todo = "name a file in a folder that this user may write to"
        raise StoreError(f"no key was written to {file}", reason, todo) from None
    return key.id


def _before(file: Path) -> tuple[Secret, int, tuple[int, int] | None]:
    """What is in the file, its mode and its owner, if there is one."""
    try:
        there = Secret(read_file(file, LARGEST).decode())
    except FileNotFoundError:
        return Secret(""), 0o600, None
    try:
        if there.reveal().strip():
            sealing_keys(there)
    except StoreError as error:  # somebody's other file
        raise StoreError(f"{file} was left alone", error.why, "name another file") from None
    status = file.stat()
    return there, stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid)
