"""Who may be asked, and when again: what hides, sticks or is forgotten where CAs are left alone."""

from __future__ import annotations

import pytest

from certd import due
from certd.testing.exchanges import Exchange, Forward, Reply
from certd.testing.proxy import FaultyCA
from tests.faults.driving import Driver, acted
from tests.site import Site

ACT = Reply.problem(403, "userActionRequired", "agree to the new terms")
DAY = 86400.0


def test_a_park_that_is_over_hides_none_that_holds(
    both: Site, faulty: FaultyCA, second: FaultyCA
) -> None:
    reply = Reply.problem(400, "accountDoesNotExist", "who are you?")
    faulty.on("new-order", lambda _, __: reply, times=2)
    with Driver(both) as driver:
        driver.attempt("www")
        driver.wait(2 * DAY)
        faulty.on("new-order", lambda _, __: Reply(503))
        assert driver.force("www").failure is None
        assert len(second.acted_on("new-order")) == 2


def test_the_operators_word_reaches_all_who_were_stopped(site: Site, faulty: FaultyCA) -> None:
    site.certificate("other", "other.example.com")
    faulty.on("new-order", lambda _, __: ACT)
    with Driver(site) as driver:
        driver.attempt("www")
        driver.attempt("other")
        assert driver.store.leases.claim_due(driver.now(), 9) == []
        stopped = site.status()["other"]
        assert stopped["state"] == "failing"
        assert "agree to the new terms" in stopped["not_asked"][0]["last_error"]["why"]
        assert "other: test is not asked, stopped until you act" in site.certd("status").stdout
        driver.store.lineages.retry_now("www", driver.now(), force=False)
        assert sorted(driver.store.leases.claim_due(driver.now(), 9)) == ["other", "www"]


@pytest.mark.parametrize("before", [0, 3], ids=["at once", "after other failures"])
def test_what_may_be_issued_is_not_asked_for_elsewhere(
    before: int, both: Site, faulty: FaultyCA, second: FaultyCA
) -> None:
    """Whatever the first CA says then: its order is looked at again, three times."""

    def lost(_: Reply) -> Reply:
        faulty.on("order", lambda _, __: ACT, times=1)
        return Reply(503)

    faulty.on("challenge", lambda _, __: Reply.problem(403, "unauthorized", "no"), times=before)
    faulty.on("finalize", acted(lost))
    with Driver(both) as driver:
        lineage = driver.attempt("www")
        for _ in range(8):
            if lineage.current is None:
                lineage = driver.retry("www")
        assert lineage.current is not None
        assert lineage.current.ca == "test"
    assert second.acted_on("finalize") == []


def test_a_refusal_of_the_second_does_not_stop_the_first(
    both: Site, faulty: FaultyCA, second: FaultyCA
) -> None:
    refused = Reply.problem(400, "rejectedIdentifier", "not here")
    faulty.on("new-order", lambda _, __: Reply(503))
    second.on("new-order", lambda _, __: refused)
    with Driver(both) as driver:
        lineage = driver.attempt("www")
        assert lineage.failure is not None
        faulty.honest()
        wish = due.issuance(driver.spec("www"), lineage, driver.now())
        assert (wish.at - driver.now()).total_seconds() < 3600
        lineage = driver.retry("www")
        assert lineage.current is not None
        assert lineage.current.ca == "test"


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(404), id="404"),
        pytest.param(Reply(200, {}, b"<html>moved</html>"), id="HTML"),
    ],
)
def test_a_ca_that_is_not_there_is_one_to_leave(reply: Reply, both: Site, faulty: FaultyCA) -> None:
    faulty.on("directory", lambda _, __: reply)
    with Driver(both) as driver:
        current = driver.attempt("www").current
        assert current is not None
        assert current.ca == "second"


def test_a_spent_budget_of_the_second_does_not_hold_the_first(
    both: Site, faulty: FaultyCA, second: FaultyCA
) -> None:
    both.tables["ca.second"]["limits"] = ["orders 1/7d"]
    both.write()
    with Driver(both) as driver:
        faulty.on("new-order", lambda _, __: Reply(503), times=8)
        driver.attempt("www")  # at the second
        lineage = driver.force("www")
        assert lineage.held_until is None
        wish = due.issuance(driver.spec("www"), lineage, driver.now())
        assert (wish.at - driver.now()).total_seconds() < 3600


def test_a_corrected_contact_is_tried(site: Site, faulty: FaultyCA) -> None:
    site.tables["certd"]["contact"] = ["mailto:old@example.com"]
    site.write()
    faulty.on("new-account", lambda _, __: Reply.problem(400, "invalidContact", "no"), times=2)
    assert site.certd("renew").returncode == 1
    assert site.status()["www"]["state"] == "failing"
    site.tables["certd"]["contact"] = ["mailto:new@example.com"]
    site.write()
    assert "www: issued, version 1" in site.renew().stdout


def test_what_a_budget_holds_has_not_failed(site: Site, faulty: FaultyCA) -> None:
    site.tables["ca.test"]["limits"] = ["orders 1/1h"]
    site.certificate("two", "two.example.com")
    done = site.certd("renew")
    assert done.returncode == 0, done.stdout
    assert "not before" in done.stdout
    assert "test allows 1 within 1 h of new orders" in done.stdout


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(ACT, id="until somebody acts"),
        pytest.param(Reply.problem(400, "accountDoesNotExist", "who are you?"), id="for a day"),
    ],
)
def test_what_is_being_issued_is_fetched_though_the_account_gets_no_new_order(
    refusal: Reply, site: Site, faulty: FaultyCA
) -> None:
    """Also by another process: looking at it asks nothing new of the CA."""

    def processing(_: Exchange, forward: Forward) -> Reply | None:
        reply = forward()
        if reply.status != 200 or reply.json().get("status") not in ("processing", "valid"):
            return reply
        return reply.but(status="processing", certificate=None)

    faulty.on("order", processing)
    faulty.on("finalize", processing)
    site.certificate("other", "other.example.com")
    with Driver(site) as driver:
        assert driver.attempt("www").ordering
        faulty.on("new-order", lambda _, __: refusal)
        assert driver.attempt("other").failure is not None
    faulty.honest()
    with Driver(site) as driver:
        wish = due.issuance(driver.spec("www"), driver.store.lineages.get("www"), driver.now())
        assert wish.due(driver.now()), wish
        assert driver.attempt("www").current is not None
        assert driver.store.lineages.get("other").current is None
    assert len(faulty.acted_on("finalize")) == 1
