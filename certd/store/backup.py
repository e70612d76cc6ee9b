"""Copies of the database, made while it is in use. By the standard library alone."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from certd.errors import StoreError
from certd.failpoint import failpoint
from certd.store.files import advice, backups, database_file, hand_over, make_own
from certd.store.rows import DAMAGED, is_damage

KEPT = 3  # copies from before a migration
RESTORED = "restored.db"  # a copy that is about to be the database
LONG = 3600.0  # seconds after which an unfinished copy is nobody's any more
TIMEOUT = 30.0  # seconds to wait for another process's transaction
_HEAD = b"SQLite format 3\0"


def stamp(now: datetime) -> str:
    return f"{now:%Y%m%dT%H%M%SZ}"


def back_up(state: Path, to: Path | None, now: datetime) -> Path:
    """A copy of this state folder's database, also while others write to it; returns its name.

    It is one whole instant of the database, in one file, its owner's only from the first
    byte. ``to`` None: in the folder ``backups``, named after ``now``. A copy that has the
    name already is replaced, anything else is not.

    Raises:
        StoreError: there is no database, it is damaged, or the copy cannot be written.
    """
    path = database_file(state)
    what = f"{path} was not backed up"
    if to is None:
        try:
            if state.is_dir():
                make_own(backups(state))
        except OSError as error:
            raise _failed(what, error) from error
        to = backups(state) / f"certd-{stamp(now)}.db"
    elif _is_other_than_a_copy(to, path):
        raise StoreError(
            what, f"{to} is there and is no copy of a database", "choose another name for the copy"
        )
    with opened(path) as source:
        copy(source, to, path)
    return to


def before_migration(source: sqlite3.Connection, path: Path, head: str, now: datetime) -> Path:
    """The copy that an upgrade can be undone with; the last few of them are kept.

    Raises:
        StoreError: it cannot be made.
    """
    folder = backups(path.parent)
    try:
        make_own(folder)
    except OSError as error:
        raise _failed(f"{path} was not backed up", error) from error
    to = folder / f"before-{head}-{stamp(now)}.db"
    copy(source, to, path)
    found = sorted(folder.glob("before-*.db"), key=lambda one: one.stat().st_mtime_ns)
    for old in found[:-KEPT]:
        old.unlink(missing_ok=True)
    return to


def forget_unfinished(state: Path) -> None:
    """Remove what a backup or restore that was killed has left: there are keys in it.

    The caller has the gate, so that no restore is under way; a backup may be.
    """
    long_ago = time.time() - LONG
    for path in (*state.glob(RESTORED), *state.glob(".*.tmp"), *backups(state).glob(".*.tmp")):
        with contextlib.suppress(OSError):
            if path.name == RESTORED or path.stat().st_mtime < long_ago:
                path.unlink()


def copy(source: sqlite3.Connection, to: Path, path: Path) -> None:
    """All that this connection sees, as a file of its own that has its name when it is whole.

    ``path`` is the database, as errors call it; a copy in its folder belongs to its owner.

    Raises:
        StoreError: it is damaged, or the copy cannot be written; what had the name stays.
    """
    unfinished = to.with_name(f".{to.name}.tmp")
    try:
        unfinished.unlink(missing_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(unfinished, flags, 0o600)  # there are private keys in it
        try:
            if path.parent in to.parents:
                hand_over(fd, path.parent)
            _fill(unfinished, source, path)
            os.fsync(fd)
            failpoint("backup: written")
            os.replace(unfinished, to)
        finally:
            os.close(fd)
            unfinished.unlink(missing_ok=True)
        sync(to.parent)
    except (OSError, sqlite3.Error) as error:
        raise _failed(f"{path} could not be copied to {to}", error) from error


def sync(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A database as it is at one instant; nothing is made where there is none.

    Raises:
        StoreError: it cannot be opened.
    """
    what = f"cannot read {path}"
    try:
        path.stat()
        # What a killed process left half done is undone first, which takes writing.
        how = "mode=rw" if os.access(path.parent, os.W_OK) else "immutable=1"
        uri = f"{path.absolute().as_uri()}?{how}"
        connection = sqlite3.connect(uri, uri=True, timeout=TIMEOUT, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise _failed(what, error) from error
    with contextlib.closing(connection):
        try:
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            raise _failed(what, error) from error
        yield connection


def _fill(unfinished: Path, source: sqlite3.Connection, path: Path) -> None:
    with contextlib.closing(sqlite3.connect(unfinished, isolation_level=None)) as made:
        # Whoever reads it after a crash finds the unfinished name: nothing to roll back.
        made.execute("PRAGMA journal_mode=OFF")
        made.execute("PRAGMA synchronous=OFF")
        source.backup(made)
        # A copy of what is damaged would be found out when it is needed.
        found = made.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise StoreError(f"{path} was not backed up", found, DAMAGED)


def _is_other_than_a_copy(to: Path, path: Path) -> bool:
    try:
        with to.open("rb") as file:
            return to.samefile(path) or file.read(len(_HEAD)) != _HEAD
    except OSError:
        return False


def _failed(what: str, error: Exception) -> StoreError:
    if isinstance(error, StoreError):
        return error
    reason = getattr(error, "strerror", None) or str(error)
    todo = advice(error, "check the name, and that this user may read and write there")
    if is_damage(reason):
        todo = DAMAGED
    elif isinstance(error, FileNotFoundError):
        todo = "there is nothing under that name, or no folder to write to: correct it"
    elif "full" in reason:
        todo = "make room on that disk"
    return StoreError(what, reason, todo)
