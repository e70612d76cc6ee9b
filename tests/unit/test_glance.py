"""The quick look of ``certd status`` sees what the store sees."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certd.errors import StoreError
from certd.known import Failure, NextKey, RenewalInfo, TargetState
from certd.model import CertificateSpec, Identifier
from certd.store import Store
from certd.store.files import advice
from certd.store.glance import Seen, chain, glance
from certd.testing.chains import bundle

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
FAILURE = Failure("what", "why", "next", NOW)


def test_it_sees_every_column(tmp_path: Path) -> None:
    names = (Identifier("dns", "a.example"), Identifier("ip", "192.0.2.1"))
    bare = CertificateSpec("bare", names, ("test",))
    full = replace(
        bare,
        name="full",
        targets=("web", "mail"),
        renew_after=0.5,
        profile="short",
        fallback_profile="long",
        lifetime=timedelta(days=7),
        reuse_key=True,
        backup_key=True,
    )
    store = Store.open(tmp_path)
    store.lineages.take_over({"bare": bare, "full": full}, "digest")
    assert store.leases.claim(["full"]) == ["full"]
    sample = bundle("full", 1, "a.example")
    order = store.orders.begin(
        *("full", "test", "https://ca.example/dir", names, "ec-p256", sample.key_pem, "csr", None),
        NOW,
        profile="long",
        lifetime=timedelta(days=7),
        wishes=full.wishes,
    )
    store.next_keys.keep("full", sample.key_pem, NextKey("ec-p384", "pin="), NOW)
    store.orders.complete(order, sample.leaf_pem, sample.chain_pem, sample.certificate, NOW)
    store.orders.begin(
        "full", "test", "https://ca.example/dir", names, "ec-p256", sample.key_pem, "csr", "id", NOW
    )
    info = RenewalInfo(NOW, NOW + timedelta(1), NOW + timedelta(hours=2), "https://why.example")
    store.lineages.keep_renewal("full", info, NOW, 2)
    store.lineages.keep_failure("full", FAILURE, 3, NOW + timedelta(microseconds=1))
    state = TargetState("web", "failed", 1, None, 2, NOW, NOW + timedelta(1), FAILURE)
    store.lineages.keep_target("full", state)
    store.lineages.retry_now("full", NOW, force=False, new_key=True)
    try:
        seen = glance(tmp_path)
        everything = store.lineages.all()
        assert (seen.wanted, seen.configuration) == (everything, "digest")
        spec, lineage = everything[1]
        assert (spec, lineage.next_key) == (full, NextKey("ec-p384", "pin="))
        assert (lineage.forced, lineage.new_key) == (True, True)
        assert lineage.current is not None
        assert (lineage.current.profile, lineage.current.wishes) == ("long", full.wishes)
        assert [glance(tmp_path, name).wanted for name in ("bare", "full", "other")] == [
            everything[:1],
            everything[1:],
            [],
        ]
        assert glance(tmp_path, "bare").digests == seen.digests
        assert chain(tmp_path, "full", 1) == sample.chain_pem
    finally:
        store.close()


def test_without_a_database_there_is_nothing(tmp_path: Path) -> None:
    assert glance(tmp_path) == glance(tmp_path, "www") == Seen()
    assert chain(tmp_path, "www", 1) == ""
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_database_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "certd.db").write_text("no database at all, but long enough to look at" * 100)
    with pytest.raises(StoreError, match="damaged"):
        glance(tmp_path)


def test_a_row_that_is_damaged_is_said_to_be(tmp_path: Path) -> None:
    spec = CertificateSpec("www", (Identifier("dns", "a.example"),), ("test",))
    store = Store.open(tmp_path)
    store.lineages.take_over({"www": spec}, "digest")
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "certd.db")) as database:
        database.execute("UPDATE lineage SET wanted = substr(wanted, 1, 30)")
        database.commit()
    with pytest.raises(StoreError, match=r"a row cannot be read .*damaged"):
        glance(tmp_path)


def test_a_database_that_nothing_was_written_to_is_none_yet(tmp_path: Path) -> None:
    (tmp_path / "certd.db").touch()
    assert glance(tmp_path) == Seen()
    assert (tmp_path / "certd.db").stat().st_size == 0


@pytest.mark.parametrize("kind", ["state below a file", "database that is a folder"])
def test_what_root_cannot_read_either_is_not_advised_to_root(tmp_path: Path, kind: str) -> None:
    state = tmp_path / "state"
    if kind == "state below a file":
        state.touch()
    else:
        (state / "certd.db").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"(Not|Is) a directory; correct \[certd\] state"):
        glance(state)


@pytest.mark.parametrize(
    ("number", "begins"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EDQUOT, "make room"),
        (errno.EEXIST, "correct [certd] state"),
        (errno.ENOTDIR, "correct [certd] state"),
        (errno.EACCES, "become root"),
    ],
)
def test_advice_is_for_what_happened(number: int, begins: str) -> None:
    assert advice(OSError(number, os.strerror(number)), "become root").startswith(begins)
