"""What ``current`` of one certificate's folder leads to, read back."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from certd.api import TargetError
from certd_deploy import folders
from certd_deploy.troubles import says_nothing

NO_KEY = "no-privkey.txt"  # in place of privkey.pem
WHY_NO_KEY = b"The private key is where its signing request was made: certd has never seen it.\n"
_CURRENT = re.compile(r"versions/([1-9][0-9]*)")


@dataclass(frozen=True, slots=True)
class InPlace:
    """The files of one version, which may be anything; ``key`` is None if it is to have none."""

    link: str
    leaf: str
    chain: str
    fullchain: str
    key: str | None


def read(folder: int) -> InPlace | None:
    """None: there is no link of certd's.

    Raises:
        OSError: a file is missing, no file, or too large.
        ValueError: it is no text.
    """
    link = folders.link("current", folder) or ""
    number = _CURRENT.fullmatch(link)
    if number is None:
        return None
    with _opened(link, folder) as there:
        leaf, chain, fullchain = (
            folders.read(f"{name}.pem", there).decode() for name in ("cert", "chain", "fullchain")
        )
        key = None if _keyless(there) else folders.read("privkey.pem", there).decode()
    return InPlace(link, leaf, chain, fullchain, key)


def others(found: InPlace, folder: int, names: Collection[str]) -> dict[str, bytes]:
    """These files of its folder, as far as they are there."""
    there = {}
    with _opened(found.link, folder) as version:
        for name in names:
            try:
                there[name] = folders.read(name, version)
            except OSError as error:
                if says_nothing(error):
                    raise
    return there


@contextlib.contextmanager
def _opened(link: str, folder: int) -> Iterator[int]:
    with (
        folders.opened("versions", folder) as versions,
        folders.opened(link.removeprefix("versions/"), versions) as there,
    ):
        yield there


def _keyless(version: int) -> bool:
    """Whether certd put it there without a key; a key that is just missing is not that."""
    try:
        return folders.read(NO_KEY, version) == WHY_NO_KEY
    except FileNotFoundError:
        return False


def refuse_what_is_not_ours(folder: int, what: str) -> None:
    """Raise TargetError if something else has the name of certd's link."""
    try:
        status = os.stat("current", dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISLNK(status.st_mode):
        raise TargetError(
            what,
            '"current" is there and is not a link of certd\'s',
            "move it away, or give certd a folder of its own by path",
        )
