"""nginx: tested with ``nginx -t``, reloaded without a connection lost.

    ssl_certificate     /etc/ssl/certd/www/current/fullchain.pem;
    ssl_certificate_key /etc/ssl/certd/www/current/privkey.pem;

https://nginx.org/en/docs/control.html: a reload whose configuration or files are wrong keeps
what there was. https://nginx.org/en/docs/http/ngx_http_ssl_module.html#ssl_certificate
"""

from __future__ import annotations

from dataclasses import dataclass

from certd_deploy.disk import Disk, preset


@dataclass(frozen=True, slots=True)
class Nginx(Disk):
    """Files, and the commands that Debian's nginx is tested and reloaded by."""

    test: tuple[str, ...] = preset("test", ("nginx", "-t"))
    reload: tuple[str, ...] = preset("reload", ("systemctl", "reload", "nginx"))
