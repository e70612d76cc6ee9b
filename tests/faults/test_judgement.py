"""What certd must not conclude: from a stranger's page, a window in the past, a failure of old."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from certd import due
from certd.known import Lineage
from certd.testing.exchanges import Exchange, Forward, Reply
from certd.testing.proxy import FaultyCA
from tests.faults.driving import Driver, acted
from tests.site import Site

PAGE = Reply(403, {"Content-Type": "text/html"}, b"<html>go away</html>")


def _assert_issued_once(faulty: FaultyCA, lineage: Lineage, since: int) -> None:
    assert lineage.current is not None
    serials = [item.serial for item in faulty.pebble.ledger()[since:]]
    assert serials == [lineage.current.certificate.serial]
    assert len(faulty.acted_on("new-order")) == 1


@pytest.mark.parametrize("kind", ["order", "finalize", "certificate", "authorization"])
def test_a_page_of_somebody_in_between_costs_no_order(
    kind: str, site: Site, faulty: FaultyCA
) -> None:
    since = len(faulty.pebble.ledger())
    faulty.on(kind, acted(lambda _: PAGE))
    with Driver(site) as driver:
        lineage = driver.attempt("www")
        for _ in range(6):
            if lineage.failure:
                lineage = driver.retry("www")
    _assert_issued_once(faulty, lineage, since)


def test_failures_of_old_do_not_condemn_an_order(site: Site, faulty: FaultyCA) -> None:
    """A wrong certificate after three failures of another kind is asked for again."""
    since = len(faulty.pebble.ledger())
    faulty.on("new-order", lambda exchange, forward: Reply.problem(500, "serverInternal", "oops"))
    with Driver(site) as driver:
        lineage = driver.attempt("www")
        for _ in range(3):
            lineage = driver.retry("www")
        faulty.honest()
        faulty.on("certificate", acted(_truncated, times=5))
        lineage = driver.retry("www")
        assert lineage.ordering
        for _ in range(6):
            if lineage.failure:
                lineage = driver.retry("www")
    _assert_issued_once(faulty, lineage, since)


def _truncated(reply: Reply) -> Reply:
    return Reply(reply.status, reply.headers, reply.body[:100])


@pytest.mark.parametrize("kind", ["order", "authorization"])
def test_come_back_at_once_is_not_taken_literally(kind: str, site: Site, faulty: FaultyCA) -> None:
    faulty.on(kind, lambda _, forward: forward().with_header("Retry-After", "0"))
    with Driver(site) as driver:
        assert driver.attempt("www").failure is None
        assert [wait for wait in driver.waits if wait >= 1] or len(faulty.acted_on(kind)) < 4


@pytest.mark.fault(row=15)
def test_rate_limited_without_a_time_means_an_hour(site: Site, faulty: FaultyCA) -> None:
    reply = Reply.problem(429, "rateLimited", "too many certificates")
    faulty.on("new-order", lambda exchange, forward: reply)
    with Driver(site) as driver:
        lineage = driver.attempt("www")
        assert len(faulty.seen("new-order")) == 1
        assert lineage.retry_at is not None
        assert lineage.retry_at > driver.now() + timedelta(minutes=59)


@pytest.mark.fault(row=25)
def test_a_window_that_is_always_over_is_obeyed_a_few_times_a_day(
    site: Site, faulty: FaultyCA
) -> None:
    def over(exchange: Exchange, forward: Forward) -> Reply | None:
        start = datetime.now(UTC) - timedelta(days=2)
        window = {"start": start.isoformat(), "end": (start + timedelta(days=1)).isoformat()}
        return Reply.of(200, {"suggestedWindow": window})

    faulty.on("renewal-info", over)
    with Driver(site) as driver:
        for _ in range(8):
            lineage = driver.attempt("www")
        assert lineage.current is not None
        assert lineage.current.number == due.MOST_A_DAY
        assert lineage.renewal is not None
        assert lineage.renewal.selected > driver.now() + due.HOLD / 2


@pytest.mark.fault(row=25)
def test_a_window_that_follows_the_clock_does_not_renew_without_end(
    site: Site, faulty: FaultyCA
) -> None:
    with Driver(site) as driver:

        def just_over(exchange: Exchange, forward: Forward) -> Reply | None:
            end = driver.now() - timedelta(days=1)
            window = {"start": (end - timedelta(days=1)).isoformat(), "end": end.isoformat()}
            return Reply.of(200, {"suggestedWindow": window}, Retry_After="60")

        faulty.on("renewal-info", just_over)
        begun = driver.now()
        for _ in range(40):
            lineage = driver.attempt("www")
            driver.wait(65)
        assert driver.now() > begun + timedelta(minutes=40)
        assert lineage.current is not None
        assert lineage.current.number == due.MOST_A_DAY


def test_an_order_that_is_not_wanted_any_more_is_dropped(site: Site, faulty: FaultyCA) -> None:
    with Driver(site) as driver:
        current = driver.attempt("www").current
    site.certificate("www", "www.example.com", key="ec-p384")
    faulty.on("new-order", lambda _, forward: Reply.problem(500, "serverInternal", "oops"))
    with Driver(site) as driver:
        assert driver.attempt("www").ordering
    faulty.honest()
    site.certificate("www", "www.example.com")
    with Driver(site) as driver:
        driver.wait(300)
        lineage = driver.attempt("www")
        assert (lineage.current, lineage.ordering) == (current, False)
        driver.wait(300)
        assert driver.attempt("www").failure is None


def test_a_forced_renewal_that_fails_is_tried_again(site: Site, faulty: FaultyCA) -> None:
    with Driver(site) as driver:
        driver.attempt("www")
        faulty.on("new-order", lambda _, forward: Reply.problem(500, "serverInternal", "oops"))
        assert driver.force("www").failure
        faulty.honest()
        lineage = driver.retry("www")
        assert lineage.failure is None
        assert lineage.current is not None
        assert lineage.current.number == 2
        assert driver.attempt("www").current == lineage.current


def test_what_was_tried_and_is_not_wanted_any_more_is_forgotten(
    site: Site, faulty: FaultyCA
) -> None:
    with Driver(site) as driver:
        driver.attempt("www")
        driver.store.leases.claim(["www"])
        failing = driver.store.lineages.get("www")
        assert failing.current is not None
    site.certificate("www", "www.example.com", key="ec-p384")
    faulty.on("new-order", lambda _, forward: Reply.problem(400, "malformed", "not that"))
    with Driver(site) as driver:
        assert driver.attempt("www").failure
    site.certificate("www", "www.example.com")
    with Driver(site) as driver:
        assert driver.attempt("www").failure is None
        assert driver.store.lineages.get("www").current == failing.current


def test_orders_for_the_same_names_wait_for_each_other(site: Site, faulty: FaultyCA) -> None:
    """A CA gives the same order to whoever asks twice; it can be finalized only once."""
    orders: dict[str, Reply] = {}

    def same(exchange: Exchange, forward: Forward) -> Reply | None:
        names = str(exchange.payload["identifiers"])
        if names not in orders:
            reply = forward()
            if reply.status != 201:
                return reply
            orders[names] = reply
        return orders[names]

    def done(exchange: Exchange, forward: Forward) -> Reply | None:
        reply = forward()
        if reply.status == 200:
            orders.clear()
        return reply

    since = len(faulty.pebble.ledger())
    faulty.on("new-order", same)
    faulty.on("certificate", done)
    site.certificate("rsa", "www.example.com", key="rsa-2048")
    said = site.renew().stdout
    assert said.count("issued, version 1") == 2
    assert len(faulty.pebble.ledger()) == since + 2


def _broken(*arguments: object) -> object:
    raise RuntimeError("a bug")


@pytest.mark.parametrize("place", ["renewal.ask", "Rollout.step"])
def test_a_bug_stops_one_certificate_and_is_told(
    place: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is raised, the lease comes back, with the reason and the next attempt."""
    with Driver(site) as driver:
        monkeypatch.setattr(f"certd.reconcile.{place}", _broken)
        lineage = driver.attempt("www")
        assert lineage.failure is not None
        assert "RuntimeError" in str(lineage.failure)
        assert lineage.retry_at is not None
        monkeypatch.undo()
        lineage = driver.retry("www")
        assert lineage.failure is None
        assert lineage.current is not None
        assert lineage.current.number == 1


def test_after_a_refusal_nobody_waits_for_the_next_attempt(site: Site, faulty: FaultyCA) -> None:
    """However near that is: `certd renew` ends with the refusal, and does not sit it out."""
    faulty.on("new-order", lambda exchange, forward: Reply.problem(500, "serverInternal", "oops"))
    with Driver(site, draw=0.0) as driver:
        assert driver.attempt("www").failure
        assert driver.gave_back


def test_after_a_failed_deployment_nobody_waits_for_the_next_one(
    site: Site, faulty: FaultyCA
) -> None:
    """However long the way back takes, the next one is a minute later at least."""
    # Version 1 is taken up, if slowly; version 2 is not.
    reload = ["sh", "-c", 'sleep 0.2; [ "$CERTD_VERSION" = 1 ]']
    site.certificate("www", "www.example.com", targets=["web"]).disk(reload=reload)
    with Driver(site, draw=0.0) as driver:
        assert driver.attempt("www").targets["web"].phase == "verified"
        target = driver.force("www").targets["web"]
        assert target.phase == "rolled-back"
        assert target.since is not None
        assert target.retry_at == target.since + due.BACKOFF[0]
        assert driver.gave_back


def _processing(exchange: Exchange, forward: Forward) -> Reply | None:
    reply = forward()
    if reply.status != 200 or reply.json().get("status") not in ("processing", "valid"):
        return reply
    return reply.but(status="processing", certificate=None, expires=None)


@pytest.mark.fault(row=10)
def test_an_order_that_stays_with_the_ca_is_given_back(site: Site, faulty: FaultyCA) -> None:
    """After five minutes, not when the order expires: `certd renew` ends then. It is gone on
    with as long as any CA keeps an order, whether or not it says how long that is.
    """
    faulty.on("order", _processing)
    with Driver(site) as driver:
        lineage = driver.attempt("www")
        assert driver.gave_back
        assert lineage.ordering
        assert sum(driver.waits) <= 300
        driver.wait(7 * 24 * 3600)
        assert driver.attempt("www").ordering
        driver.wait(24 * 3600)
        lineage = driver.attempt("www")
        assert lineage.failure is not None
        assert lineage.failure.what == "the order expired while it was processing"
    assert len(faulty.acted_on("new-order")) == 2


@pytest.mark.fault(row=10)
def test_an_order_that_stays_with_the_ca_survives_a_restart(site: Site, faulty: FaultyCA) -> None:
    since = len(faulty.pebble.ledger())
    faulty.on("order", _processing)
    with Driver(site) as driver:
        assert driver.attempt("www").ordering
    faulty.honest()
    with Driver(site) as driver:
        _assert_issued_once(faulty, driver.attempt("www"), since)


def test_an_order_that_the_ca_cannot_show_for_days_is_given_up(
    site: Site, faulty: FaultyCA
) -> None:
    faulty.on("order", lambda exchange, forward: Reply(500, {}, b"oops"))
    with Driver(site) as driver:
        assert driver.attempt("www").ordering
        for _ in range(6):  # a minute, ten, a hundred, and then days
            assert driver.retry("www").ordering
        for _ in range(6):
            lineage = driver.retry("www")
        faulty.honest()
        assert driver.retry("www").current is not None
    assert lineage.failure is not None
    assert len(faulty.acted_on("new-order")) == 2


@pytest.mark.parametrize("kind", ["new-order", "order", "authorization", "finalize"])
def test_what_is_no_answer_is_asked_again_soon(kind: str, site: Site, faulty: FaultyCA) -> None:
    """A page of somebody in between, with a status of 200."""
    since = len(faulty.pebble.ledger())
    faulty.on(kind, lambda exchange, forward: Reply(200, {}, b"<html>hello</html>"), times=2)
    with Driver(site) as driver:
        lineage = driver.attempt("www")
    assert lineage.failure is None
    assert lineage.current is not None
    assert len(faulty.pebble.ledger()) == since + 1


def test_a_failure_is_history_once_the_change_is_taken_back(site: Site, faulty: FaultyCA) -> None:
    site.renew()
    faulty.on("new-order", lambda _, __: Reply.problem(400, "rejectedIdentifier", "not this"))
    site.certificate("www", "www.example.com", "new.example.com")
    assert site.certd("renew").returncode == 1
    site.certificate("www", "www.example.com")
    assert "www: not due before" in site.renew().stdout
    assert site.status()["www"]["last_error"] is None
