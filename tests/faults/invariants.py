"""What must hold of a site after whatever happened to it: I1 to I5 (docs/faults.md).

Each check reads what others would see: the CA's ledger, the files of the targets, and
``certd status --json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from certd import due, x509
from certd.model import Bundle
from certd.secrets import Secret
from certd.testing.pebble import Pebble
from tests.site import Site

Status = Mapping[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Books:
    """What the CA has booked since ``Books.opened``: the orders made, the serials issued."""

    pebble: Pebble
    orders_before: int
    issued_before: int

    @classmethod
    def opened(cls, pebble: Pebble) -> Books:
        return cls(pebble, pebble.orders_made(), len(pebble.ledger()))

    @property
    def orders(self) -> int:
        return self.pebble.orders_made() - self.orders_before

    @property
    def serials(self) -> list[str]:
        return [item.serial for item in self.pebble.ledger()[self.issued_before :]]


def pairs_in_place(site: Site, name: str) -> dict[str, str | None]:
    """I1: by target the serial of the unexpired, matching pair in place; None: nothing yet."""
    targets = [table for table in site.tables if table.startswith("target.")]
    places = {table: Path(site.tables[table]["path"].format(name=name)) for table in targets}
    return {table.removeprefix("target."): _pair(path) for table, path in places.items()}


def _pair(folder: Path) -> str | None:
    current = folder / "current"
    if not current.exists():
        return None
    fullchain, key = (current / file for file in ("fullchain.pem", "privkey.pem"))
    assert x509.pair_matches(fullchain.read_text(), Secret(key.read_text())), folder
    facts = x509.facts(x509.read_chain(fullchain.read_text())[0])
    assert facts.not_after > datetime.now(UTC), f"{folder} has expired"
    return facts.serial


def bundles(site: Site, name: str) -> list[Bundle]:
    """Every version in the store, each of them a pair."""
    with site.store() as store:
        known = {spec.name: lineage for spec, lineage in store.lineages.all()}
        current = known[name].current if name in known else None
        numbers = range(1, current.number + 1) if current else ()
        found = [store.lineages.bundle(name, number) for number in numbers]
    assert all(x509.pair_matches(item.leaf_pem, item.key_pem) for item in found)
    return found


def next_pin(site: Site, name: str) -> str | None:
    """The pin of the key that was made in advance."""
    with site.store() as store:
        known = {spec.name: lineage for spec, lineage in store.lineages.all()}
    made = known[name].next_key if name in known else None
    return made.spki_sha256 if made else None


def assert_used_and_another_made(site: Site, name: str, announced: str) -> None:
    assert bundles(site, name)[-1].certificate.spki_sha256 == announced
    assert next_pin(site, name) not in (None, announced)


def assert_old_or_new_in_place(site: Site, name: str, before: dict[str, str | None]) -> None:
    """I1, at any moment: each target has the pair of before, or that of the newest version."""
    newest = {item.certificate.serial for item in bundles(site, name)[-1:]}
    for target, serial in pairs_in_place(site, name).items():
        assert serial in {before[target], *newest}, target


def assert_no_key_is_lost(site: Site, name: str, books: Books) -> None:
    """I2, at any moment: the store has the key of whatever the CA has issued."""
    serials = books.serials
    known = {item.certificate.serial for item in bundles(site, name)} if serials else set()
    for serial in serials:
        if serial not in known:
            leaf = books.pebble.cert_status(serial)["Certificate"]
            with site.store() as store:
                order = store.orders.live(name)
            assert order is not None, "a certificate was issued, and no order is known"
            assert x509.pair_matches(leaf, order.key_pem), "the key of a certificate is lost"


def assert_store_equals_ledger(site: Site, name: str, before: int, books: Books) -> None:
    """I3: what the CA has issued are the versions after number ``before``, and no more."""
    versions = [item.certificate.serial for item in bundles(site, name)[before:]]
    assert versions == books.serials


def assert_told(status: Status) -> None:
    """I5: of each certificate and each target the state, the reason and the next attempt."""
    for entry in status.values():
        assert entry["state"]
        assert entry["renew_reason"]
        stopped = due.STOPPED in entry["renew_reason"]  # there is no next attempt then
        if not stopped:
            assert datetime.fromisoformat(entry["next_attempt"])
        for item in (entry, *entry["targets"]):
            assert item["state"]
            if item["state"] in ("failing", "failed", "rolled-back"):
                failing = [entry["last_error"], *(one["last_error"] for one in entry["targets"])]
                assert any(error and error["what"] for error in failing)
                assert item["next_attempt"] or (stopped and item is entry)
