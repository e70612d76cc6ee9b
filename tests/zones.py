"""Zones as people have them, and a CA that sees them as the internet does: delegated, with aliases
into others, and with another writer; a primary and its secondary behind a resolver.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from certd.testing import pebble as pebbles
from certd.testing.bind import STRANGER, Bind, Changed
from certd.testing.pebble import Pebble
from certd.testing.unbound import Unbound
from tests.site import Site

DELEGATED = ["ns1.{0} A 127.0.0.1", "ns2.{0} A 127.0.0.2", "{0} NS ns1.{0}", "{0} NS ns2.{0}"]
ZONES = {
    "example.test": [
        "_acme-challenge.www CNAME www.keys.test.",
        "_acme-challenge.out CNAME out.keys.test.",
        "_acme-challenge.far CNAME far.hop.test.",
        *(line.format("sub") for line in DELEGATED),
    ],
    "sub.example.test": [],
    "hop.test": ["far CNAME far.keys.test."],
    "keys.test": [],
    "strange.test": [],
}


@dataclass(frozen=True, slots=True)
class Internet:
    """Of one test module: it starts once."""

    bind: Bind
    resolver: str
    ca: Pebble

    def site(self, folder: Path) -> Site:
        """With two accounts: ``main`` may write in all zones but one, ``other`` only in that."""
        site = Site(folder, self.ca)
        del site.tables["http"], site.tables["tls_alpn"]
        site.tables["certd"]["name_server_port"] = self.bind.port
        (folder / "tsig").write_text(self.bind.secret)
        usual = {
            "provider": "rfc2136",
            "server": self.bind.primary,
            "secret": {"file": "tsig"},
            "settle": 0,
        }
        site.tables["dns.main"] = {**usual, "key": self.bind.key}
        site.tables["dns.other"] = {**usual, "key": STRANGER, "ttl": 300}
        site.write()
        return site


@contextlib.contextmanager
def internet(folder: Path) -> Iterator[Internet]:
    """Its CA validates each name each time."""
    places = [folder / part for part in ("bind", "unbound", "pebble")]
    for place in places:
        place.mkdir()
    with Bind(ZONES, places[0], strange=["strange.test"]) as bind:
        zones = {zone: [bind.primary, bind.secondary] for zone in bind.zones}
        with (
            Unbound(zones, places[1]) as unbound,
            pebbles.start(
                places[2], dns_server=unbound.dns, authz_reuse=0, retry_after=(1, 1)
            ) as ca,
        ):
            yield Internet(bind, unbound.dns, ca)


class Watched:
    """What has been written in the zones since, and whether anything of it is there still."""

    def __init__(self, bind: Bind) -> None:
        self._bind = bind
        self._since = {zone: bind.serial(zone) for zone in bind.zones}

    def written(self) -> Mapping[str, list[Changed]]:
        """By zone; each record that was added must have been removed again."""
        found: dict[str, list[Changed]] = {}
        for zone, since in self._since.items():
            changes = self._bind.history(zone, since)
            left = collections.Counter(one[1:] for one in changes if one.sign == "+")
            left.subtract(one[1:] for one in changes if one.sign == "-")
            assert not +left, f"left over in {zone}"
            assert not -left, f"removed in {zone}, but never added"
            if changes:
                found[zone] = [one for one in changes if one.sign == "+"]
        return found

    def names(self) -> list[str]:
        return sorted(one.name for changes in self.written().values() for one in changes)


def issued(site: Site, name: str = "www") -> set[str]:
    bundle = site.bundle(name)
    assert bundle is not None
    return {str(identifier) for identifier in bundle.certificate.identifiers}


def journal(site: Site) -> list[str]:
    """The names of records that are, or may be, in zones."""
    with site.store() as store:
        return sorted(kept.record.name for kept in store.records.all())
