"""Is there room on a file system? Asked before something begins that could not be kept."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Lack:
    """Why nothing can be written there, and what to do next."""

    why: str
    next: str


def lack(folder: Path, octets: int, files: int) -> Lack | None:
    """What keeps so many octets and files from being written in this folder; None: nothing.

    A folder that is not there yet is looked at where it will be made. What cannot be told,
    as with quotas, keeps nothing from being tried.
    """
    try:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        found = os.statvfs(folder)
    except OSError:
        return None
    if not folder.is_dir():
        return Lack(f"{folder} is a file, where a folder is needed", "move it away, or change path")
    if found.f_flag & os.ST_RDONLY:
        return Lack(
            f"the file system of {folder} is read-only",
            "see the kernel's log, and mount it writable",
        )
    # Some is set aside for root. And some file systems do not count, which they say by zeros.
    root = os.geteuid() == 0
    free = (found.f_bfree if root else found.f_bavail) * found.f_frsize
    if found.f_blocks and free < octets:
        return Lack(
            f"{free // 1024} KiB are free on the file system of {folder}, and "
            f"{octets // 1024} KiB are needed",
            "make room there",
        )
    if found.f_files and (found.f_ffree if root else found.f_favail) < files:
        return Lack(
            f"the file system of {folder} takes no more files (no inodes are free)",
            "make room there",
        )
    return None
