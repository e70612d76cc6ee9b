"""Accounts in the store: shared by all processes, each change by who has seen what it changes."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from certd.cli.handing_out import write
from certd.errors import CertdError
from certd.known import Account, Failure, Park
from certd.model import CertificateSpec, Identifier
from certd.secrets import Secret
from certd.store import Store

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
NAMES = ("a", "b")


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store.in_memory()
    store.lineages.take_over(
        {
            name: CertificateSpec(name, (Identifier("dns", "a.example"),), ("test",))
            for name in NAMES
        },
        "digest",
    )
    yield store
    store.close()


def test_a_roll_over_is_begun_once_and_ended_by_whoever_sees_it(store: Store) -> None:
    url = "https://ca.example/dir"
    there = store.accounts.keep_account(Account(url, Secret("old"), f"{url}/1"))
    begun = store.accounts.keep_next_key(there, Secret("new"))
    assert begun == replace(there, next_key_pem=Secret("new"))
    assert store.accounts.keep_next_key(there, Secret("another")) == begun
    assert store.accounts.keep_next_key(replace(there, key_pem=Secret("x")), Secret("y")) is None
    assert store.accounts.keep_rolled_over(begun)
    rolled = replace(there, key_pem=Secret("new"))
    assert store.accounts.account(url) == rolled
    # Whoever still has the key of before changes nothing any more.
    assert not store.accounts.keep_rolled_over(begun)
    assert not store.accounts.forget_next_key(begun)
    assert not store.accounts.keep_deactivated(there)
    assert store.accounts.all() == [rolled]


def test_an_account_is_replaced_by_who_has_seen_it(store: Store) -> None:
    url = "https://ca.example/dir"
    mine, theirs = Account(url, Secret("mine"), "1"), Account(url, Secret("theirs"), "2")
    assert store.accounts.replace(None, mine)
    assert not store.accounts.replace(None, theirs)
    assert store.accounts.keep_deactivated(mine)
    assert not store.accounts.replace(mine, theirs)  # it is deactivated meanwhile
    assert store.accounts.replace(replace(mine, deactivated=True), theirs)
    assert store.accounts.account(url) == theirs


def test_whom_the_account_stopped_asks_again(store: Store) -> None:
    store.leases.claim(NAMES)
    failure = Failure("x", "y", "z", NOW)
    store.parks.keep("a", "test", Park(None, failure, everyone=True))
    for name in NAMES:
        store.leases.release(name, None)
    store.lineages.ask_ca_again("other", NOW)
    assert not store.leases.claim_due(NOW, 9)
    store.lineages.ask_ca_again("test", NOW)
    assert store.lineages.get("a").parks == {}
    assert sorted(store.leases.claim_due(NOW, 9)) == sorted(NAMES)


def test_what_may_be_issued_and_is_to_be_fetched_is_known(store: Store) -> None:
    store.leases.claim(NAMES)
    url = "https://ca.example/dir"
    key, csr = Secret("key"), "csr"
    order = store.orders.begin("a", "test", url, (), "ec-p256", key, csr, None, NOW)
    assert store.orders.finalizing(url) == []
    order = store.orders.keep_finalizing(order, 0)
    assert store.orders.finalizing(url) == ["a"]
    assert store.orders.finalizing("https://other.example/dir") == []
    store.orders.end(order, "failed", "x", NOW)
    assert store.orders.finalizing(url) == []


def test_an_export_that_fails_leaves_nothing_in_the_next_ones_way(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(CertdError, match=r"cannot write .*: File too large; name a file that"):
            write(path, b"x" * 200)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    write(path, b"x" * 200)
    assert path.read_text() == "x" * 200
