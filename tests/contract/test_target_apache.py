"""The apache target, on a real Apache."""

from __future__ import annotations

from pathlib import Path

from certd_deploy.apache import Apache

from certd.testing.apache import Apache as Server
from tests.servers import UnderLoad


class TestApache(UnderLoad):
    kind = Server

    def recipe(self, server: Server, path: Path) -> Apache:
        return Apache(path, test=tuple(server.test_argv), reload=tuple(server.reload_argv))
