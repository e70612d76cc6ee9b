"""A CA's limits, kept before it has to say so (invariant I4)."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import datetime, timedelta

import pytest

from certd import due
from certd.testing.exchanges import Exchange, Forward, Reply
from certd.testing.proxy import FaultyCA
from tests.faults.driving import Driver, invalid
from tests.site import Site

NAMES = ("www", "two", "three", "four")


@pytest.fixture
def limited(site: Site) -> Site:
    """Four certificates, and two orders an hour."""
    site.tables["ca.test"]["limits"] = ["orders 2/1h"]
    for name in NAMES[1:]:
        site.certificate(name, f"{name}.example.com")
    return site


def test_no_more_orders_than_the_ca_allows(limited: Site, faulty: FaultyCA) -> None:
    with Driver(limited) as driver:
        for name in NAMES:
            driver.attempt(name)
        assert len(faulty.acted_on("new-order")) == 2
        third = driver.store.lineages.get("three")
        assert third.failure is None
        assert third.held_until is not None
        wait = third.held_until - driver.now()
        assert timedelta(minutes=29) < wait <= timedelta(minutes=30)
        driver.store.lineages.retry_now("three", driver.now(), force=True)
        driver.attempt("three")  # the operator cannot make the CA give more
        assert len(faulty.acted_on("new-order")) == 2
        driver.wait(wait.total_seconds() + 1)
        assert driver.attempt("three").current is not None
        assert driver.attempt("four").current is None
    entry = limited.status()["four"]
    assert "test allows 2 within 1 h of new orders" in entry["renew_reason"]
    assert limited.certd("status").returncode == 0  # it waits, and has not failed


def test_commands_and_restarts_share_what_is_left(limited: Site, faulty: FaultyCA) -> None:
    for name in NAMES:
        limited.certd("renew", name)
    assert len(faulty.acted_on("new-order")) == 2


def test_what_failed_counts_too(site: Site, faulty: FaultyCA) -> None:
    """Orders that came to nothing, and names that could not be validated."""
    site.tables["ca.test"]["limits"] = ["orders 9/1h", "failures 1/12m"]
    site.write()
    faulty.on("authorization", invalid("dns"))
    with Driver(site) as driver:
        driver.attempt("www")
        lineage = driver.retry("www")  # a minute later
        assert len(faulty.acted_on("new-order")) == 1
        assert lineage.held_until is not None
        wish = due.issuance(driver.spec("www"), lineage, driver.now())
        assert "failed validations of www.example.com" in wish.reason
        faulty.honest()
        driver.wait(12 * 60)
        assert driver.attempt("www").current is not None


def test_an_order_that_may_have_been_made_counts(limited: Site, faulty: FaultyCA) -> None:
    """newOrder without an answer that says so: it is asked for again, and counts again."""
    faulty.on("new-order", lambda _, __: Reply.of(500, {}))
    with Driver(limited) as driver:
        driver.attempt("www")
        assert driver.retry("www").held_until is None
        assert driver.retry("www").held_until is not None


def test_every_name_that_failed_counts(site: Site, faulty: FaultyCA) -> None:
    site.tables["ca.test"]["limits"] = ["failures 1/12m"]
    site.certificate("www", "www.example.com", "example.com")
    site.certificate("apex", "example.com").write()
    faulty.on("authorization", invalid("dns"))
    with Driver(site) as driver:
        lineage = driver.attempt("www")
        assert lineage.failure is not None
        assert "(and 1 more of its names)" in lineage.failure.what
        faulty.honest()
        assert driver.attempt("apex").held_until is not None


def test_the_next_ca_is_asked_where_a_certificate_cannot_wait(
    limited: Site, faulty: FaultyCA
) -> None:
    same = {key: limited.tables["ca.test"][key] for key in ("directory", "ca_bundle", "agree_tos")}
    limited.tables["ca.second"] = same
    for name in NAMES:
        limited.certificate(name, f"{name}.example.com", ca=["test", "second"])
    with Driver(limited) as driver:
        cas = []
        for name in NAMES:
            current = driver.attempt(name).current
            assert current is not None
            cas.append(current.ca)
    assert cas == ["test", "test", "second", "second"]


def test_a_refusal_of_the_cas_own_is_still_obeyed(limited: Site, faulty: FaultyCA) -> None:
    reply = Reply.problem(429, "rateLimited", "no").with_header("Retry-After", "7200")
    faulty.on("new-order", lambda _, __: reply)
    with Driver(limited) as driver:
        lineage = driver.attempt("www")
        assert lineage.retry_at is not None
        assert lineage.retry_at - driver.now() > timedelta(seconds=7000)


@pytest.mark.fault(row=25)
def test_a_fleet_that_must_be_renewed_now_is_renewed_through_the_budget(
    limited: Site, faulty: FaultyCA
) -> None:
    limited.tables["ca.test"]["limits"] = ["orders 6/1h"]
    limited.write()
    with Driver(limited) as driver:
        for name in NAMES:
            assert driver.attempt(name).current is not None
        revoked = {driver.store.lineages.bundle(name, 1).certificate.ari_id for name in NAMES}

        def window(exchange: Exchange, forward: Forward) -> Reply:
            if exchange.path.rpartition("/")[2] in revoked:
                return Reply.of(200, _window(driver.now()))
            return forward()

        faulty.on("renewal-info", window)
        driver.store.lineages.ask_all(driver.now())
        found = [driver.attempt(name) for name in NAMES]
        numbers = [lineage.current and lineage.current.number for lineage in found]
        assert numbers == [2, 2, 1, 1]
        waiting = found[-1]
        assert waiting.failure is None
        reason = due.issuance(driver.spec("four"), waiting, driver.now()).reason
        assert "the CA's renewal window" in reason
        assert "test allows 6 within 1 h of new orders" in reason
        driver.wait(1201)
        found = [driver.attempt(name) for name in NAMES[2:]]
        assert [lineage.current and lineage.current.number for lineage in found] == [2, 2]


def _window(now: datetime) -> dict[str, object]:
    """One that was over an hour ago."""
    ends = [(now - timedelta(hours=hours)).isoformat() for hours in (2, 1)]
    return {"suggestedWindow": dict(zip(("start", "end"), ends, strict=True))}


def test_a_bucket_that_is_full_again_is_forgotten(limited: Site, faulty: FaultyCA) -> None:
    with Driver(limited) as driver:
        driver.attempt("www")
        assert _buckets(limited) == 1
        driver.wait(1700)
        driver.tidy()
        assert _buckets(limited) == 1
        driver.wait(3600)
        driver.tidy()
        assert _buckets(limited) == 0


def _buckets(site: Site) -> int:
    with contextlib.closing(sqlite3.connect(site.state / "certd.db")) as database:
        return int(database.execute("SELECT count(*) FROM bucket").fetchone()[0])
