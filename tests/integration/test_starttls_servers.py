"""STARTTLS as real servers do it: what they present there is what they were given."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from certd.errors import TargetError
from certd.testing.dovecot import Dovecot
from certd.testing.postfix import Postfix
from certd.testing.processes import NotInstalled
from certd.testing.starttls import PostgreSQL, Slapd
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
def server(request: pytest.FixtureRequest, minted: Minted) -> Iterator[Mapping[str, int]]:
    """The ports of its protocols."""
    with request.param(minted.fullchain, minted.key) as running:
        yield running.starttls


def test_what_a_server_presents_after_starttls_is_seen(
    server: Mapping[str, int], minted: Minted
) -> None:
    for protocol, port in server.items():
        seen = probe(Way("127.0.0.1", port, NAME, SECONDS, starttls=protocol))
        leaf, _ = read_chain(minted.fullchain.read_bytes())
        assert seen.fingerprint == served(leaf).fingerprint
        assert len(seen.sent) == 2
        assert seen.tls_version == "TLSv1.3"


def test_openssl_sees_the_same(server: Mapping[str, int]) -> None:
    if shutil.which("openssl") is None:
        raise NotInstalled("openssl", "no openssl on PATH", "install it")
    for protocol, port in server.items():
        argv = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-showcerts"]
        argv += ["-starttls", protocol, "-servername", NAME]
        done = subprocess.run(argv, input="", capture_output=True, text=True, timeout=20)
        seen = probe(Way("127.0.0.1", port, NAME, SECONDS, starttls=protocol))
        judged = read_chain(
            done.stdout[done.stdout.index("Certificate chain") :].split("\nServer c")[0]
        )
        assert tuple(one.public_bytes(Encoding.DER) for one in judged) == seen.sent


def test_without_starttls_it_is_said_that_it_may_be_needed(server: Mapping[str, int]) -> None:
    for port in server.values():
        with pytest.raises(TargetError, match=r"starttls|closed|handshake within"):
            probe(Way("127.0.0.1", port, NAME, 0.3))


def test_another_protocol_is_not_taken_for_it(server: Mapping[str, int]) -> None:
    for spoken, port in server.items():
        for protocol in {"smtp", "imap", "pop3", "ldap", "postgres"} - {spoken}:
            with pytest.raises(TargetError) as failed:
                probe(Way("127.0.0.1", port, NAME, 0.3, starttls=protocol))
            assert failed.value.why
            assert failed.value.next
