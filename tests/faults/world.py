"""A DNS for the CA of a test: zones that certd writes, and slow, lame and broken ones.

One resolver, which the CA and certd ask, knows three sets of name servers: ``quick``, whose
secondary follows at once; ``slow``, whose secondary has to be told; and ``stub``, which answers
what a test likes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dns.query
import dns.rcode
import dns.tsig
import dns.update

from certd.testing import pebble as pebbles
from certd.testing.bind import Bind
from certd.testing.pebble import Pebble
from certd.testing.unbound import Unbound
from tests.faults.namestub import NameStub
from tests.site import Site

HOPS = 20
PREFIX = "_acme-challenge"
QUICK = {
    "example.test": [
        f"{PREFIX}.alias CNAME alias.keys.test.",
        f"{PREFIX}.round CNAME a.round",
        f"a.round CNAME {PREFIX}.round",
        f"{PREFIX}.self CNAME {PREFIX}.self",
        f"{PREFIX}.far CNAME hop1",
        f"{PREFIX}.near CNAME hop{HOPS - 6}",  # it is the first of eight
        *(f"hop{number} CNAME hop{number + 1}" for number in range(1, HOPS)),
        f"hop{HOPS} CNAME end.keys.test.",
    ],
    "keys.test": [],
    "other.test": [],
    "lame.test": ["@ NS ns3", "ns3 A 127.0.0.1"],
}


class World:
    """The name servers, their resolver, and a Pebble that asks it."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.quick = stack.enter_context(Bind(QUICK, lame=["lame.test"]))
        self.stub = stack.enter_context(NameStub("odd.test", folder))
        self.slow = stack.enter_context(Bind({"slow.test": []}, notify=False))
        zones = {
            zone: [bind.primary, bind.secondary]
            for bind in (self.quick, self.slow)
            for zone in bind.zones
        }
        self.unbound = stack.enter_context(Unbound({**zones, "odd.test": [self.stub.dns]}))
        settings: dict[str, Any] = {"authz_reuse": 0, "retry_after": (1, 1)}
        self.pebble: Pebble = stack.enter_context(
            pebbles.start(folder / "pebble", dns_server=self.unbound.dns, **settings)
        )

    def at(self, site: Site, servers: Bind | NameStub, **settings: Any) -> Site:
        """[dns.main] writes there, and these name servers are asked."""
        account = servers.account if isinstance(servers, NameStub) else self.account(servers)
        site.tables["certd"]["name_server_port"] = servers.port
        site.tables["dns.main"] = {**account, **settings}
        site.write()
        return site

    def account(self, bind: Bind) -> dict[str, Any]:
        """A [dns] table by which its zones are written."""
        secret = bind.folder / "secret"
        secret.write_text(bind.secret)
        secret.chmod(0o600)
        return {
            "provider": "rfc2136",
            "server": bind.primary,
            "key": bind.key,
            "secret": {"file": str(secret)},
            "settle": 0,
        }


def by_dns(site: Site, name: str, *names: str, **settings: Any) -> Site:
    return site.certificate(name, *names, challenge="dns-01", **settings)


def write(bind: Bind, zone: str, name: str, value: str, *, remove: bool = False) -> None:
    """What somebody else has at this name, or takes away."""
    key = dns.tsig.Key(bind.key, bind.secret, bind.algorithm)
    update = dns.update.UpdateMessage(zone, keyring=key)
    if remove:
        update.delete(f"{name}.", "TXT", value)
    else:
        update.add(f"{name}.", 0, "TXT", value)
    answer = dns.query.tcp(update, "127.0.0.1", timeout=5, port=bind.port)
    assert answer.rcode() == dns.rcode.NOERROR


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def left(site: Site) -> list[str]:
    """The names in the journal: what may still be in a zone."""
    with site.store() as store:
        return [kept.record.name for kept in store.records.all()]


@contextlib.contextmanager
def started(folder: Path) -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        yield World(folder, stack)
