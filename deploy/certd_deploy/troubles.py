"""What the operating system refuses, as an error that says what to do."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from certd.api import TargetBusy, TargetError

_NEXT = {
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "let certd's user write there; under systemd also name it in ReadWritePaths=",
    ),
    errno.ENOENT: "no folder can be made there: correct path, or make the folder above it by hand",
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room on that file system"),
    **dict.fromkeys(
        (errno.ELOOP, errno.ENOTDIR, errno.EEXIST),
        "a link or a file is where certd needs a folder: move it away, or change path",
    ),
}
# Of this process or machine, and not of what is there.
_OURS = frozenset(
    (errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE)
)


def says_nothing(error: Exception) -> bool:
    """Whether it says nothing of what is there."""
    return isinstance(error, OSError) and error.errno in _OURS


def nothing_at(path: str | Path, error: Exception) -> Literal[""]:
    """No fingerprint, for by this error there is no working pair.

    Raises:
        TargetBusy: it says nothing of what is there.
    """
    if isinstance(error, OSError) and says_nothing(error):
        why, todo = error.strerror or str(error), "let certd's user read it"
        raise TargetBusy(f"{path} cannot be looked at", why, todo) from error
    return ""


@contextlib.contextmanager
def explained(what: str, path: Path) -> Iterator[None]:
    """``what`` opens the error, which is about this folder or file."""
    try:
        yield
    except OSError as error:
        named = f"{error.filename}: " if isinstance(error.filename, str) else ""
        why = f"{path}: {named}{error.strerror or error}"
        raise TargetError(what, why, _NEXT.get(error.errno or 0, "")) from error
