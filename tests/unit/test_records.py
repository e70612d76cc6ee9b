"""The journal of TXT records: what is written down, for whom, in which order, and how long."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certd import x509
from certd.known import Failure
from certd.model import CertificateSpec, DNSChallenge, Identifier, TxtRecord
from certd.references import SecretReference
from certd.secrets import Secret
from certd.store import Store
from certd.store.keyfile import add_key
from certd.store.records import LONG, Kept, Records

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
FAILURE = Failure("it could not be removed", "no answer", "wait", NOW)


def txt(
    value: str, name: str = "_acme-challenge.example.org", zone: str = "example.org"
) -> TxtRecord:
    return TxtRecord(zone, name, value, 60)


ONE, TWO, THREE = txt("one"), txt("two"), txt("three")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with contextlib.closing(Store.open(tmp_path)) as store:
        yield store


def values(kept: list[Kept]) -> list[str]:
    return sorted(one.record.value for one in kept)


def test_what_is_written_again_is_as_old_as_before(store: Store) -> None:
    records = store.records
    assert records.publish("www", "main", ONE, NOW) == NOW
    assert records.publish("www", "main", ONE, NOW + SECOND) == NOW
    assert records.all() == [Kept("www", "main", ONE, NOW)]
    # By another account, certificate or value it is another.
    assert records.publish("www", "second", ONE, NOW + SECOND) == NOW + SECOND
    assert records.publish("api", "main", ONE, NOW + SECOND) == NOW + SECOND
    assert records.publish("www", "main", TWO, NOW + SECOND) == NOW + SECOND
    assert len(records.all()) == 4


def test_what_is_written_again_is_wanted_again_and_new(store: Store) -> None:
    records = store.records
    records.publish("www", "main", ONE, NOW)
    records.give_up("www")
    records.later(records.all()[0], FAILURE, NOW + SECOND)
    moved = txt("one", zone="org")
    assert records.publish("www", "main", moved, NOW + SECOND) == NOW + SECOND
    [kept] = records.all()
    assert kept == Kept("www", "main", moved, NOW + SECOND)
    assert kept.record.zone == "org"
    assert records.to_remove(NOW + LONG) == []


def test_only_what_is_given_up_is_to_be_removed(store: Store) -> None:
    records = store.records
    records.publish("www", "main", ONE, NOW)
    records.publish("api", "main", TWO, NOW)
    assert records.to_remove(NOW) == []
    records.give_up("www")
    records.give_up("nobody")
    assert values(records.to_remove(NOW)) == ["one"]
    assert values(records.of("www")) == ["one"]
    assert values(records.of("api")) == ["two"]


def test_a_removal_that_failed_comes_later(store: Store) -> None:
    records = store.records
    records.publish("www", "main", ONE, NOW)
    records.publish("www", "main", TWO, NOW)
    records.give_up("www")
    for failures in (1, 2):
        kept = next(one for one in records.all() if one.record == ONE)
        records.later(kept, FAILURE, NOW + SECOND)
        kept = next(one for one in records.all() if one.record == ONE)
        assert (kept.failures, kept.retry_at, kept.failure) == (failures, NOW + SECOND, FAILURE)
    assert values(records.to_remove(NOW)) == ["two"]
    assert values(records.to_remove(NOW + SECOND)) == ["one", "two"]


def test_what_is_wanted_meanwhile_is_neither_put_off_nor_withdrawn(store: Store) -> None:
    """Between the removal's beginning and its end, somebody has published the same."""
    records = store.records
    records.publish("www", "main", ONE, NOW)
    records.give_up("www")
    [kept] = records.to_remove(NOW)
    assert not records.wanted("main", ONE)
    records.publish("www", "main", ONE, NOW)
    assert records.wanted("main", ONE)
    records.later(kept, FAILURE, NOW + SECOND)
    records.withdraw("main", ONE)
    assert records.all() == [Kept("www", "main", ONE, NOW)]


def test_one_of_several_is_given_up(store: Store) -> None:
    records = store.records
    for name, record in (("www", ONE), ("www", TWO), ("api", ONE)):
        records.publish(name, "main", record, NOW)
    records.give_up_one("www", "main", ONE)
    records.give_up_one("www", "second", TWO)
    assert [(one.lineage, one.record) for one in records.to_remove(NOW)] == [("www", ONE)]


def test_a_record_that_two_want_is_there_until_the_last_gives_it_up(store: Store) -> None:
    records = store.records
    records.publish("www", "main", ONE, NOW)
    records.publish("api", "main", ONE, NOW)
    records.give_up("www")
    assert records.wanted("main", ONE)
    assert not records.wanted("second", ONE)
    assert not records.wanted("main", TWO)
    records.withdraw("main", ONE)
    assert [one.lineage for one in records.all()] == ["api"]
    records.give_up("api")
    assert not records.wanted("main", ONE)
    records.withdraw("main", ONE)
    assert records.all() == []


def test_what_is_withdrawn_is_that_value_by_that_account_only(store: Store) -> None:
    records = store.records
    for account, record in (("main", ONE), ("main", TWO), ("second", ONE)):
        records.publish("www", account, record, NOW)
    records.give_up("www")
    records.withdraw("main", ONE)
    assert sorted((one.account, one.record.value) for one in records.all()) == [
        ("main", "two"),
        ("second", "one"),
    ]


def test_the_line_for_room_is_by_age(store: Store) -> None:
    records = store.records
    other, below = (
        txt("other", "_acme-challenge.other.org", "other.org"),
        txt("below", "_acme-challenge.a.example.org"),
    )
    records.publish("www", "main", ONE, NOW)
    records.publish("api", "main", TWO, NOW + SECOND)
    records.publish("api", "main", below, NOW + SECOND)
    records.publish("api", "main", other, NOW)
    records.publish("api", "second", txt("second"), NOW)
    records.publish("mail", "main", THREE, NOW + 2 * SECOND)
    assert before(records, "www", "main", ONE, zone=False) == []
    assert values(before(records, "api", "main", TWO, zone=False)) == ["one"]
    assert values(before(records, "mail", "main", THREE, zone=False)) == ["one", "two"]
    # Where a change rewrites the zone, whatever is in the zone.
    assert values(before(records, "mail", "main", THREE, zone=True)) == ["below", "one", "two"]


def test_the_line_holds_who_is_given_up_until_it_is_gone(store: Store) -> None:
    records = store.records
    records.publish("www", "main", ONE, NOW)
    records.give_up("www")
    records.publish("api", "main", TWO, NOW + SECOND)
    assert values(before(records, "api", "main", TWO, zone=False)) == ["one"]
    records.withdraw("main", ONE)
    assert before(records, "api", "main", TWO, zone=False) == []


def test_of_the_same_age_exactly_one_is_first(store: Store) -> None:
    """Else each would wait for the other, or both would go."""
    records = store.records
    for name, record in (("www", ONE), ("api", TWO), ("mail", THREE)):
        records.publish(name, "main", record, NOW)
    lengths = [
        len(before(records, name, "main", record, zone=False))
        for name, record in (("www", ONE), ("api", TWO), ("mail", THREE))
    ]
    assert sorted(lengths) == [0, 1, 2]


def test_nobody_waits_for_the_same_value_and_who_is_not_written_down_waits_for_all(
    store: Store,
) -> None:
    records = store.records
    records.publish("www", "main", ONE, NOW)
    records.publish("api", "main", ONE, NOW + SECOND)
    assert before(records, "api", "main", ONE, zone=False) == []
    assert values(before(records, "new", "main", TWO, zone=False)) == ["one", "one"]


def before(
    records: Records, name: str, account: str, record: TxtRecord, *, zone: bool
) -> list[Kept]:
    """What others have there, that it has to wait for."""
    return records.before(name, account, record, zone=zone)[0]


def _want(store: Store, name: str) -> None:
    spec = CertificateSpec(name, (Identifier("dns", f"{name}.example.org"),), ("test",))
    store.lineages.take_over({name: spec}, name)


def test_those_apart_are_none_of_the_others_business(store: Store) -> None:
    records, dry = store.records, store.records.apart("dry run 1: ")
    records.publish("www", "main", ONE, NOW)
    dry.publish("www", "main", TWO, NOW)
    assert values(records.of("www")) == ["one"]
    assert values(dry.of("www")) == ["two"]
    dry.give_up("www")
    assert values(records.to_remove(NOW)) == ["two"]  # whoever sweeps removes what is left
    records.give_up("www")
    assert values(dry.to_remove(NOW)) == ["one", "two"]
    # But room is the same for all.
    assert values(before(records, "api", "main", THREE, zone=False)) == ["one", "two"]
    assert dry.publish("www", "main", ONE, NOW + SECOND) == NOW + SECOND
    assert before(dry, "www", "main", TWO, zone=False) == before(
        records, "dry run 1: www", "main", TWO, zone=False
    )


def test_orphans_are_given_up(store: Store) -> None:
    """A certificate's without an order under way, and after a day anybody's."""
    records = store.records
    records.give_up_orphaned(NOW)
    _want(store, "www")
    records.publish("www", "main", ONE, NOW)
    records.apart("dry run 1: ").publish("www", "main", TWO, NOW)
    records.publish("gone", "main", THREE, NOW)
    records.give_up_orphaned(NOW)
    assert values(records.to_remove(NOW)) == ["one"]
    records.give_up_orphaned(NOW + LONG)
    assert values(records.to_remove(NOW)) == ["one"]
    records.give_up_orphaned(NOW + LONG + SECOND)
    assert values(records.to_remove(NOW)) == ["one", "three", "two"]


def test_whose_order_is_under_way_is_no_orphan(store: Store) -> None:
    records = store.records
    _want(store, "www")
    key = x509.new_key("ec-p256")
    names = (Identifier("dns", "www.example.org"),)
    csr = x509.csr(key, names)
    assert store.leases.claim(["www"]) == ["www"]
    order = store.orders.begin(
        "www", "test", "https://ca.example/dir", names, "ec-p256", key, csr, None, NOW
    )
    records.publish("www", "main", ONE, NOW)
    records.give_up_orphaned(NOW + 2 * LONG)
    assert records.to_remove(NOW) == []
    store.orders.end(order, "failed", "no", NOW)
    records.give_up_orphaned(NOW)
    assert values(records.to_remove(NOW)) == ["one"]


def test_what_is_kept_outlives_the_process(store: Store, tmp_path: Path) -> None:
    store.records.publish("www", "main", ONE, NOW)
    store.records.give_up("www")
    store.records.later(store.records.all()[0], FAILURE, NOW + SECOND)
    with contextlib.closing(Store.open(tmp_path)) as again:
        assert again.records.all() == store.records.all()


def test_the_challenge_of_a_record_is_kept_with_it(store: Store, tmp_path: Path) -> None:
    """Of it the provider makes name and value again, to remove them."""
    first, second = (DNSChallenge("example.org", Secret(f"{it}.thumbprint")) for it in "ab")
    store.records.publish("www", "main", replace(ONE, challenge=first), NOW)
    store.records.publish("www", "main", replace(ONE, challenge=second), NOW)  # its own, and newer
    store.records.give_up("www")
    with contextlib.closing(Store.open(tmp_path)) as again:
        [kept] = again.records.to_remove(NOW)
    assert kept.record.challenge == second
    assert second.token == "b"
    assert "thumbprint" not in repr(kept)


def test_a_challenge_that_does_not_open_keeps_no_record_from_being_removed(tmp_path: Path) -> None:
    key = tmp_path / "key"
    add_key(key)
    challenge = DNSChallenge("example.org", Secret("token.thumbprint"))
    with contextlib.closing(Store.open(tmp_path / "s", SecretReference("file", key))) as store:
        for record in (ONE, TWO):
            store.records.publish("www", "main", replace(record, challenge=challenge), NOW)
        with contextlib.closing(sqlite3.connect(tmp_path / "s" / "certd.db")) as connection:
            connection.execute("UPDATE dns_record SET value = 'moved' WHERE value = 'two'")
            connection.commit()
        store.records.give_up("www")
        found = {one.record.value: one.record.challenge for one in store.records.to_remove(NOW)}
    assert found == {"one": challenge, "moved": None}
