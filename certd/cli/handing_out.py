"""What a command hands out, keys too: to a file for its owner only, or to a program."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
from contextlib import suppress
from pathlib import Path

from certd.errors import CertdError, ConfigError

KEY_MODE, PUBLIC_MODE = 0o600, 0o644
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write(path: Path, data: bytes, mode: int = KEY_MODE, *, replace: bool = False) -> None:
    """To a new file, of this mode from the first byte on; ``-``: to stdout.

    ``replace``: in place of the file that is there, at one instant.

    Raises:
        ConfigError: there is such a file, or something that is none.
        CertdError: it cannot be written.
    """
    if str(path) == "-":
        sys.stdout.buffer.write(data)
        return
    if replace and os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise ConfigError(f"{path} is no file", "it is not replaced", "name another")
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp") if replace else path
    try:
        fd = os.open(new, _NEW, mode)
    except FileExistsError:
        raise ConfigError(f"{path} is there already", "", "name another file") from None
    except OSError as error:
        raise _unwritten(path, error) from error
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(new, path)
    except OSError as error:
        with suppress(OSError):
            new.unlink()  # a part of a key is of no use, and would be in the next try's way
        raise _unwritten(path, error) from error


def refuse_terminal(what: str) -> None:
    """
    Raises:
        ConfigError: people, not a program, read stdout.
    """
    if sys.stdout.isatty():
        raise ConfigError("not shown on a terminal", f"it is {what}", "name a file, or pipe it")


def _unwritten(path: Path, error: OSError) -> CertdError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    todo = "make room, or name another file" if full else "name a file that can be written"
    return CertdError(f"cannot write {path}", error.strerror or str(error), todo)
