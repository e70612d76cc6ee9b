"""Caddy with files instead of its own certificates.

    www.example.com {
        tls /etc/ssl/certd/www/current/fullchain.pem /etc/ssl/certd/www/current/privkey.pem
    }

Its reload compares configurations, and does nothing for one that has not changed: ``--force``
makes it read the files again. It goes through the server's own admin endpoint, so that certd needs
no right but to read the Caddyfile; Caddy loads all before it changes anything, which is its test.
https://caddyserver.com/docs/command-line#caddy-reload and …/caddyfile/directives/tls
"""

from __future__ import annotations

from dataclasses import dataclass

from certd_deploy.disk import Disk, preset


@dataclass(frozen=True, slots=True)
class Caddy(Disk):
    """Files, and the commands that Debian's Caddy is tested and reloaded by."""

    reload: tuple[str, ...] = preset(
        "reload", ("caddy", "reload", "--force", "--config", "/etc/caddy/Caddyfile")
    )
