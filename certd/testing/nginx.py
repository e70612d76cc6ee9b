"""A real nginx that serves a certificate, in a folder of its own and without root."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from certd.testing.processes import Child, ComponentError, NotInstalled, Ports
from certd.testing.tls import probe

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


def find() -> Path | None:
    """The nginx of this machine; Debian keeps it where an ordinary user's PATH does not look."""
    found = shutil.which(
        "nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
    )
    return Path(found) if found else None


class Nginx:
    """nginx serving ``fullchain`` and ``key`` over TLS on loopback, whatever name is asked for.

    Both files must be there and match when it starts. ``reload_argv`` makes a running one
    take up changed files; it fails, and the old pair stays served, if they do not match
    (a bare HUP would fail in silence).

    Raises:
        NotInstalled: there is no nginx.
        ComponentError: it did not start.
    """

    def __init__(self, fullchain: Path, key: Path, folder: Path | None = None) -> None:
        binary = find()
        if binary is None:
            raise NotInstalled("nginx-light", "no nginx on PATH or in /usr/sbin", "install it")
        self._own_folder = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="certd-nginx-"))
        self._ports = Ports()
        self.port = self._ports.take()
        self.endpoint = f"127.0.0.1:{self.port}"
        configuration = self.folder / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(folder=self.folder, port=self.port, fullchain=fullchain, key=key)
        )
        # -e: or it first tries the distribution's log, which only root may write.
        self._argv = [str(binary), "-e", "stderr", "-p", str(self.folder), "-c", str(configuration)]
        self.reload_argv = [*self._argv, "-s", "reload"]
        self.log = self.folder / "error.log"
        self._child: Child | None = None
        try:
            self.start()
        except ComponentError:
            self.stop()
            raise

    def start(self) -> None:
        """Start it, again if it was halted; returns when it completes a handshake."""
        self._child = Child(self._argv, self.folder / "nginx.log")
        self._child.wait_until(self._serves)

    def halt(self) -> None:
        """Stop the server and keep port and folder, for a ``start()`` later."""
        if self._child is not None:
            self._child.stop()

    def stop(self) -> None:
        self.halt()
        self._ports.close()
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _serves(self) -> bool:
        return bool(probe(self.port).serial)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
