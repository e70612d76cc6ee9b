"""The folder ``versions``: one folder for each version, the last few of them kept."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from certd.api import Bundle
from certd_deploy import folders, inplace
from certd_deploy.extra import Extra
from certd_deploy.folders import Content

FILE_OCTETS = 16 * 1024  # of each file; with an RSA key and a long chain, and blocks half used
VERSION_FILES = 12  # of four; with folders, links, and what has its unfinished name
KEPT = 3  # newest versions that stay, besides the one in place and the one before it

_OTHERS_READ = 0o044  # what everybody may do with a certificate, which is public
_VERSION = re.compile(r"[1-9][0-9]*")
_UNFINISHED = re.compile(r"\.[0-9]+\.tmp")


def contents(bundle: Bundle, extra: Extra, mode: int, uid: int, gid: int) -> dict[str, Content]:
    """The files of a version, the whole chain last: with it all is there."""
    key = Content(bundle.key_pem.reveal().encode(), mode, uid, gid)
    public = Content(inplace.WHY_NO_KEY, mode | _OTHERS_READ, uid, gid)
    texts = {
        "cert.pem": bundle.leaf_pem,
        "chain.pem": bundle.chain_pem,
        "fullchain.pem": bundle.fullchain_pem,
    }
    return {
        **({inplace.NO_KEY: public} if bundle.keyless else {"privkey.pem": key}),
        **extra.contents(bundle, key, public),
        **{name: replace(public, data=text.encode()) for name, text in texts.items()},
    }


def keep(versions: int, wanted: int, files: Mapping[str, Content]) -> int:
    """The number of the folder that holds these files, written if there is none.

    It is the version's own number, unless that is taken: after the loss of the database
    versions are counted from 1 again.
    """
    there = os.listdir(versions)
    numbers = sorted(int(name) for name in there if _VERSION.fullmatch(name))
    for number in sorted(numbers, key=lambda one: one != wanted):
        if folders.holds(str(number), versions, files):
            return number
    free = wanted if str(wanted) not in there else max(numbers) + 1
    folders.remove(f".{free}.tmp", versions)  # of a run that was killed
    folders.write_folder(str(free), versions, files)
    return free


def prune(versions: int, in_use: set[str | None]) -> None:
    def age(name: str) -> int:
        return -os.stat(name, dir_fd=versions, follow_symlinks=False).st_mtime_ns

    there = os.listdir(versions)
    newest_first = sorted(filter(_VERSION.fullmatch, there), key=age)
    old = [name for name in newest_first[KEPT:] if f"versions/{name}" not in in_use]
    for name in (*old, *(name for name in there if _UNFINISHED.fullmatch(name))):
        folders.remove(name, versions)


def surplus(names: Iterable[str], in_use: Collection[str | None]) -> list[str]:
    """Which of these folders of ``versions`` need not stay, by the numbers that they begin with.

    For where the times of folders are not certd's to know; ``in_use`` is as links lead to them.
    """
    newest_last = sorted(names, key=lambda name: int(name.partition("-")[0]))
    return [name for name in newest_last[:-KEPT] if f"versions/{name}" not in in_use]


def is_pair(version: Path) -> bool:
    """OpenSSL's word on whether the key is the leaf's, so that no library is needed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # a system's policy on key sizes is not the matter
    try:
        # A password, for else it would ask for one on the terminal.
        context.load_cert_chain(version / "fullchain.pem", version / "privkey.pem", password="-")  # noqa: S106
    except ssl.SSLError:
        return False
    return True
