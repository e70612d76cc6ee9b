"""HTTP-01 through a web server that is there already: files in the folder it serves."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from certd.challenges.wellknown import FOLDER, checked
from certd.errors import ChallengeError

_FOLDER_MODE = 0o755
_FILE_MODE = 0o644
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Webroot:
    """``PATH/.well-known/acme-challenge/TOKEN``, where a web server serves ``PATH``.

    Below ``path`` no symbolic link is followed: whoever may write to a web root must not
    be able to lead certd, which may write elsewhere too, out of it.
    """

    path: Path

    def publish(self, token: str, key_authorization: str) -> None:
        """Write the file, readable for the web server, complete from the moment it is there.

        Raises:
            ChallengeError: the token is malformed, or the file cannot be written.
        """
        checked(token)
        try:
            with self._folder(_make) as folder:
                _write(folder, token, key_authorization.encode("ascii"))
        except OSError as error:
            raise self._explained(error) from error

    def withdraw(self, token: str) -> None:
        """Remove the file that ``publish`` wrote, in this process or in one that crashed.

        A missing one counts as success. Anything else at that place is left alone: only
        a file that holds a key authorization of this very token is ours.

        Raises:
            ChallengeError: the token is malformed, or the file cannot be removed.
        """
        checked(token)
        try:
            with self._folder(_enter) as folder:
                if _begins_with(folder, token, f"{token}.".encode()):
                    os.unlink(token, dir_fd=folder)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._explained(error) from error

    @contextmanager
    def _folder(self, step: Callable[[int, str], int]) -> Iterator[int]:
        """The folder of the tokens as a descriptor, reached name by name with ``step``."""
        fd = os.open(self.path, _OPEN_FOLDER)
        try:
            for name in FOLDER:
                fd, above = step(fd, name), fd
                os.close(above)
            yield fd
        finally:
            os.close(fd)

    def _explained(self, error: OSError) -> ChallengeError:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            why = f"{'/'.join(FOLDER)} in it is a symbolic link or not a folder"
            step = "replace it by a folder, or set webroot in [http] to the folder it points to"
        elif error.errno == errno.ENOENT:
            why = "there is no such folder"
            step = "correct webroot in [http]"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            why = error.strerror or "permission denied"
            step = (
                f"let certd's user write to {self.path}/{'/'.join(FOLDER)}, and name that folder "
                "in ReadWritePaths= of certd.service"
            )
        else:
            why, step = error.strerror or "input/output error", "put that right on this machine"
        return ChallengeError(f"a token cannot be kept in the web root {self.path}", why, step)


def _enter(above: int, name: str) -> int:
    return os.open(name, _OPEN_FOLDER | os.O_NOFOLLOW, dir_fd=above)


def _make(above: int, name: str) -> int:
    try:
        os.mkdir(name, _FOLDER_MODE, dir_fd=above)
    except FileExistsError:
        return _enter(above, name)  # with the mode that its owner gave it
    fd = _enter(above, name)
    os.fchmod(fd, _FOLDER_MODE)  # whatever the umask is
    return fd


def _write(folder: int, name: str, content: bytes) -> None:
    partial = f".{secrets.token_hex(8)}"
    fd = os.open(
        partial,
        os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
        _FILE_MODE,
        dir_fd=folder,
    )
    # No fsync: after a crash the order publishes its tokens anew.
    try:
        with open(fd, "wb") as file:
            os.fchmod(fd, _FILE_MODE)  # whatever the umask is
            file.write(content)
        os.rename(partial, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(partial, dir_fd=folder)
        raise


def _begins_with(folder: int, name: str, start: bytes) -> bool:
    # O_NONBLOCK: a FIFO put there must not hold us.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            return False  # a symbolic link, a socket: not what we wrote
        raise
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode) and os.read(fd, len(start)) == start
    finally:
        os.close(fd)
