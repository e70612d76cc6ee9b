"""A challenge that is not to be seen: what the operator is told, and what the CA is not."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certd.testing.pebble import Pebble
from certd.testing.proxy import FaultyCA
from tests.integration.test_selfcheck import ok, server
from tests.site import Site


@pytest.fixture
def ca(start_pebble: Callable[..., Pebble], tmp_path: Path) -> Iterator[FaultyCA]:
    with FaultyCA(start_pebble(retry_after=(1, 1)), tmp_path / "proxy") as ca:
        yield ca


@pytest.fixture
def name() -> str:
    return f"{secrets.token_hex(6)}.example.com"


def dns_of(ca: FaultyCA) -> Callable[[str, str], None]:
    """Let a name lead to one address."""
    assert isinstance(ca.pebble, Pebble)
    assert ca.pebble.dns is not None
    dns = ca.pebble.dns

    def lead(name: str, address: str) -> None:
        dns.clear_a(name)
        dns.add_a(name, address)

    return lead


@pytest.mark.fault(row=12)
def test_the_ca_is_not_told_and_the_order_goes_on_when_it_is_put_right(
    ca: FaultyCA, name: str, tmp_path: Path
) -> None:
    assert isinstance(ca.pebble, Pebble)
    site = Site(tmp_path / "site", ca).certificate("www", f"www.{name}", name)
    lead = dns_of(ca)
    with server(lambda path: ok(b"It works!"), "127.0.0.9", ca.http_port):
        lead(name, "127.0.0.9")
        for _ in range(2):
            done = site.certd("renew", "www")
            assert done.returncode == 1
            assert f"the challenge of {name} is not to be seen" in done.stderr + done.stdout
    status = site.status()["www"]
    assert (status["state"], status["failures"]) == ("failing", 2)
    assert f"at 127.0.0.9 port {ca.http_port} answered 200 OK with 'It works!'" in str(status)
    assert "self_check = false" in str(status)
    assert f"the challenge of {name} is not to be seen" in site.certd("show", "www").stdout
    assert not ca.seen("challenge")
    with site.store() as store:
        assert store.orders.live("www") is not None

    lead(name, "127.0.0.1")
    assert "issued, version 1" in site.renew("www").stdout
    assert ca.seen("challenge")
    assert ca.pebble.orders_made() == 1


def test_without_the_look_the_ca_is_asked_at_once(ca: FaultyCA, name: str, tmp_path: Path) -> None:
    """As in a network that does not see itself from outside."""
    site = Site(tmp_path / "site", ca).certificate("www", name, self_check=False)
    site.tables["certd"]["resolver"] = "127.0.0.1:9"
    site.write()
    assert "issued, version 1" in site.renew().stdout


def test_a_dry_run_looks_too(ca: FaultyCA, name: str, tmp_path: Path) -> None:
    site = Site(tmp_path / "site", ca).certificate("www", name)
    site.tables["ca.test"]["staging"] = ca.directory
    site.write()
    assert "the staging CA issued it" in site.renew("--dry-run").stdout
    dns_of(ca)(name, "127.0.0.9")
    before = len(ca.seen("challenge"))
    site.certificate("www", f"www.{name}", name)
    done = site.certd("renew", "--dry-run")
    assert done.returncode == 1
    assert "Connection refused" in done.stdout + done.stderr
    assert len(ca.seen("challenge")) == before


def test_a_webroot_is_looked_at_through_its_web_server(
    ca: FaultyCA, name: str, tmp_path: Path
) -> None:
    webroot = tmp_path / "html"
    webroot.mkdir()

    def file(path: str) -> bytes:
        found = webroot / path.lstrip("/")
        return ok(found.read_bytes()) if found.is_file() else b"HTTP/1.1 404 No\r\n\r\n"

    site = Site(tmp_path / "site", ca).certificate("www", name)
    site.tables["http"] = {"webroot": str(webroot), "validation_port": ca.http_port}
    site.write()
    with server(lambda path: ok(b"another folder"), port=ca.http_port):
        done = site.certd("renew")
        assert "answered 200 OK with 'another folder'" in done.stdout + done.stderr
        assert not ca.seen("challenge")
    with server(file, port=ca.http_port):
        assert "issued, version 1" in site.renew("www").stdout
