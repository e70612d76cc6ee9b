"""Certificates by TLS-ALPN-01 from Pebble: names, addresses, what goes wrong, two processes."""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from certd.model import Identifier
from certd.secrets import Secret
from certd.store import Store
from certd.testing.challtestsrv import ChallTestSrv
from certd.testing.pebble import Pebble, RunningPebble
from certd.testing.processes import NotInstalled
from certd.testing.proxy import FaultyCA
from tests.acceptance.test_daemon import running, wait_for_version
from tests.site import Site

TLS = "tls-alpn-01"


@pytest.fixture
def ca(pebble: RunningPebble, tmp_path: Path) -> Iterator[FaultyCA]:
    with FaultyCA(pebble, tmp_path / "proxy") as ca:
        yield ca


@pytest.fixture
def dns(pebble: RunningPebble, name: str) -> Iterator[ChallTestSrv]:
    if not isinstance(pebble, Pebble) or pebble.dns is None:
        raise NotInstalled("pebble of our own", "the DNS of this one is not ours", "")
    yield pebble.dns
    pebble.dns.clear_a(name)


@pytest.fixture
def site(ca: FaultyCA, tmp_path: Path) -> Site:
    """One that cannot answer by HTTP-01."""
    site = Site(tmp_path / "site", ca)
    del site.tables["http"]
    return site


@pytest.fixture
def name() -> str:
    return f"{secrets.token_hex(6)}.example.com"


def issued(site: Site, name: str = "www") -> set[str]:
    bundle = site.bundle(name)
    assert bundle is not None
    return {str(identifier) for identifier in bundle.certificate.identifiers}


def verified_for(site: Site, ca: FaultyCA, name: str) -> None:
    """As OpenSSL sees it, for a client that asked for this name or address."""
    openssl = shutil.which("openssl")
    if openssl is None:
        raise NotInstalled("openssl", "there is no openssl in PATH", "install openssl")
    bundle = site.bundle("www")
    assert bundle is not None
    parts = {"leaf": bundle.leaf_pem, "chain": bundle.chain_pem, "root": ca.pebble.root_pem()}
    for part, pem in parts.items():
        (site.folder / f"{part}.pem").write_text(pem)
    kind = "-verify_hostname"
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(name)
        kind = "-verify_ip"
    argv = [openssl, "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "root.pem"]
    argv += ["-untrusted", "chain.pem", kind, name, "leaf.pem"]
    done = subprocess.run(argv, cwd=site.folder, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr


def both_families(site: Site, port: int) -> None:
    site.tables["tls_alpn"]["listen"] = [f"127.0.0.1:{port}", f"[::1]:{port}"]


def free(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["www.example.com", "example.com"], id="names"),
        pytest.param(["127.0.0.1"], id="an IPv4 address"),
        pytest.param(["::1"], id="an IPv6 address"),
        pytest.param(["www.example.com", "bücher.example", "::1", "127.0.0.1"], id="all kinds"),
    ],
)
def test_what_was_asked_for_and_the_port_is_free_before_and_after(
    names: list[str], site: Site, ca: FaultyCA
) -> None:
    both_families(site, ca.tls_port)
    site.certificate("www", *names, challenge=TLS)
    assert "issued, version 1" in site.renew().stdout
    wanted = {name.replace("bücher", "xn--bcher-kva") for name in names}
    assert issued(site) == wanted
    for name in wanted:
        verified_for(site, ca, name)
    assert free(ca.tls_port)
    assert ca.seen("challenge")


def test_the_names_of_both_challenges_beside_each_other(
    ca: FaultyCA, name: str, tmp_path: Path
) -> None:
    site = Site(tmp_path / "site", ca)
    site.certificate("http", f"a.{name}").certificate("tls", f"b.{name}", challenge=TLS)
    site.renew()
    assert issued(site, "http") == {f"a.{name}"}
    assert issued(site, "tls") == {f"b.{name}"}


def test_two_certificates_that_share_a_name_take_turns(site: Site, name: str) -> None:
    """By one SNI there is one answer at a time."""
    site.certificate("a", name, f"a.{name}", challenge=TLS)
    site.certificate("b", name, challenge=TLS).certificate("c", name, challenge=TLS, key="rsa-2048")
    done = site.renew()
    assert done.stdout.count("issued, version 1") == 3


def test_who_has_the_port_is_told_and_nothing_is_asked_of_the_ca(
    site: Site, ca: FaultyCA, name: str
) -> None:
    site.certificate("www", name, challenge=TLS)
    with socket.create_server(("127.0.0.1", ca.tls_port)):
        done = site.certd("renew")
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert f"the TLS-ALPN-01 responder cannot listen on 127.0.0.1:{ca.tls_port}" in said
    assert f"ss -ltnp 'sport = :{ca.tls_port}'" in said
    assert not ca.seen("challenge")
    assert "issued, version 1" in site.renew("www").stdout


def test_the_look_of_our_own_keeps_the_ca_from_a_failure(
    site: Site, ca: FaultyCA, dns: ChallTestSrv, name: str
) -> None:
    dns.add_a(name, "127.0.0.9")  # nothing listens there
    site.certificate("www", name, challenge=TLS)
    done = site.certd("renew")
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert f"the challenge of {name} is not to be seen, so the CA was not told to look" in said
    assert f"127.0.0.9 port {ca.tls_port}: Connection refused" in said
    assert not ca.seen("challenge")

    dns.clear_a(name)
    assert "issued, version 1" in site.renew("www").stdout
    assert len(ca.acted_on("new-order")) == 1


def test_without_the_look_the_ca_says_what_it_saw(site: Site, dns: ChallTestSrv, name: str) -> None:
    dns.add_a(name, "127.0.0.9")
    site.certificate("www", name, challenge=TLS, self_check=False)
    done = site.certd("renew")
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert f"the CA could not validate {name}" in said
    assert f"connections to {name} port 443 with the ALPN protocol acme-tls/1 reach certd" in said


def test_a_daemon_that_has_the_port_answers_for_the_command_beside_it(
    site: Site, ca: FaultyCA, name: str
) -> None:
    """It is held open by a challenge that somebody else has published, and waits for his CA."""
    site.certificate("www", name, challenge=TLS)
    with running(site) as daemon:
        wait_for_version(daemon, site, 1)
        daemon.wait_until(lambda: free(ca.tls_port))
        with contextlib.closing(Store.open(site.state)) as store:
            other = store.tokens.apart("probe ")
            token = secrets.token_urlsafe(24)
            host = Identifier("dns", "other.example.com")
            other.publish(token, {token: Secret(f"{token}.x")}, datetime.now(UTC), {token: host})
            # The daemon opens the port for its own, and stays for the other's.
            site.certificate("mail", f"mail.{name}", challenge=TLS)
            daemon.send(signal.SIGHUP)
            wait_for_version(daemon, site, 1, "mail")
            assert not free(ca.tls_port)
            assert "renewed, version 2" in site.renew("www", "--force").stdout
            assert not free(ca.tls_port)
            other.withdraw(token)
            store.settle()
        daemon.wait_until(lambda: free(ca.tls_port))


def test_a_dry_run_answers_by_tls_too(site: Site, ca: FaultyCA, name: str) -> None:
    site.tables["ca.test"]["staging"] = ca.directory
    site.certificate("www", name, challenge=TLS)
    assert "the staging CA issued it" in site.renew("--dry-run").stdout
    assert site.status()["www"]["state"] == "new"
    assert free(ca.tls_port)
