"""The postfix target, on a real Postfix."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from certd_deploy.disk import Disk
from certd_deploy.postfix import Postfix

from certd.api import ConfigError
from certd.testing.chains import bundle
from certd.testing.postfix import Postfix as Server
from tests.servers import UnderLoad


class TestPostfix(UnderLoad):
    kind = Server
    changes = 4  # it takes a second for each

    @pytest.fixture
    def target(self, server: Server, tmp_path: Path) -> Postfix:
        server.take(tmp_path / "www" / "current" / "postfix.pem")
        # Without its test, which takes a while: the one test that is about it has it.
        return Postfix(tmp_path / "{name}", test=(), reload=tuple(server.reload_argv))

    def test_its_test_refuses_a_wrong_configuration(self, target: Disk) -> None:
        tested = replace(target, test=tuple(self._server.test_argv))
        super().test_its_test_refuses_a_wrong_configuration(tested)

    def test_the_key_is_first(self, target: Postfix, tmp_path: Path) -> None:
        wanted = bundle("www", 1)
        target.deploy(wanted)
        file = tmp_path / "www" / "current" / "postfix.pem"
        assert file.read_text() == wanted.key_pem.reveal() + wanted.fullchain_pem
        assert file.stat().st_mode & 0o777 == 0o600


def test_the_file_that_postfix_reads_cannot_be_left_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"postfix\.pem"):
        Postfix(tmp_path / "{name}", files={"postfix.pem": "combined"})
