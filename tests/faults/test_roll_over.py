"""What the operator does with an account: killed anywhere, unanswered, refused, and beside others.

The CA's ledger is the judge: one account, and the key that certd has is the one that it takes.
"""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from certd import due, x509
from certd.known import Account
from certd.testing.exchanges import Exchange, Forward, Reply
from certd.testing.proxy import FaultyCA
from tests.faults.driving import Driver
from tests.site import Site
from tests.warm import Warm

ENOUGH = 20  # failpoints
KEY = "account.pem"


def kept(site: Site) -> Account:
    """The one account that certd has."""
    with site.store() as store:
        [account] = store.accounts.all()
    return account


def shown(site: Site, warm: Warm) -> dict[str, Any]:
    """What the CA shows of it."""
    done = warm.certd(site, "account", "show", "test", "--json")
    assert done.stdout, done.stderr
    return dict(json.loads(done.stdout))


def account(site: Site, warm: Warm, *words: str) -> str:
    """A command, which must go well."""
    done = warm.certd(site, "account", *words)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


# -- killed anywhere ---------------------------------------------------------------------------


def nothing(site: Site, warm: Warm) -> None:
    pass


def registered(site: Site, warm: Warm) -> None:
    account(site, warm, "register", "test")


def deactivated(site: Site, warm: Warm) -> None:
    account(site, warm, "register", "test")
    account(site, warm, "deactivate", "test", "--yes")


def exported(site: Site, warm: Warm) -> None:
    """An account of somebody else's is at the CA; ours is another."""
    account(site, warm, "register", "test")
    account(site, warm, "export", "test", str(site.folder / KEY))
    shutil.rmtree(site.state)
    account(site, warm, "register", "test")


@dataclass(frozen=True, slots=True)
class Walk:
    """A command that is killed, and run again; how many accounts that makes, and how it ends."""

    prepare: Callable[[Site, Warm], None]
    run: tuple[str, ...]
    made: int
    again: int = 0  # the exit status of the next run, if it comes to do nothing
    least: int = 2  # failpoints


WALKS = {
    "register": Walk(nothing, ("register", "test"), 1, least=3),
    "register another": Walk(deactivated, ("register", "test", "--new"), 1, again=2, least=4),
    "roll over": Walk(registered, ("rollover", "test"), 0, least=5),
    "deactivate": Walk(registered, ("deactivate", "test", "--yes"), 0),
    "import": Walk(exported, ("import", "test", KEY, "--replace"), 0),
}


@pytest.mark.fault(row=41)
@pytest.mark.parametrize("which", WALKS)
def test_killed_anywhere_it_is_done_by_the_next_run(
    which: str, site: Site, faulty: FaultyCA, warm: Warm, tmp_path: Path
) -> None:
    walk = WALKS[which]
    words = [str(site.folder / KEY) if word == KEY else word for word in walk.run]
    tables = tmp_path / "tables"
    shutil.copytree(site.state, tables)
    for number in range(1, ENOUGH):
        shutil.rmtree(site.state)
        (site.folder / KEY).unlink(missing_ok=True)
        shutil.copytree(tables, site.state)
        walk.prepare(site, warm)
        seen = len(faulty.exchanges)
        killed = warm.certd(site, "account", *words, CERTD_KILL_AT=str(number))
        place = killed.stderr.strip()
        if killed.returncode == -signal.SIGKILL:
            again = warm.certd(site, "account", *words)
            assert again.returncode in (0, walk.again), f"{place}\n{again.stdout}{again.stderr}"
        after = kept(site)
        assert after.next_key_pem is None, place
        assert after.deactivated == (which == "deactivate"), place
        if not after.deactivated:
            view = shown(site, warm)
            assert (view["uri"], view["status"]) == (after.uri, "valid"), place
        made = [
            item
            for item in faulty.exchanges[seen:]
            if item.kind == "new-account" and item.upstream and item.upstream.status == 201
        ]
        assert len(made) == walk.made, place
        if killed.returncode == 0:
            assert number > walk.least
            return
    raise AssertionError(f"{ENOUGH} failpoints and no end")


# -- the CA's part of a roll-over --------------------------------------------------------------


@pytest.fixture
def at_ca(site: Site, warm: Warm) -> Site:
    account(site, warm, "register", "test")
    return site


def test_a_key_change_whose_answer_is_lost_is_done(
    at_ca: Site, faulty: FaultyCA, warm: Warm
) -> None:
    def lose(exchange: Exchange, forward: Forward) -> Reply | None:
        reply = forward()
        return None if reply.status == 200 else reply  # a nonce may have been refused

    before = shown(at_ca, warm)
    faulty.on("key-change", lose)
    assert "has another key" in account(at_ca, warm, "rollover", "test")
    after = shown(at_ca, warm)
    assert after["uri"] == before["uri"]
    assert after["thumbprint"] != before["thumbprint"]
    assert kept(at_ca).next_key_pem is None


@pytest.mark.parametrize("type", ["unauthorized", ""])
def test_a_key_change_that_is_refused_leaves_the_key_of_before(
    type: str, at_ca: Site, faulty: FaultyCA, warm: Warm
) -> None:
    before = shown(at_ca, warm)
    faulty.on("key-change", lambda _, __: Reply.problem(409, type, "not this key"))
    done = warm.certd(at_ca, "account", "rollover", "test")
    assert done.returncode == 1
    assert "not this key" in done.stderr
    assert shown(at_ca, warm) == before
    assert kept(at_ca).next_key_pem is None


def test_a_ca_that_is_gone_in_the_middle_leaves_both_keys(
    at_ca: Site, faulty: FaultyCA, warm: Warm
) -> None:
    def vanish(exchange: Exchange, forward: Forward) -> Reply | None:
        reply = forward()
        if reply.status != 200:  # a nonce may have been refused
            return reply
        faulty.honest()
        faulty.on(None, lambda _, __: None)
        return None

    faulty.on("key-change", vanish)
    done = warm.certd(at_ca, "account", "rollover", "test")
    assert done.returncode == 1
    assert "it is not known whether test has rolled the key over" in done.stderr
    assert "goes on with it" in warm.certd(at_ca, "account", "list").stdout
    faulty.honest()
    assert "goes on" not in account(at_ca, warm, "show", "test")
    assert kept(at_ca).next_key_pem is None


def test_a_ca_without_key_change_is_told(at_ca: Site, faulty: FaultyCA, warm: Warm) -> None:
    faulty.on("directory", lambda _, forward: forward().but(keyChange=None))
    done = warm.certd(at_ca, "account", "rollover", "test")
    assert done.returncode == 2
    assert "its directory has no keyChange" in done.stderr
    assert kept(at_ca).next_key_pem is None


# -- beside a daemon ---------------------------------------------------------------------------


def test_who_has_the_key_of_before_goes_on_with_the_next(
    site: Site, faulty: FaultyCA, warm: Warm
) -> None:
    with Driver(site) as driver:
        driver.attempt("www")
        account(site, warm, "rollover", "test", "--key", "ec-p384")
        assert driver.force("www").failure is None
    assert {item.protected["alg"] for item in faulty.acted_on("finalize")} == {"ES256", "ES384"}
    assert len(faulty.acted_on("new-account")) == 1


def test_who_comes_after_a_kill_ends_the_roll_over(
    site: Site, faulty: FaultyCA, warm: Warm
) -> None:
    with Driver(site) as driver:
        driver.attempt("www")
        place = "account: the CA has the next key"
        killed = warm.certd(site, "account", "rollover", "test", CERTD_KILL_AT=place)
        assert killed.returncode == -signal.SIGKILL
        assert kept(site).next_key_pem is not None
        assert driver.force("www").failure is None
        assert kept(site).next_key_pem is None


def test_a_roll_over_that_was_begun_says_which_key_it_went_on_with(
    site: Site, faulty: FaultyCA, warm: Warm
) -> None:
    account(site, warm, "register", "test")
    place = "account: next key is kept"
    warm.certd(site, "account", "rollover", "test", "--key", "ec-p384", CERTD_KILL_AT=place)
    said = account(site, warm, "rollover", "test", "--key", "rsa-2048")
    assert "it is ec-p384, of a roll-over that was begun before; for rsa-2048, the same" in said
    assert "begun before" not in account(site, warm, "rollover", "test", "--key", "rsa-2048")
    assert x509.type_of(kept(site).key_pem) == "rsa-2048"


def test_a_challenge_that_the_old_key_answers_is_answered_anew(
    site: Site, faulty: FaultyCA, warm: Warm
) -> None:
    """The key authorization is made with the key: one with the old key would be wrong."""

    def roll_over_first(exchange: Exchange, forward: Forward) -> Reply:
        account(site, warm, "rollover", "test")
        return forward()

    faulty.on("challenge", roll_over_first, times=1)
    with Driver(site) as driver:
        lineage = driver.attempt("www")
        assert (lineage.failure, lineage.failures) == (None, 0)
        assert lineage.current is not None
    assert len(faulty.acted_on("new-order")) == 1


def test_what_a_deactivated_account_stopped_goes_on_with_another(
    site: Site, faulty: FaultyCA, warm: Warm
) -> None:
    with Driver(site) as driver:
        driver.attempt("www")
        account(site, warm, "deactivate", "test", "--yes")
        driver.store.lineages.retry_now("www", driver.now(), force=True)
        lineage = driver.attempt("www")
        assert lineage.failure is not None
        assert "register test --new" in f"{lineage.failure}"
        assert due.issuance(driver.spec("www"), lineage, driver.now()).at == due.NEVER
        account(site, warm, "register", "test", "--new")
        assert driver.store.leases.claim_due(driver.now(), 9) == ["www"]
        assert driver.attempt("www").failure is None
    assert len(faulty.acted_on("new-account")) == 2


def test_an_older_copy_of_the_database_has_the_key_of_before(
    site: Site, faulty: FaultyCA, warm: Warm
) -> None:
    key = str(site.folder / KEY)
    account(site, warm, "register", "test")
    before = kept(site)
    account(site, warm, "rollover", "test")
    account(site, warm, "export", "test", key)
    with Driver(site) as driver:
        assert driver.store.accounts.replace(kept(site), before)
        lineage = driver.attempt("www")
        assert lineage.failure is not None
        assert "`certd account import test` takes that" in lineage.failure.next
        assert lineage.parks["test"].until is None
        account(site, warm, "import", "test", key)
        assert driver.store.leases.claim_due(driver.now(), 9) == ["www"]
        assert driver.attempt("www").failure is None
        assert driver.store.accounts.replace(kept(site), before)
        account(site, warm, "register", "test", "--new")
    assert kept(site).uri != before.uri


def test_an_account_whose_key_was_lost_is_not_called_deactivated(
    site: Site, faulty: FaultyCA, warm: Warm
) -> None:
    """To the key of before a roll-over the CA says what it says of any bad signature."""
    key = str(site.folder / KEY)
    account(site, warm, "register", "test")
    before = kept(site)
    account(site, warm, "rollover", "test")
    account(site, warm, "export", "test", key)
    with site.store() as store:
        assert store.accounts.replace(kept(site), before)
    done = warm.certd(site, "account", "deactivate", "test", "--yes")
    assert (done.returncode, kept(site).deactivated) == (1, False)
    assert "`certd account import test` takes that" in done.stderr
    account(site, warm, "import", "test", key)
    assert shown(site, warm)["status"] == "valid"
    account(site, warm, "deactivate", "test", "--yes")
    assert kept(site).deactivated


# -- lost, changed -------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("show",), ("update",), ("rollover",), ("deactivate", "--yes")])
def test_a_lost_account_is_told_and_not_made_anew(
    words: tuple[str, ...], at_ca: Site, faulty: FaultyCA, warm: Warm
) -> None:
    lost = Reply.problem(400, "accountDoesNotExist", "who are you?")
    for kind in ("account", "key-change"):
        faulty.on(kind, lambda _, __: lost)
    done = warm.certd(at_ca, "account", words[0], "test", *words[1:])
    if words[0] == "deactivate":  # what was wanted: the CA has no such account
        assert (done.returncode, kept(at_ca).deactivated) == (0, True)
    else:
        assert done.returncode == 1
        assert "`certd account register test` registers the same key again" in done.stderr
    assert len(faulty.acted_on("new-account")) == 1


TERMS = "https://ca.example/terms-2"


def change_terms(_: Exchange, forward: Forward) -> Reply:
    reply = forward()
    return reply.but(meta={**reply.json()["meta"], "termsOfService": TERMS})


def test_changed_terms_are_told_until_they_are_noted(
    site: Site, faulty: FaultyCA, warm: Warm, caplog: pytest.LogCaptureFixture
) -> None:
    account(site, warm, "register", "test")
    faulty.on("directory", change_terms)
    with Driver(site) as driver:
        assert driver.attempt("www").failure is None
    assert f"has other terms of service than those that were accepted: read {TERMS}" in caplog.text
    assert TERMS in account(site, warm, "show", "test")
    site.tables["ca.test"]["agree_tos"] = False
    site.write()
    done = warm.certd(site, "account", "update", "test")
    assert done.returncode == 2
    assert "read them, then write agree_tos = true in [ca.test]" in done.stderr
    assert TERMS in account(site, warm, "show", "test")
    assert not faulty.acted_on("account")[-1].payload
    site.tables["ca.test"]["agree_tos"] = True
    site.write()
    account(site, warm, "update", "test")
    assert TERMS not in account(site, warm, "show", "test")


def test_the_terms_of_an_account_that_was_taken_over_are_noted_and_then_watched(
    at_ca: Site, faulty: FaultyCA, warm: Warm
) -> None:
    key = str(at_ca.folder / KEY)
    account(at_ca, warm, "export", "test", key)
    shutil.rmtree(at_ca.state)
    account(at_ca, warm, "import", "test", key)
    assert "no terms of service are noted as accepted" in account(at_ca, warm, "show", "test")
    account(at_ca, warm, "update", "test")
    assert "terms" not in account(at_ca, warm, "show", "test")
    faulty.on("directory", change_terms)
    said = account(at_ca, warm, "show", "test")
    assert f"others than those that were accepted: read {TERMS}" in said


def test_terms_that_are_no_text_stop_neither_an_account_nor_a_renewal(
    site: Site, faulty: FaultyCA, warm: Warm
) -> None:
    def garble(_: Exchange, forward: Forward) -> Reply:
        reply = forward()
        return reply.but(meta={**reply.json()["meta"], "termsOfService": ["of", 1]})

    faulty.on("directory", garble)
    with Driver(site) as driver:
        assert driver.attempt("www").failure is None
    assert "registered" in account(site, warm, "list")
    assert "status   valid" in account(site, warm, "show", "test")


def test_the_page_of_changed_terms_is_told_from_the_link_too(site: Site, faulty: FaultyCA) -> None:
    reply = Reply.problem(403, "userActionRequired", "the terms have changed").with_header(
        "Link",
        '<https://ca.example/dir>;rel="index", <https://ca.example/t>; rel="terms-of-service"',
    )
    faulty.on("new-order", lambda _, __: reply)
    with Driver(site) as driver:
        failure = driver.attempt("www").failure
    assert failure is not None
    assert failure.next == "see https://ca.example/t"


def test_a_contact_that_the_ca_refuses_is_told(at_ca: Site, faulty: FaultyCA, warm: Warm) -> None:
    faulty.on("account", lambda _, __: Reply.problem(400, "invalidContact", "no such domain"))
    done = warm.certd(at_ca, "account", "update", "test")
    assert done.returncode == 1
    assert "no such domain" in done.stderr
    assert "correct contact in [certd]" in done.stderr
