"""Refusals that are rare: what certd does about each, over a real exchange (acme.md's table)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certd import due
from certd.testing.exchanges import Reply
from certd.testing.proxy import FaultyCA
from tests.faults.driving import Driver, invalid
from tests.site import Site

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


@pytest.mark.parametrize("type", ["orderNotReady", "badPublicKey", "badCSR"])
def test_what_can_be_helped_at_once_is(type: str, site: Site, faulty: FaultyCA) -> None:
    faulty.on("finalize", lambda _, __: Reply.problem(403, type, "not so"), times=1)
    with Driver(site) as driver:
        assert driver.attempt("www").failure is None
    [first, *_, last] = faulty.seen("finalize")
    assert (first.payload["csr"] == last.payload["csr"]) == (type == "orderNotReady")
    assert len(faulty.acted_on("new-order")) == 1


@pytest.mark.parametrize(
    ("type", "wait"),
    [
        pytest.param("unsupportedIdentifier", None, id="unsupportedIdentifier"),
        pytest.param("rejectedIdentifier", None, id="rejectedIdentifier"),
        pytest.param("malformed", None, id="malformed"),
        pytest.param("userActionRequired", None, id="userActionRequired"),
        pytest.param("invalidProfile", DAY, id="invalidProfile"),
        pytest.param("unheardOf", DAY, id="a word that no standard has"),
    ],
)
def test_what_a_new_order_is_refused_for(
    type: str, wait: timedelta | None, site: Site, faulty: FaultyCA
) -> None:
    """``wait`` until the next attempt; None: there is none before the operator acts."""
    faulty.on("new-order", lambda _, __: Reply.problem(400, type, "not this"))
    with Driver(site) as driver:
        lineage = driver.attempt("www")
        assert lineage.failure is not None
        assert f"({type}, HTTP 400)" in lineage.failure.why
        at = due.issuance(driver.spec("www"), lineage, driver.now()).at
        if wait is None:
            assert at == due.NEVER
        else:
            assert wait * 0.99 < at - driver.now() <= wait * 1.1
    assert len(faulty.seen("new-order")) == 1


@pytest.mark.fault(row=15)
@pytest.mark.parametrize(
    ("detail", "stopped"),
    [
        pytest.param(
            "paused for www.example.com: visit https://ca.example/unpause", True, id="page"
        ),
        pytest.param(
            "too many certificates, retry after 2027-01-01: see https://ca.example/limits",
            False,
            id="a time in words",
        ),
        pytest.param("too many", False, id="no page"),
    ],
)
def test_a_limit_without_retry_after(
    detail: str, stopped: bool, site: Site, faulty: FaultyCA
) -> None:
    """Let's Encrypt's "paused" ends on a page; another one may end by itself."""
    faulty.on("new-order", lambda _, __: Reply.problem(429, "rateLimited", detail))
    site.certificate("other", "other.example.com")
    with Driver(site) as driver:
        lineage = driver.attempt("www")
        assert lineage.failure is not None
        assert detail in lineage.failure.why
        at = due.issuance(driver.spec("www"), lineage, driver.now()).at
        assert (at == due.NEVER) == stopped
        assert ("the page that the CA names" in lineage.failure.next) == stopped
        faulty.honest()
        assert driver.attempt("other").current is not None  # it is about other names
        assert driver.retry("www").current is not None


def test_an_account_key_that_is_refused(site: Site, faulty: FaultyCA) -> None:
    with Driver(site) as driver:
        driver.attempt("www")
        reply = Reply.problem(400, "badPublicKey", "a weak key")
        faulty.on("new-order", lambda _, __: reply)
        lineage = driver.force("www")
        assert lineage.failure is not None
        assert "certd account rollover" in lineage.failure.next
        assert lineage.parks["test"].everyone


@pytest.mark.parametrize(
    ("type", "wait"),
    [
        pytest.param("incorrectResponse", MINUTE, id="incorrectResponse"),
        pytest.param("connection", MINUTE, id="connection"),
        pytest.param("tls", MINUTE, id="tls"),
        pytest.param("dnssec", DAY, id="dnssec"),
        pytest.param("caa", MINUTE, id="caa, which the records do not bear out"),
    ],
)
def test_what_a_validation_fails_for(
    type: str, wait: timedelta, site: Site, faulty: FaultyCA
) -> None:
    faulty.on("authorization", invalid(type))
    with Driver(site) as driver:
        lineage = driver.attempt("www")
        assert lineage.failure is not None
        assert not lineage.ordering
        assert lineage.retry_at is not None
        assert wait * 0.95 < lineage.retry_at - driver.now() <= wait * 1.1
        faulty.honest()
        assert driver.retry("www").current is not None
