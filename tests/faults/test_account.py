"""Our account at a CA: what is tried when it is refused, and what stops it (faults 16 to 18)."""

from __future__ import annotations

import pytest

from certd import due
from certd.testing.exchanges import Exchange, Forward, Reply
from certd.testing.proxy import FaultyCA
from tests.faults.driving import Driver
from tests.site import Site


@pytest.mark.parametrize("type", ["invalidContact", "unsupportedContact"])
def test_a_contact_that_is_refused_is_left_out_once(
    type: str, site: Site, faulty: FaultyCA
) -> None:
    def refuse(exchange: Exchange, forward: Forward) -> Reply | None:
        if "contact" in exchange.payload:
            return Reply.problem(400, type, "no such address")
        return forward()

    site.tables["certd"]["contact"] = ["mailto:nobody@example.com"]
    site.write()
    faulty.on("new-account", refuse)
    with Driver(site) as driver:
        assert driver.attempt("www").current is not None
    assert len(faulty.acted_on("new-account")) == 1


@pytest.mark.parametrize("algorithm", ["ES384", "RS256"])
def test_a_key_is_made_for_an_algorithm_that_the_ca_accepts(
    algorithm: str, site: Site, faulty: FaultyCA
) -> None:
    def refuse(exchange: Exchange, forward: Forward) -> Reply | None:
        if exchange.protected["alg"] == "ES256":
            offered = ["HS256", algorithm]
            return Reply.problem(400, "badSignatureAlgorithm", "not this", algorithms=offered)
        return forward()

    faulty.on("new-account", refuse)
    with Driver(site) as driver:
        assert driver.attempt("www").current is not None
        assert driver.force("www").failure is None
    assert {item.protected["alg"] for item in faulty.acted_on("new-order")} == {algorithm}


def test_an_algorithm_that_nobody_here_has_is_told(site: Site, faulty: FaultyCA) -> None:
    reply = Reply.problem(400, "badSignatureAlgorithm", "not this", algorithms=["ML-DSA-44"])
    faulty.on("new-account", lambda _, __: reply)
    with Driver(site) as driver:
        lineage = driver.attempt("www")
        assert lineage.failure is not None
        assert "not this (badSignatureAlgorithm" in lineage.failure.why
        assert lineage.parks["test"].everyone


@pytest.mark.fault(row=17)
def test_a_deactivated_account_stops_and_is_not_made_anew(site: Site, faulty: FaultyCA) -> None:
    with Driver(site) as driver:
        driver.attempt("www")
        faulty.on("new-order", lambda _, __: Reply.problem(403, "unauthorized", "not you"))
        faulty.on("account", lambda _, forward: forward().but(status="deactivated"))
        lineage = driver.force("www")
        assert lineage.failure is not None
        assert "the account is deactivated" in lineage.failure.why
        assert lineage.parks["test"].until is None
        wish = due.issuance(driver.spec("www"), lineage, driver.now())
        assert wish.at == due.NEVER
        assert due.STOPPED in wish.reason
    assert len(faulty.acted_on("new-account")) == 1
    [entry] = site.status().values()
    assert entry["state"] == "failing"
    assert "stopped until you act" in site.certd("status").stdout


@pytest.mark.fault(row=16)
def test_what_the_user_must_do_is_told_with_its_page(site: Site, faulty: FaultyCA) -> None:
    reply = Reply.problem(
        403, "userActionRequired", "the terms have changed", instance="https://ca.example/terms"
    )
    faulty.on("new-order", lambda _, __: reply)
    with Driver(site) as driver:
        failure = driver.attempt("www").failure
        assert failure is not None
        assert failure.next == "see https://ca.example/terms"
        faulty.honest()
        assert driver.retry("www").current is not None  # the operator's word


@pytest.mark.fault(row=22)
def test_badcsr_is_met_with_another_key_once(site: Site, faulty: FaultyCA) -> None:
    keys: list[str] = []

    def refuse(exchange: Exchange, forward: Forward) -> Reply | None:
        keys.append(exchange.payload["csr"])
        return forward() if len(set(keys)) > 1 else Reply.problem(400, "badCSR", "a weak key")

    faulty.on("finalize", refuse)
    with Driver(site) as driver:
        assert driver.attempt("www").failure is None
        bundle = driver.store.lineages.bundle("www", 1)
    assert len(set(keys)) == 2
    assert len(faulty.acted_on("new-order")) == 1
    assert bundle.certificate.serial == faulty.pebble.ledger()[-1].serial
