"""The nginx target, on a real nginx."""

from __future__ import annotations

from pathlib import Path

from certd_deploy.nginx import Nginx

from certd.testing.nginx import Nginx as Server
from tests.servers import UnderLoad


class TestNginx(UnderLoad):
    kind = Server

    def recipe(self, server: Server, path: Path) -> Nginx:
        return Nginx(path, test=tuple(server.test_argv), reload=tuple(server.reload_argv))
