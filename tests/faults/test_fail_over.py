"""Several CAs in order: who is asked when one refuses, and that the first is come back to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from certd import due
from certd.testing.exchanges import Reply
from certd.testing.pebble import Pebble
from certd.testing.proxy import FaultyCA
from tests.faults.driving import Driver, invalid
from tests.site import Site

MONTH = 30 * 24 * 3600.0  # seconds


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(503), id="503"),
        pytest.param(Reply.problem(500, "serverInternal", "oops"), id="serverInternal"),
        pytest.param(Reply.problem(400, "rejectedIdentifier", "not here"), id="rejected"),
        pytest.param(Reply.problem(403, "userActionRequired", "new terms"), id="new terms"),
        pytest.param(Reply.problem(400, "malformed", "what?"), id="malformed"),
        pytest.param(
            Reply.problem(429, "rateLimited", "later").with_header("Retry-After", "7200"),
            id="limited, and there is no certificate yet",
        ),
    ],
)
def test_the_next_ca_is_asked_at_once(
    reply: Reply, both: Site, faulty: FaultyCA, second: FaultyCA
) -> None:
    faulty.on("new-order", lambda _, __: reply)
    with Driver(both) as driver:
        current = driver.attempt("www").current
        assert current is not None
        assert (current.ca, current.directory) == ("second", second.directory)
        assert sum(driver.waits) < due.BACKOFF[0].total_seconds()
    assert len(second.acted_on("new-account")) == 1  # one of its own


@pytest.mark.parametrize("kind", ["directory", "new-nonce", "new-account", "finalize", "order"])
def test_wherever_the_first_one_fails(
    kind: str, both: Site, faulty: FaultyCA, second: FaultyCA
) -> None:
    faulty.on(kind, lambda _, __: Reply(503))
    with Driver(both) as driver:
        lineage = driver.attempt("www")
        for _ in range(4):  # what may have been finalized is not given up at once
            if lineage.current is None:
                lineage = driver.retry("www")
        assert lineage.current is not None
        assert lineage.current.ca == "second"


def test_the_first_ca_is_come_back_to(both: Site, faulty: FaultyCA, second: FaultyCA) -> None:
    faulty.on("new-order", lambda _, __: Reply(503))
    with Driver(both) as driver:
        driver.attempt("www")
        assert driver.force("www").parks["test"].holds(driver.now())
        assert len(faulty.seen("new-order")) > 4  # the operator's word: it was asked again
        faulty.honest()
        driver.wait(2 * due.BACKOFF[0].total_seconds())
        current = driver.force("www").current
        assert current is not None
        assert current.ca == "test"


def test_what_may_lie_with_us_is_tried_twice(
    both: Site, faulty: FaultyCA, second: FaultyCA
) -> None:
    """A challenge that the first CA could not see: the second is asked after two failures."""
    faulty.on("authorization", invalid("connection"))
    with Driver(both) as driver:
        lineage = driver.attempt("www")
        assert lineage.failure is not None
        assert lineage.retry_at is not None
        assert not second.exchanges
        lineage = driver.retry("www")
        assert lineage.current is not None
        assert lineage.current.ca == "second"


def test_what_concerns_the_account_holds_for_all_its_certificates(
    site: Site, faulty: FaultyCA
) -> None:
    """And is ended by the operator's word for any of them."""
    site.certificate("other", "other.example.com")
    reply = Reply.problem(403, "userActionRequired", "agree to the new terms")
    faulty.on("new-order", lambda _, __: reply)
    with Driver(site) as driver:
        assert driver.attempt("www").failure is not None
        asked = len(faulty.exchanges)
        driver.wait(MONTH)
        lineage = driver.attempt("other")
        assert lineage.failure is None
        assert lineage.parks["test"].everyone
        assert len(faulty.exchanges) == asked
        faulty.honest()
        driver.store.lineages.retry_now("www", driver.now(), force=False)
        assert driver.attempt("other").current is not None
        assert driver.attempt("www").current is not None


def test_a_limit_that_ends_before_the_certificate_does_is_waited_for(
    both: Site, faulty: FaultyCA, second: FaultyCA
) -> None:
    with Driver(both) as driver:
        driver.attempt("www")
        faulty.on(
            "new-order",
            lambda _, __: Reply.problem(429, "rateLimited", "later").with_header(
                "Retry-After", "7200"
            ),
            times=1,
        )
        lineage = driver.force("www")
        assert lineage.retry_at is not None
        assert lineage.retry_at - driver.now() > timedelta(seconds=7100)
        assert not second.exchanges
        lineage = driver.retry("www")
        assert lineage.current is not None
        assert (lineage.current.number, lineage.current.ca) == (2, "test")


@pytest.mark.fault(row=20)
def test_an_identifier_that_is_refused_is_named_and_not_asked_for_again(
    start_pebble: Callable[..., Pebble], tmp_path: Path
) -> None:
    pebble = start_pebble(blocklist=("blocked.example",), retry_after=(1, 1))
    with FaultyCA(pebble, tmp_path / "proxy") as ca:
        site = Site(tmp_path / "site", ca)
        site.certificate("www", "www.example.com", "blocked.example")
        with Driver(site) as driver:
            lineage = driver.attempt("www")
            assert lineage.failure is not None
            assert "blocked.example" in lineage.failure.why
            assert "rejectedIdentifier" in lineage.failure.why
            driver.wait(MONTH)
            assert not due.issuance(driver.spec("www"), lineage, driver.now()).due(driver.now())
        site.certificate("www", "www.example.com")
        assert "www: issued, version 1" in site.renew().stdout
