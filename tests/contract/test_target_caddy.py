"""The caddy target, on a real Caddy."""

from __future__ import annotations

from pathlib import Path

from certd_deploy.caddy import Caddy

from certd.testing.caddyserver import CaddyServer
from tests.servers import ServerContract


class TestCaddy(ServerContract):
    kind = CaddyServer

    def recipe(self, server: CaddyServer, path: Path) -> Caddy:
        return Caddy(path, test=tuple(server.test_argv), reload=tuple(server.reload_argv))
