"""A real nginx that serves a certificate, in a folder of its own and without root."""

from __future__ import annotations

from pathlib import Path

from certd.testing.server import Server

_CONFIGURATION = """\
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {fullchain};
        ssl_certificate_key {key};
        location / {{ return 200 "nginx\\n"; }}
    }}
}}
"""


def configuration(folder: Path, port: int, fullchain: Path, key: Path) -> str:
    """Of one that writes nothing outside of this folder."""
    return _CONFIGURATION.format(folder=folder, port=port, fullchain=fullchain, key=key)


class Nginx(Server):
    """nginx. Its reload fails, and the old pair stays served, if the files do not match
    (a bare HUP would fail in silence).
    """

    package = "nginx-light"
    program = "nginx"

    def prepare(self) -> None:
        # -e: or it first tries the distribution's log, which only root may write.
        self.argv = [
            *(str(self.binary), "-e", "stderr"),
            *("-p", str(self.folder), "-c", str(self.configuration)),
        ]
        self.test_argv = [*self.argv, "-t"]
        self.reload_argv = [*self.argv, "-s", "reload"]

    def text(self, fullchain: Path, key: Path) -> str:
        return configuration(self.folder, self.port, fullchain, key)
