"""Kernel locks: they die with their process, so nothing is ever left locked by a crash."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import socket
import weakref
from pathlib import Path

from certd.errors import StoreError
from certd.store.files import make_own, open_own

_held: weakref.WeakSet[FileLock] = weakref.WeakSet()  # by this process, for ``_forget_held``


class FileLock:
    """An exclusive ``flock`` on a file whose text says who holds it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def try_acquire(self, text: str, *, wait: bool = False) -> bool:
        """False when another process holds it (never with ``wait``)."""
        try:
            fd = open_own(self.path)
        except OSError as error:
            raise StoreError(f"cannot open the lock {self.path}", error.strerror or "") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(fd)
            return False
        os.ftruncate(fd, 0)
        os.write(fd, text.encode())
        self._fd = fd
        _held.add(self)
        return True

    def held(self) -> bool:
        """Whether another process holds it just now; asking makes no file."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except PermissionError:
            return True  # another user's: it cannot be told, so it is left alone
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def holder(self) -> str:
        """The text that the last holder wrote; "" if there is none."""
        try:
            return self.path.read_text(encoding="utf-8", errors="replace")[:200].strip()
        except OSError:
            return ""

    def release(self, *, remove: bool = False) -> None:
        if self._fd is not None:
            if remove:
                self.path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = None
            _held.discard(self)


def _forget_held() -> None:
    """In a child just forked: a lock lives as long as any process has its descriptor, and
    what the parent leased must not wait for the end of its children.
    """
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_forget_held)


class Worker:
    """This process, as the holder of leases: alive exactly as long as its lock is held."""

    def __init__(self, folder: Path) -> None:
        make_own(folder)
        self._folder = folder
        self.id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._lock = FileLock(folder / self.id)
        self._lock.try_acquire(str(os.getpid()))

    def alive(self, id: str) -> bool:
        """Whether the process behind this id still runs; forgets it when it does not."""
        if id == self.id:
            return True
        if not (self._folder / id).is_file():
            return False
        # Only looked at: root's file cannot be opened for writing by certd's own user.
        if FileLock(self._folder / id).held():
            return True
        with contextlib.suppress(OSError):
            (self._folder / id).unlink()
        return False

    def close(self) -> None:
        self._lock.release(remove=True)
