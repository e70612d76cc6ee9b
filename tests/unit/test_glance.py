"""The quick look of ``certd status`` sees what the store sees."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certd.errors import StoreError
from certd.model import CertificateSpec, Failure, Identifier, RenewalInfo, TargetState
from certd.store import Store
from certd.store.glance import glance
from certd.testing.chains import bundle

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
FAILURE = Failure("what", "why", "next", NOW)


def test_it_sees_every_column(tmp_path: Path) -> None:
    names = (Identifier("dns", "a.example"), Identifier("ip", "192.0.2.1"))
    bare = CertificateSpec("bare", names, ("test",))
    full = replace(bare, name="full", targets=("web", "mail"), renew_after=0.5)
    store = Store.open(tmp_path)
    store.lineages.take_over({"bare": bare, "full": full}, "digest")
    assert store.leases.claim(["full"]) == ["full"]
    sample = bundle("full", 1, "a.example")
    order = store.orders.begin("full", "test", names, "ec-p256", sample.key_pem, "csr", None, NOW)
    store.orders.complete(order, sample.leaf_pem, sample.chain_pem, sample.certificate, NOW)
    store.orders.begin("full", "test", names, "ec-p256", sample.key_pem, "csr", "id", NOW)
    info = RenewalInfo(NOW, NOW + timedelta(1), NOW + timedelta(hours=2), "https://why.example")
    store.lineages.keep_renewal("full", info, NOW, 2)
    store.lineages.keep_failure("full", FAILURE, 3, NOW + timedelta(microseconds=1))
    state = TargetState("web", "failed", 1, None, 2, NOW, NOW + timedelta(1), FAILURE)
    store.lineages.keep_target("full", state)
    try:
        assert glance(tmp_path) == (store.lineages.all(), "digest")
    finally:
        store.close()


def test_without_a_database_there_is_nothing(tmp_path: Path) -> None:
    assert glance(tmp_path) == ([], None)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_database_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "certd.db").write_text("no database at all, but long enough to look at" * 100)
    with pytest.raises(StoreError, match="damaged"):
        glance(tmp_path)
