"""The traefik target, on a real Traefik."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from certd_deploy.traefik import Traefik

from certd.api import ConfigError, TargetError
from certd.testing.chains import bundle
from certd.testing.traefik import Traefik as Server
from tests.servers import UnderLoad, settled


class TestTraefik(UnderLoad):
    kind = Server

    def recipe(self, server: Server, path: Path) -> Traefik:
        for each in server.dynamic.iterdir():
            each.unlink()
        return Traefik(path, configuration=server.dynamic / "{name}.yml")

    def test_a_file_of_the_operators_is_touched_not_written(
        self, target: Traefik, server: Server, tmp_path: Path
    ) -> None:
        current = tmp_path / "www" / "current"
        file = server.dynamic / "www.yml"
        text = (
            f"tls: {{certificates: [{{certFile: {current}/fullchain.pem, "
            f"keyFile: {current}/privkey.pem}}]}}\n"
        )
        file.write_text(text)
        for wanted in (bundle("www", 1), bundle("www", 2)):
            target.deploy(wanted)
            self.assert_in_place(target, wanted)
        assert file.read_text() == text

    def test_what_certd_writes_is_for_traefiks_user_too(
        self, target: Traefik, server: Server
    ) -> None:
        umask = os.umask(0o077)
        try:
            target.deploy(bundle("www", 1))
        finally:
            os.umask(umask)
        assert (server.dynamic / "www.yml").stat().st_mode & 0o777 == 0o644
        assert [each.name for each in server.dynamic.iterdir()] == ["www.yml"]

    def test_a_file_that_cannot_be_written_puts_the_link_back(
        self, target: Traefik, server: Server
    ) -> None:
        older, newer = bundle("www", 1), bundle("www", 2)
        target.deploy(older)
        self.assert_served(older)
        with server.broken(), pytest.raises(TargetError, match="Traefik cannot be told"):
            target.deploy(newer)
        self.assert_in_place(target, older)

    def test_a_file_that_does_not_name_the_version_any_more_is_seen_and_put_right(
        self, target: Traefik, server: Server
    ) -> None:
        wanted, file = bundle("www", 1), server.dynamic / "www.yml"
        target.deploy(wanted)
        text = file.read_text()
        for other in (None, text.replace("versions/1/", "versions/9/"), ""):
            file.unlink() if other is None else file.write_text(other)
            assert target.serving("www") == ""
            target.deploy(wanted)
            assert file.read_text() == text
            self.assert_in_place(target, wanted)

    def test_two_certificates_do_not_take_turns_in_one_file(
        self, target: Traefik, server: Server
    ) -> None:
        one = Traefik(target.path, configuration=server.dynamic / "all.yml")
        first = bundle("www", 1)
        one.deploy(first)
        with pytest.raises(TargetError, match="that of certificate www"):
            one.deploy(bundle("mail", 1))
        assert one.serving("mail") == ""
        assert settled(server, first.certificate.fingerprint)


def test_a_name_that_traefik_does_not_read_is_refused() -> None:
    check = Traefik.__dataclass_fields__["configuration"].metadata["check"]
    check(Path("/etc/traefik/dynamic/{name}.yaml"))
    with pytest.raises(ConfigError, match="YAML"):
        check(Path("/etc/traefik/dynamic/{name}.conf"))
