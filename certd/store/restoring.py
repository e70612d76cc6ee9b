"""A copy put in the place of the database, while no certd works on the state folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from certd.errors import CertdError, StoreError
from certd.failpoint import failpoint
from certd.references import SecretReference
from certd.store.backup import RESTORED, copy, opened, stamp, sync
from certd.store.files import advice, backups, daemon_lock, database_file, gate, make_own, workers
from certd.store.inspection import inspect
from certd.store.locks import FileLock
from certd.store.sealed import keys_of

_BESIDE = ("-journal", "-wal", "-shm")  # a transaction under way: part of the database


def restore(
    state: Path, file: Path, now: datetime, seal: SecretReference | None = None
) -> Path | None:
    """Make a copy of ``file`` the database; returns what the one before is called now.

    ``seal`` is where the key is, if the copy is sealed.

    Killed at any instant, the state folder has the database of before or the new one.

    Raises:
        StoreError: a certd works there, ``file`` is not whole, or it cannot be put there;
            the database of before is in place.
    """
    path = database_file(state)
    with _alone(state):
        if path.exists() and file.exists() and path.samefile(file):
            raise StoreError(f"{file} was not restored", "it is the database itself", "")
        new = path.with_name(RESTORED)
        try:
            with opened(file) as source:
                copy(source, new, path)
            _check_key(file, new, seal)
            if findings := inspect(new, seal).findings:
                raise StoreError(
                    f"{file} was not restored",
                    "; ".join(finding.what for finding in findings[:5]),
                    "choose another copy; without one, move certd.db aside, and what the targets "
                    "hold is taken back in",
                )
            failpoint("restore: the copy is good")
            aside = _keep_aside(path, now)
            failpoint("restore: the one before has another name")
            for suffix in _BESIDE:
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            sync(state)  # a journal of the one before would be played into the new one
            failpoint("restore: no journal is left")
            os.replace(new, path)
            sync(state)
            failpoint("restore: in place")
        except OSError as error:
            raise StoreError(
                f"{file} was not restored",
                error.strerror or str(error),
                advice(error, "run this command as the user that certd runs as"),
            ) from error
        finally:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
        return aside


def _check_key(file: Path, new: Path, seal: SecretReference | None) -> None:
    """A copy that does not open is of no use: better said while the one of before is there."""
    try:
        with opened(new) as connection:
            keys_of(connection, seal)
    except CertdError as error:
        why = f"{error.what}: {error.why}"
        raise StoreError(f"{file} was not restored", why, error.next) from error


def _keep_aside(path: Path, now: datetime) -> Path | None:
    """A second name for the database, and for what belongs to it; None: there is none."""
    if not path.exists():
        return None
    folder = backups(path.parent)
    make_own(folder)
    aside = folder / f"replaced-{stamp(now)}.db"
    for number in range(2, 100):
        if not aside.exists():
            break
        aside = folder / f"replaced-{stamp(now)}-{number}.db"
    for suffix in (*_BESIDE, ""):
        part = path.with_name(path.name + suffix)
        with contextlib.suppress(FileNotFoundError):
            os.link(part, aside.with_name(aside.name + suffix))
    sync(folder)
    return aside


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Nobody works on the state folder, and nobody begins to.

    Raises:
        StoreError: somebody does.
    """
    try:
        state.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot use the state folder {state}",
            error.strerror or str(error),
            advice(error, "create its parent, or correct [certd] state"),
        ) from error
    daemon, opening = FileLock(daemon_lock(state)), FileLock(gate(state))
    with contextlib.ExitStack() as held:
        if not daemon.try_acquire(f"pid {os.getpid()}"):
            raise _busy(state, f"the daemon, {daemon.holder() or 'of unknown pid'}")
        held.callback(daemon.release)
        opening.try_acquire(str(os.getpid()), wait=True)
        held.callback(opening.release)
        for file in sorted(workers(state).glob("*")):
            worker = FileLock(file)
            if worker.held():
                raise _busy(state, f"pid {worker.holder()}")
        yield


def _busy(state: Path, who: str) -> StoreError:
    return StoreError(
        "a certd works on this state folder",
        f"{state} is in use by {who}",
        "stop it (`systemctl stop certd`), or wait for its end",
    )
