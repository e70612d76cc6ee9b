"""Dovecot: tested with ``doveconf``, which opens the files; then reloaded.

    ssl_cert = </etc/ssl/certd/mail/current/fullchain.pem
    ssl_key  = </etc/ssl/certd/mail/current/privkey.pem

https://doc.dovecot.org/2.3/configuration_manual/dovecot_ssl_configuration/: they are read when
Dovecot starts or is reloaded. With 2.4 the settings are ``ssl_server_cert_file`` and
``ssl_server_key_file``, without ``<``.
"""

from __future__ import annotations

from dataclasses import dataclass

from certd_deploy.disk import Disk, preset


@dataclass(frozen=True, slots=True)
class Dovecot(Disk):
    """Files, and the commands that Debian's Dovecot is tested and reloaded by."""

    test: tuple[str, ...] = preset("test", ("doveconf", "-n"))
    reload: tuple[str, ...] = preset("reload", ("systemctl", "reload", "dovecot"))
