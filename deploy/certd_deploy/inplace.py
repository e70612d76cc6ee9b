"""What ``current`` of one certificate's folder leads to, read back."""

from __future__ import annotations

import re
from dataclasses import dataclass

from certd_deploy import folders

_CURRENT = re.compile(r"versions/([1-9][0-9]*)")


@dataclass(frozen=True, slots=True)
class InPlace:
    """The files of one version, which may be anything."""

    link: str
    leaf: str
    chain: str
    fullchain: str
    key: str


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
    with (
        folders.opened("versions", folder) as versions,
        folders.opened(number[1], versions) as version,
    ):
        names = ("cert", "chain", "fullchain", "privkey")
        texts = [folders.read(f"{name}.pem", version).decode() for name in names]
    return InPlace(link, *texts)
