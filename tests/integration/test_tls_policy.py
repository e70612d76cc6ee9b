"""Mozilla's guidelines, judged by a real sslyze: of servers that follow one, and that do not."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from certd.config import Endpoint, TargetSettings
from certd.errors import Unfit, Unseen
from certd.looking import look
from certd.model import Bundle
from certd.testing.chains import bundle
from certd.testing.processes import Child, NotInstalled, Ports
from certd.testing.tls import probe
from certd.verify import Way, policy, violations

NAME = "www.example.com"
MINE = bundle()
MODERN = ["-tls1_3", "-curves", "X25519:prime256v1:secp384r1"]


class Place:
    def deploy(self, bundle: Bundle) -> None: ...

    def serving(self, name: str) -> str | None:
        return None


@pytest.fixture(autouse=True)
def _sslyze(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the tests' own environment, where `make test` puts it, or on PATH."""
    own = Path(sys.prefix) / "sslyze" / "bin"
    path = f"{own}:{os.environ.get('PATH', os.defpath)}"
    if shutil.which("sslyze", path=path) is None:
        raise NotInstalled("sslyze", "no sslyze on PATH", "make test")
    monkeypatch.setenv("PATH", path)


@pytest.fixture
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    """The port of an `openssl s_server` with these options."""
    (tmp_path / "chain.pem").write_text(MINE.fullchain_pem)
    (tmp_path / "key.pem").write_text(MINE.key_pem.reveal())
    with Ports() as ports:
        port = ports.take()
        argv = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", "chain.pem"]
        argv += ["-cert_chain", "chain.pem", "-key", "key.pem", "-quiet", "-www", *request.param]
        with Child(argv, tmp_path / "log", cwd=tmp_path) as server:
            server.wait_until(lambda: bool(probe(port, NAME).serial))
            yield port


def judged(port: int, tls: str) -> None:
    at = Endpoint("127.0.0.1", port, tls=tls, pins=(MINE.certificate.spki_sha256,))
    look(MINE, TargetSettings("web", "place", Place(), verify=(at,)))


@pytest.mark.parametrize("serve", [MODERN], indirect=True)
def test_a_server_that_follows_the_guideline_is_verified(serve: int) -> None:
    """Its chain leads to a root that no browser knows, which is for `roots` to judge."""
    judged(serve, "modern")


@pytest.mark.parametrize("serve", [["-no_tls1_3"]], indirect=True)
def test_what_violates_it_is_listed(serve: int) -> None:
    with pytest.raises(Unfit) as failed:
        judged(serve, "modern")
    assert failed.value.what.endswith('does not follow Mozilla\'s "modern" guideline')
    assert "tls_versions: " in failed.value.why
    assert "TLSv1.2" in failed.value.why
    assert "certificate_path_validation" not in failed.value.why
    assert "ssl-config.mozilla.org" in failed.value.next


def test_what_cannot_be_judged_is_unseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ports() as ports:
        way = Way("127.0.0.1", ports.take(), NAME, 1.0)
        with pytest.raises(Unseen, match="sslyze: Server rejected the connection"):
            violations(way, "modern")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unseen, match="there is no program sslyze; install it"):
        violations(way, "modern")
    slow = tmp_path / "sslyze"
    slow.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr(policy, "SECONDS", 0.2)
    with pytest.raises(Unseen, match=r"did not end within 0\.2 s and was killed"):
        violations(way, "modern")
