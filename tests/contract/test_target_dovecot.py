"""The dovecot target, on a real Dovecot."""

from __future__ import annotations

from pathlib import Path

from certd_deploy.dovecot import Dovecot

from certd.testing.dovecot import Dovecot as Server
from tests.servers import UnderLoad


class TestDovecot(UnderLoad):
    kind = Server
    changes = 4  # it takes a second for each

    def recipe(self, server: Server, path: Path) -> Dovecot:
        return Dovecot(path, test=tuple(server.test_argv), reload=tuple(server.reload_argv))
