"""STARTTLS as real servers do it: what they present there is what they were given."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from certd.errors import TargetError
from certd.testing.processes import NotInstalled
from certd.testing.starttls import Dovecot, Postfix, PostgreSQL, Slapd, Speaker
from certd.testing.tls import Minted, mint, served
from certd.verify import Way, probe
from certd.x509 import read_chain

NAME = "mail.example.com"
SECONDS = 10.0


@pytest.fixture(scope="module")
def minted(tmp_path_factory: pytest.TempPathFactory) -> Minted:
    made = mint(tmp_path_factory.mktemp("pair"), [NAME])
    made.fullchain.write_bytes(made.fullchain.read_bytes() + made.root.read_bytes())
    return made


@pytest.fixture(scope="module", params=[Postfix, Dovecot, Slapd, PostgreSQL])
def server(request: pytest.FixtureRequest, minted: Minted) -> Iterator[Speaker]:
    with request.param(minted.fullchain, minted.key) as running:
        yield running


def assert_presented(minted: Minted, protocol: str, port: int) -> None:
    seen = probe(Way("127.0.0.1", port, NAME, SECONDS, starttls=protocol))
    leaf, _ = read_chain(minted.fullchain.read_bytes())
    assert seen.fingerprint == served(leaf).fingerprint
    assert len(seen.sent) == 2
    assert seen.tls_version == "TLSv1.3"


def test_what_a_server_presents_after_starttls_is_seen(server: Speaker, minted: Minted) -> None:
    assert_presented(minted, server.protocol, server.port)
    if isinstance(server, Dovecot):
        assert_presented(minted, "pop3", server.pop3_port)


def test_openssl_sees_the_same(server: Speaker, minted: Minted) -> None:
    if shutil.which("openssl") is None:
        raise NotInstalled("openssl", "no openssl on PATH", "install it")
    argv = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-showcerts"]
    argv += ["-starttls", server.protocol, "-servername", NAME]
    done = subprocess.run(argv, input="", capture_output=True, text=True, timeout=20)
    seen = probe(Way("127.0.0.1", server.port, NAME, SECONDS, starttls=server.protocol))
    judged = read_chain(
        done.stdout[done.stdout.index("Certificate chain") :].split("\nServer c")[0]
    )
    assert tuple(one.public_bytes(Encoding.DER) for one in judged) == seen.sent


def test_without_starttls_it_is_said_that_it_may_be_needed(server: Speaker) -> None:
    with pytest.raises(TargetError, match=r"starttls|closed|handshake within"):
        probe(Way("127.0.0.1", server.port, NAME, 0.3))


def test_another_protocol_is_not_taken_for_it(server: Speaker) -> None:
    for protocol in {"smtp", "imap", "pop3", "ldap", "postgres"} - {server.protocol}:
        with pytest.raises(TargetError) as failed:
            probe(Way("127.0.0.1", server.port, NAME, 0.3, starttls=protocol))
        assert failed.value.why
        assert failed.value.next
