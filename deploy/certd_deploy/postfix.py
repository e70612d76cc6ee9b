"""Postfix 3.4 or later, with one file that has the key first.

    smtpd_tls_chain_files = /etc/ssl/certd/mail/current/postfix.pem

https://www.postfix.org/postconf.5.html#smtpd_tls_chain_files: a key, its certificate, and then
the rest, in that order. Of a file that is none of this Postfix takes mail without TLS; its test
does not look there, so that ``Disk`` does. A reload makes running ``smtpd`` processes go.
"""

from __future__ import annotations

from dataclasses import dataclass

from certd_deploy.disk import Disk, preset
from certd_deploy.settings import check_has

_FILE = "postfix.pem"


@dataclass(frozen=True, slots=True)
class Postfix(Disk):
    """Files, of which one has the key first, and the commands of Debian's Postfix."""

    files: dict[str, str] = preset("files", {_FILE: "key-first"})  # noqa: RUF009 - a field
    test: tuple[str, ...] = preset("test", ("postfix", "check"))
    reload: tuple[str, ...] = preset("reload", ("systemctl", "reload", "postfix"))

    def __post_init__(self) -> None:
        Disk.__post_init__(self)
        check_has(self.files, _FILE, "key-first", "what Postfix reads")
