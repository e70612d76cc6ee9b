"""The provider ``manual``: what is to be published is printed, and waited for."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import dns.query
import dns.rcode
import dns.tsig
import dns.update
import pytest

from certd.testing import pebble as pebbles
from certd.testing.bind import HOST, Bind
from certd.testing.pebble import Pebble
from certd.testing.proxy import FaultyCA
from certd.testing.unbound import Unbound
from tests.site import Site

PUBLISH = re.compile(r'^publish  (\S+) \d+ IN TXT "(\S+)"$', re.MULTILINE)
REMOVE = re.compile(r'^remove   (\S+) \d+ IN TXT "(\S+)"$', re.MULTILINE)


@pytest.fixture(scope="module")
def _servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bind, Unbound, Pebble]]:
    folder = tmp_path_factory.mktemp("servers")
    zones = {"example.test": ["_acme-challenge.www CNAME www.keys.test."], "keys.test": []}
    for name in ("bind", "unbound", "pebble"):
        (folder / name).mkdir()
    with (
        Bind(zones, folder / "bind") as bind,
        Unbound(
            {zone: [bind.primary, bind.secondary] for zone in zones}, folder / "unbound"
        ) as unbound,
        pebbles.start(folder / "pebble", dns_server=unbound.dns, retry_after=(1, 1)) as ca,
    ):
        yield bind, unbound, ca


@pytest.fixture
def bind(_servers: tuple[Bind, Unbound, Pebble]) -> Bind:
    return _servers[0]


@pytest.fixture
def site(_servers: tuple[Bind, Unbound, Pebble], tmp_path: Path) -> Site:
    bind, unbound, ca = _servers
    site = Site(tmp_path / "site", ca)
    site.tables["certd"] |= {"resolver": unbound.dns, "name_server_port": bind.port}
    site.tables["dns.hand"] = {"provider": "manual", "settle": 0}
    names = ("example.test", "*.example.test", "www.example.test")
    return site.certificate("www", *names, challenge="dns-01")


@pytest.fixture
def watched(_servers: tuple[Bind, Unbound, Pebble], tmp_path: Path) -> Iterator[FaultyCA]:
    """The same Pebble with an honest ear in between."""
    with FaultyCA(_servers[2], tmp_path / "proxy") as ca:
        yield ca


def log(site: Site) -> str:
    path = site.folder / "certd.log"
    return path.read_text() if path.exists() else ""


def publish(bind: Bind, name: str, value: str) -> None:
    zone = "keys.test" if name.endswith("keys.test.") else "example.test"
    key = dns.tsig.Key(bind.key, bind.secret, bind.algorithm)
    update = dns.update.UpdateMessage(zone, keyring=key)
    update.add(name, 0, "TXT", value)
    assert dns.query.tcp(update, HOST, 5, bind.port).rcode() == dns.rcode.NOERROR


def test_what_is_printed_is_published_and_then_it_is_issued(site: Site, bind: Bind) -> None:
    with site.start("renew") as command:
        published: set[tuple[str, str]] = set()
        deadline = time.monotonic() + 30
        while command.returncode is None:
            assert time.monotonic() < deadline, log(site)
            for name, value in set(PUBLISH.findall(log(site))) - published:
                assert bind.values(name) != [value]
                publish(bind, name, value)
                published.add((name, value))
            time.sleep(0.05)
        assert command.returncode == 0, log(site)
    names = sorted(name for name, _ in published)
    assert set(names) == {"_acme-challenge.example.test.", "www.keys.test."}
    assert site.bundle("www") is not None
    # Each is to be taken away again, and no other.
    assert set(REMOVE.findall(log(site))) == published
    with site.store() as store:
        assert store.records.all() == []


def test_the_results_are_free_of_it(site: Site) -> None:
    """They may go into a pipe. Nobody publishes anything, and that is an error."""
    site.tables["dns.hand"]["timeout"] = 1
    site.certificate("www", "nobody.example.test", challenge="dns-01")
    done = site.certd("renew")
    assert done.returncode != 0
    assert PUBLISH.search(done.stderr)
    assert REMOVE.search(done.stderr)
    assert not PUBLISH.search(done.stdout)
    assert (
        "_acme-challenge.nobody.example.test is not to be seen in time" in done.stdout + done.stderr
    )


def test_the_daemon_is_nobody_who_is_there(site: Site, watched: FaultyCA) -> None:
    site.tables["ca.test"]["directory"] = watched.directory
    site.tables["ca.test"]["ca_bundle"] = str(watched.ca_bundle)
    site.write()
    with site.start("run") as daemon:
        daemon.wait_until(lambda: site.status()["www"]["last_error"] is not None)
    assert not watched.seen("new-order")
    error = site.status()["www"]["last_error"]
    assert error["what"] == "[dns.hand] is for somebody who is there"
    assert error["next"] == "run `certd renew www` at a terminal"
    assert not PUBLISH.search(log(site))
    with site.store() as store:
        assert store.records.all() == []
