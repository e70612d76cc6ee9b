"""The CA refuses, forgets, or its answer is lost: faults 1, 2, 4, 11, 12, 14, 16, 18 and 21."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from certd.authorize import TRIES
from certd.ca.net import NONCE_TRIES
from certd.known import Lineage
from certd.testing.exchanges import Exchange, Forward, Reply
from certd.testing.pebble import Pebble
from certd.testing.proxy import FaultyCA
from tests.faults.driving import Driver, acted, lost
from tests.site import Site

SIGNED = ("new-account", "new-order", "authorization", "challenge", "order", "finalize")


def _issued(faulty: FaultyCA, lineage: Lineage, since: int) -> int:
    """How many certificates since then, the last of which must be the current one."""
    assert lineage.failure is None
    assert lineage.current is not None
    ledger = faulty.pebble.ledger()[since:]
    assert ledger[-1].serial == lineage.current.certificate.serial
    return len(ledger)


# Lost and refused exchanges


@pytest.mark.fault(row=4)
@pytest.mark.parametrize("kind", SIGNED)
def test_a_reset_after_the_ca_acted(kind: str, site: Site, faulty: FaultyCA) -> None:
    since = len(faulty.pebble.ledger())
    faulty.on(kind, acted(lost))
    with Driver(site) as driver:
        assert _issued(faulty, driver.attempt("www"), since) == 1
    assert len(faulty.acted_on("finalize")) == 1
    assert len(faulty.acted_on("new-order")) == (2 if kind == "new-order" else 1)


@pytest.mark.fault(row=2)
@pytest.mark.parametrize("kind", ["directory", "new-nonce", *SIGNED, "certificate"])
@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_server_that_fails_twice_is_asked_again(
    kind: str, status: int, site: Site, faulty: FaultyCA
) -> None:
    since = len(faulty.pebble.ledger())
    page = Reply(status, {"Content-Type": "text/html"}, b"<html>we are sorry</html>")
    faulty.on(kind, lambda exchange, forward: page, times=2)
    with Driver(site) as driver:
        assert _issued(faulty, driver.attempt("www"), since) == 1


@pytest.mark.fault(row=2)
@pytest.mark.parametrize("kind", ["new-order", "order", "certificate"])
@pytest.mark.parametrize("status", [500, 502, 503])
@pytest.mark.parametrize("form", ["seconds", "HTTP-date"])
def test_retry_after_of_a_failing_server(
    form: str, status: int, kind: str, site: Site, faulty: FaultyCA
) -> None:
    since = len(faulty.pebble.ledger())

    def fail(exchange: Exchange, forward: Forward) -> Reply | None:
        at = format_datetime(datetime.now(UTC) + timedelta(seconds=42), usegmt=True)
        return Reply(status, {"Retry-After": "42" if form == "seconds" else at})

    faulty.on(kind, fail, times=1)
    with Driver(site) as driver:
        assert _issued(faulty, driver.attempt("www"), since) == 1
        assert 40 < max(driver.waits) <= 42


def test_a_server_that_keeps_no_connection(site: Site, faulty: FaultyCA) -> None:
    faulty.on(None, lambda _, forward: forward().with_header("Connection", "close"))
    with Driver(site) as driver:
        assert driver.attempt("www").failure is None
        assert driver.waits == [wait for wait in driver.waits if wait < 1]


@pytest.mark.fault(row=2)
def test_a_server_that_always_fails_is_left_in_peace(site: Site, faulty: FaultyCA) -> None:
    faulty.on("new-order", lambda exchange, forward: Reply.problem(500, "serverInternal", "oops"))
    with Driver(site) as driver:
        lineage = driver.attempt("www")
        assert lineage.failure is not None
        assert "oops (serverInternal, HTTP 500)" in lineage.failure.why
        assert len(faulty.seen("new-order")) == TRIES + 1
        assert lineage.retry_at is not None
        assert lineage.retry_at > driver.now() + timedelta(seconds=50)
        faulty.honest()
        assert driver.retry("www").failure is None
    assert len(faulty.acted_on("new-order")) == 1


@pytest.mark.fault(row=14)
@pytest.mark.parametrize("form", ["seconds", "HTTP-date"])
@pytest.mark.parametrize("status", [429, 503])
def test_a_long_retry_after_parks_the_order(
    status: int, form: str, site: Site, faulty: FaultyCA
) -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=7200), usegmt=True)
    asked = "7200" if form == "seconds" else at
    reply = Reply.problem(status, "rateLimited", "too many certificates")
    reply = reply.with_header("Retry-After", asked)
    faulty.on("new-order", lambda exchange, forward: reply)
    with Driver(site) as driver:
        lineage = driver.attempt("www")
        assert lineage.failure is not None
        assert "too many certificates" in lineage.failure.why
        assert len(faulty.seen("new-order")) == 1
        assert lineage.retry_at is not None
        assert lineage.retry_at > driver.now() + timedelta(seconds=7100)


@pytest.mark.fault(row=16)
def test_where_the_operator_must_act_he_is_told_where(site: Site, faulty: FaultyCA) -> None:
    reply = Reply.problem(403, "userActionRequired", "the terms have changed")
    reply = reply.but(instance="https://ca.example/terms/2")
    faulty.on("new-order", lambda exchange, forward: reply)
    with Driver(site) as driver:
        failure = driver.attempt("www").failure
    assert failure is not None
    assert "the terms have changed (userActionRequired" in failure.why
    assert failure.next == "see https://ca.example/terms/2"


@pytest.mark.fault(row=1)
@pytest.mark.parametrize("percent", [20, 50, 90])
def test_nonces_are_refused_again_and_again(
    percent: int, start_pebble: Callable[..., Pebble], tmp_path: Any
) -> None:
    pebble = start_pebble(nonce_reject=percent, retry_after=(1, 1))
    with (
        FaultyCA(pebble, tmp_path / "proxy") as faulty,
        Driver(Site(tmp_path / "site", faulty).certificate("www", "www.example.com")) as driver,
    ):
        lineage = driver.attempt("www")
        for _ in range(40):  # at 90 % five tries in a row fail more often than not
            if lineage.failure:
                assert "badNonce" in lineage.failure.why
                lineage = driver.retry("www")
        assert _issued(faulty, lineage, 0) == 1
        assert len(faulty.acted_on("new-order")) == len(faulty.acted_on("finalize")) == 1


@pytest.mark.fault(row=1)
def test_every_nonce_is_refused(start_pebble: Callable[..., Pebble], tmp_path: Any) -> None:
    pebble = start_pebble(nonce_reject=100)
    with (
        FaultyCA(pebble, tmp_path / "proxy") as faulty,
        Driver(Site(tmp_path / "site", faulty).certificate("www", "www.example.com")) as driver,
    ):
        failure = driver.attempt("www").failure
        assert failure is not None
        assert "badNonce" in failure.why
        assert len(faulty.exchanges) <= (TRIES + 1) * NONCE_TRIES + 2


# Renewals that replace


@pytest.mark.fault(row=21)
@pytest.mark.parametrize(
    ("status", "type"),
    [(409, "alreadyReplaced"), (400, "malformed"), (403, "unauthorized"), (404, "malformed")],
)
def test_a_refused_replaces_is_left_out_once(
    status: int, type: str, site: Site, faulty: FaultyCA
) -> None:
    since = len(faulty.pebble.ledger())

    def refuse(exchange: Exchange, forward: Forward) -> Reply | None:
        if exchange.payload and "replaces" in exchange.payload:
            return Reply.problem(status, type, "we do not like replaces")
        return forward()

    with Driver(site) as driver:
        driver.attempt("www")
        seen = len(faulty.seen("new-order"))
        faulty.on("new-order", refuse)
        assert _issued(faulty, driver.force("www"), since) == 2
    asked = ["replaces" in item.payload for item in faulty.seen("new-order")[seen:]]
    # Without it, the nonce may be refused.
    assert asked[0]
    assert not any(asked[1:])


@pytest.mark.fault(row=21)
def test_a_ca_that_falls_over_replaces_is_asked_without(site: Site, faulty: FaultyCA) -> None:
    def fall(exchange: Exchange, forward: Forward) -> Reply | None:
        if "replaces" in exchange.payload:
            return Reply.problem(500, "serverInternal", "no such order")
        return forward()

    faulty.on("new-order", fall)
    with Driver(site) as driver:
        driver.attempt("www")
        lineage = driver.force("www")
        assert lineage.failure is None
        assert lineage.current is not None
        assert lineage.current.number == 2


@pytest.mark.fault(row=21)
def test_a_renewal_whose_order_was_lost_is_already_replaced(site: Site, faulty: FaultyCA) -> None:
    since = len(faulty.pebble.ledger())
    with Driver(site) as driver:
        driver.attempt("www")
        faulty.on("new-order", acted(lost))
        assert _issued(faulty, driver.force("www"), since) == 2


# Orders and authorizations that come to nothing


INVALID = {
    "type": "urn:ietf:params:acme:error:compound",
    "detail": "two things were wrong",
    "subproblems": [
        {
            "type": "urn:ietf:params:acme:error:caa",
            "detail": "CAA forbids it",
            "identifier": {"type": "dns", "value": "www.example.com"},
        }
    ],
}


@pytest.mark.fault(row=11)
def test_an_invalid_order_shows_the_cas_problem(site: Site, faulty: FaultyCA) -> None:
    since = len(faulty.pebble.ledger())

    def give_up(exchange: Exchange, forward: Forward) -> Reply | None:
        ready = faulty.seen("order")[-1].upstream
        return ready and ready.but(status="invalid", error=INVALID)

    faulty.on("finalize", give_up)
    with Driver(site) as driver:
        failure = driver.attempt("www").failure
        assert failure is not None
        shown = site.status()["www"]["last_error"]["why"]
        for words in ("two things were wrong", "www.example.com: CAA forbids it", "caa"):
            assert words in shown
        faulty.honest()
        assert _issued(faulty, driver.retry("www"), since) == 1
    assert len(faulty.acted_on("new-order")) == 2
    refused, finalized = faulty.seen("finalize")[0], faulty.acted_on("finalize")[-1]
    assert refused.payload["csr"] != finalized.payload["csr"]  # a new order has a new key


@pytest.mark.fault(row=22)
@pytest.mark.parametrize("type", ["badCSR", "unauthorized", "rejectedIdentifier"])
def test_a_refused_finalize_shows_the_cas_problem(type: str, site: Site, faulty: FaultyCA) -> None:
    since = len(faulty.pebble.ledger())
    faulty.on("finalize", lambda exchange, forward: Reply.problem(403, type, "not this one"))
    with Driver(site) as driver:
        failure = driver.attempt("www").failure
        assert failure is not None
        assert f"not this one ({type}" in failure.why
        faulty.honest()
        assert _issued(faulty, driver.retry("www"), since) == 1


@pytest.mark.fault(row=12)
def test_a_failed_validation_names_the_name_and_the_reason(
    start_pebble: Callable[..., Pebble], tmp_path: Any
) -> None:
    pebble = start_pebble(retry_after=(1, 1))
    assert pebble.dns is not None
    pebble.dns.set_servfail("lost.example.com")
    with FaultyCA(pebble, tmp_path / "proxy") as faulty:
        site = Site(tmp_path / "site", faulty)
        site.certificate("www", "www.example.com", "lost.example.com", self_check=False)
        with Driver(site) as driver:
            failure = driver.attempt("www").failure
            assert failure is not None
            assert "lost.example.com" in str(failure)
            assert "resolve" in str(failure)
            assert len(faulty.acted_on("new-order")) == 1
            pebble.dns.clear_servfail("lost.example.com")
            assert _issued(faulty, driver.retry("www"), 0) == 1


@pytest.mark.fault(row=12)
def test_a_name_is_not_failed_more_than_five_times_an_hour(
    start_pebble: Callable[..., Pebble], tmp_path: Any
) -> None:
    pebble = start_pebble(retry_after=(1, 1))
    assert pebble.dns is not None
    pebble.dns.set_servfail("lost.example.com")
    with FaultyCA(pebble, tmp_path / "proxy") as faulty:
        site = Site(tmp_path / "site", faulty)
        site.certificate("www", "lost.example.com", self_check=False)
        with Driver(site, draw=0.0) as driver:
            over = driver.now() + timedelta(hours=1)
            lineage = driver.attempt("www")
            while lineage.retry_at and lineage.retry_at < over:
                lineage = driver.retry("www")
    assert 2 <= len(faulty.acted_on("challenge")) <= 5


# A CA that has forgotten


@pytest.mark.fault(row=18)
def test_a_ca_that_has_forgotten_the_account_gets_the_same_key_again(
    start_pebble: Callable[..., Pebble], tmp_path: Any
) -> None:
    pebble = start_pebble(retry_after=(1, 1))
    with FaultyCA(pebble, tmp_path / "proxy") as faulty:
        site = Site(tmp_path / "site", faulty).certificate("www", "www.example.com")
        with Driver(site) as driver:
            driver.attempt("www")
            pebble.restart()
            lineage = driver.force("www")
            assert _issued(faulty, lineage, 0) == 2
    first, second = (item.protected["jwk"] for item in faulty.acted_on("new-account"))
    assert first == second


@pytest.mark.fault(row=18)
def test_a_ca_that_forgets_everything_in_the_middle_of_an_order(
    start_pebble: Callable[..., Pebble], tmp_path: Any
) -> None:
    pebble = start_pebble(retry_after=(1, 1))

    def restart(exchange: Exchange, forward: Forward) -> Reply | None:
        pebble.restart()
        return forward()

    with FaultyCA(pebble, tmp_path / "proxy") as faulty:
        faulty.on("authorization", restart, times=1)
        site = Site(tmp_path / "site", faulty).certificate("www", "www.example.com")
        with Driver(site) as driver:
            lineage = driver.attempt("www")
            for _ in range(2):
                if lineage.failure:
                    lineage = driver.retry("www")
            assert _issued(faulty, lineage, 0) == 1
    assert len({str(item.protected["jwk"]) for item in faulty.acted_on("new-account")}) == 1
