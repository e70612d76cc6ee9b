"""Which private key a certificate has: kept, made in advance, or another by the operator's word."""

from __future__ import annotations

import signal

import pytest

from certd import x509
from certd.known import Lineage
from certd.model import Bundle
from certd.testing.exchanges import Exchange, Forward, Reply
from certd.testing.proxy import FaultyCA
from tests.faults import invariants
from tests.faults.driving import Driver
from tests.site import Site

NAME = "www.example.com"


def renew(site: Site, *, force: bool = False, new_key: bool = False) -> Lineage:
    """What `certd renew www` does with these options, without a process of its own."""
    with Driver(site) as driver:
        if force or new_key:
            driver.store.lineages.retry_now("www", driver.now(), force=force, new_key=new_key)
        lineage = driver.attempt("www")
    assert lineage.failure is None
    return lineage


def newest(site: Site) -> Bundle:
    bundle = site.bundle("www")
    assert bundle is not None
    assert x509.pair_matches(bundle.leaf_pem, bundle.key_pem)
    return bundle


def pin(site: Site) -> str:
    return newest(site).certificate.spki_sha256


# -- reuse_key ------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["ec-p256", "rsa-2048"])
def test_a_renewal_keeps_the_key_only_if_it_is_told_to(key: str, site: Site) -> None:
    renew(site.certificate("www", NAME, key=key))
    first = pin(site)
    renew(site, force=True)
    second = pin(site)
    assert second != first
    site.certificate("www", NAME, key=key, reuse_key=True)
    renew(site)  # that is no reason to
    assert newest(site).version == 2
    renew(site, force=True)
    assert pin(site) == second


def test_another_type_of_key_and_the_operators_word_end_it(site: Site) -> None:
    renew(site.certificate("www", NAME, reuse_key=True))
    first = pin(site)
    renew(site.certificate("www", NAME, reuse_key=True, key="ec-p384"))
    second = pin(site)
    assert second != first
    assert "renewed, version 3" in site.renew("--new-key", "www").stdout
    third = pin(site)
    assert third != second
    renew(site, force=True)  # from now on this one is kept
    assert pin(site) == third


def test_new_key_needs_names(site: Site) -> None:
    done = site.certd("renew", "--new-key")
    assert done.returncode == 2
    assert "--new-key needs names" in done.stderr


def test_another_key_is_not_that_of_an_order_under_way(site: Site, faulty: FaultyCA) -> None:
    renew(site.certificate("www", NAME, reuse_key=True))
    first = pin(site)
    killed = site.certd("renew", "www", "--force", CERTD_KILL_AT="issue: order URL is kept")
    assert killed.returncode == -signal.SIGKILL
    renew(site, new_key=True)
    assert pin(site) != first
    assert len(faulty.acted_on("finalize")) == 2


def test_the_word_is_not_lost_on_an_order_that_is_about_to_end(
    site: Site, faulty: FaultyCA
) -> None:
    """A daemon has it in its hands, with the key of before."""
    site.certificate("www", NAME, reuse_key=True)
    with Driver(site) as driver:
        first = driver.attempt("www").current

        def ask(exchange: Exchange, forward: Forward) -> Reply:
            driver.store.lineages.retry_now("www", driver.now(), force=False, new_key=True)
            return forward()

        faulty.on("certificate", ask, times=1)
        last = driver.force("www")
        assert (first is not None, last.current is not None) == (True, True)
        assert first is not None
        assert last.current is not None
        assert last.current.number == 3
        assert last.current.certificate.spki_sha256 != first.certificate.spki_sha256
        second = driver.store.lineages.bundle("www", 2)
        assert second.certificate.spki_sha256 == first.certificate.spki_sha256
        assert (last.forced, last.new_key) == (False, False)


# -- backup_key -----------------------------------------------------------------------------


def test_the_next_key_is_known_before_it_is_used(site: Site) -> None:
    renew(site.certificate("www", NAME, backup_key=True))
    for _ in range(2):
        announced = invariants.next_pin(site, "www")
        assert announced not in (None, pin(site))
        shown = site.certd("show", "www").stdout
        assert f'SPKI pin     pin-sha256="{pin(site)}"' in shown
        assert f'next key     pin-sha256="{announced}", ec-p256' in shown
        status = site.status()["www"]
        assert (status["spki_sha256"], status["next_spki_sha256"]) == (pin(site), announced)
        renew(site, force=True)
        assert pin(site) == announced


def test_it_is_made_for_a_certificate_that_is_there_without_renewing_it(site: Site) -> None:
    renew(site.certificate("www", NAME))
    site.certificate("www", NAME, backup_key=True)
    assert "www: make its backup key: there is no backup key yet" in site.certd("plan").stdout
    renew(site)
    assert invariants.next_pin(site, "www") is not None
    assert newest(site).version == 1
    assert "nothing to do now" in site.certd("plan").stdout
    assert site.certd("db", "check").returncode == 0


def test_beside_a_key_that_is_kept_it_waits_for_the_operators_word(site: Site) -> None:
    renew(site.certificate("www", NAME, reuse_key=True, backup_key=True))
    first, announced = pin(site), invariants.next_pin(site, "www")
    renew(site, force=True)
    assert (pin(site), invariants.next_pin(site, "www")) == (first, announced)
    renew(site, new_key=True)
    assert pin(site) == announced
    assert invariants.next_pin(site, "www") not in (None, announced)


def test_another_type_of_key_needs_another_one(site: Site) -> None:
    renew(site.certificate("www", NAME, backup_key=True))
    before = invariants.next_pin(site, "www")
    site.certificate("www", NAME, backup_key=True, key="rsa-2048")
    assert "there is no backup key of type rsa-2048 yet" in site.certd("plan").stdout
    renew(site)
    assert before not in (pin(site), invariants.next_pin(site, "www"))
    assert x509.type_of(newest(site).key_pem) == "rsa-2048"


def test_one_that_the_ca_refuses_is_no_backup(site: Site, faulty: FaultyCA) -> None:
    renew(site.certificate("www", NAME, backup_key=True))
    announced = invariants.next_pin(site, "www")
    refusal = Reply.problem(400, "badPublicKey", "this key is weak")
    faulty.on("finalize", lambda _, __: refusal, times=1)
    renew(site, force=True)
    assert announced not in (None, pin(site), invariants.next_pin(site, "www"))


def test_while_it_is_off_it_is_neither_used_nor_lost(site: Site) -> None:
    renew(site.certificate("www", NAME, backup_key=True))
    announced = invariants.next_pin(site, "www")
    renew(site.certificate("www", NAME), force=True)
    assert pin(site) != announced
    assert "next key" not in site.certd("show", "www").stdout
    renew(site.certificate("www", NAME, backup_key=True), force=True)
    assert pin(site) == announced


@pytest.mark.parametrize(
    "place", ["ordering: next key is kept", "issue: finalized", "issue: version is current"]
)
def test_a_first_issuance_that_is_killed_has_one_and_makes_another(
    place: str, site: Site, faulty: FaultyCA
) -> None:
    """A renewal is swept in ``test_failpoints``."""
    site.certificate("www", NAME, backup_key=True)
    assert site.certd("renew", CERTD_KILL_AT=place).returncode == -signal.SIGKILL
    announced = invariants.next_pin(site, "www")
    renew(site)
    if announced:
        assert announced == pin(site)
    assert invariants.next_pin(site, "www") not in (None, pin(site))
    assert len(faulty.acted_on("finalize")) == 1
