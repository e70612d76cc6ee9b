"""Apache: tested with ``apache2ctl -t``, reloaded gracefully.

    SSLCertificateFile    /etc/ssl/certd/www/current/fullchain.pem
    SSLCertificateKeyFile /etc/ssl/certd/www/current/privkey.pem

Its test does not look into these files, and a graceful restart with a pair that does not match
ends the server: so it is never shown one (``Disk`` looks before the link is switched).
https://httpd.apache.org/docs/2.4/mod/mod_ssl.html#sslcertificatefile and …/stopping.html
"""

from __future__ import annotations

from dataclasses import dataclass

from certd_deploy.disk import Disk, preset


@dataclass(frozen=True, slots=True)
class Apache(Disk):
    """Files, and the commands that Debian's Apache is tested and reloaded by."""

    test: tuple[str, ...] = preset("test", ("apache2ctl", "-t"))
    reload: tuple[str, ...] = preset("reload", ("systemctl", "reload", "apache2"))
