"""``certd revoke``: revoked at the CA, replaced with another key, and never forgotten."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from certd import Certd, x509
from certd.ca.wire import SILENCE
from certd.known import Version
from certd.secrets import Secret
from certd.testing.chains import Authority
from certd.testing.exchanges import Exchange, Forward, Reply
from certd.testing.pebble import RunningPebble
from certd.testing.proxy import FaultyCA
from tests import signing
from tests.faults.driving import Driver
from tests.site import Site

COMPROMISED = ("revoke", "www", "--reason", "keyCompromise", "--yes")


@pytest.fixture
def site(faulty: FaultyCA, tmp_path: Path) -> Site:
    """Version 1 is in place."""
    site = Site(tmp_path / "site", faulty)
    site.disk().certificate("www", "www.test", targets=["web"]).renew()
    return site


def ca_says(ca: RunningPebble, site: Site, number: int) -> tuple[str, int | None]:
    """What the CA has of a version: its status, and the number of the reason."""
    with site.store() as store:
        serial = store.lineages.bundle("www", number).certificate.serial
    status = ca.cert_status(serial)
    return status["Status"], status.get("Reason")


def in_place(site: Site) -> str:
    return x509.facts(
        x509.read_chain((site.folder / "web/www/current/cert.pem").read_text())[0]
    ).serial


def test_a_compromised_certificate_is_revoked_and_replaced_with_another_key(
    site: Site, pebble: RunningPebble
) -> None:
    before = site.bundle("www")
    assert before is not None
    done = site.certd(*COMPROMISED)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Its private key is never used again." in done.stdout
    assert "www: version 1 is revoked (keyCompromise)" in done.stdout
    assert "www: renewed, version 2" in done.stdout
    assert ca_says(pebble, site, 1) == ("Revoked", 1)
    assert ca_says(pebble, site, 2)[0] == "Valid"
    after = site.bundle("www")
    assert after is not None
    assert after.certificate.spki_sha256 != before.certificate.spki_sha256
    entry = site.status()["www"]
    assert (entry["state"], in_place(site)) == ("ok", after.certificate.serial)
    [told] = entry["revocations"]
    assert (told["version"], told["reason"], told["by_ca"]) == (1, "keyCompromise", False)
    assert "version 1 was revoked on your word (keyCompromise)" in site.certd("show", "www").stdout
    # Once more is no mistake, and changes nothing.
    again = site.certd(*COMPROMISED, "--version", "1")
    assert (again.returncode, "version 1 is revoked" in again.stdout) == (0, True)
    assert site.status()["www"]["version"] == 2


@pytest.mark.parametrize(
    ("keys", "next_one"),
    [
        pytest.param({"reuse_key": True}, False, id="one that was to be kept"),
        pytest.param({"reuse_key": True, "backup_key": True}, True, id="the announced one is next"),
    ],
)
def test_a_compromised_key_is_not_kept_whatever_is_configured(
    keys: dict[str, bool], next_one: bool, faulty: FaultyCA, tmp_path: Path
) -> None:
    site = Site(tmp_path / "site", faulty)
    site.certificate("www", "www.test", **keys).renew()
    first = site.status()["www"]
    done = site.certd("revoke", "www", "--reason", "superseded", "--yes")
    assert "another, with the same key (reuse_key), is got at once" in done.stdout
    kept = site.status()["www"]
    assert (kept["version"], kept["spki_sha256"]) == (2, first["spki_sha256"])
    done = site.certd(*COMPROMISED)
    assert done.returncode == 0, done.stdout + done.stderr
    # Version 1 has the same key, and is revoked already.
    assert "www: renewed, version 3" in done.stdout
    third = site.status()["www"]
    assert third["state"] == "ok"
    assert third["spki_sha256"] != first["spki_sha256"]
    assert (third["spki_sha256"] == first["next_spki_sha256"]) is next_one
    site.renew("--force", "www")  # from now on this one is kept
    assert site.status()["www"]["spki_sha256"] == third["spki_sha256"]


def test_both_of_a_pair_are_revoked_and_the_second_alone(faulty: FaultyCA, tmp_path: Path) -> None:
    site = Site(tmp_path / "site", faulty)
    site.certificate("www", "www.test", key=["ec-p256", "rsa-2048"]).renew()
    done = site.certd(*COMPROMISED)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("www", "www.rsa"):
        assert f"{name}: version 1 is revoked (keyCompromise)" in done.stdout
        assert f"{name}: renewed, version 2" in done.stdout
    assert site.certd("revoke", "www.rsa", "--with-key", "--yes").returncode == 0
    versions = {name: entry["version"] for name, entry in site.status().items()}
    assert versions == {"www": 2, "www.rsa": 3}


def test_a_compromised_key_of_the_operators_own_waits_for_another_request(
    faulty: FaultyCA, tmp_path: Path
) -> None:
    site = Site(tmp_path / "site", faulty)
    signing.make(site.folder, "DNS:www.test")
    site.certificate("www", "www.test", csr="www.csr").renew()
    refused = site.certd("revoke", "www", "--with-key", "--yes")
    assert refused.returncode == 2
    assert "www cannot be revoked with its own key: its signing request was yours" in refused.stderr
    assert site.certd("revoke", "www", "--yes").returncode == 0  # and the same request again
    assert site.status()["www"]["version"] == 2
    done = site.certd(*COMPROMISED)
    assert done.returncode == 1
    assert "before you make another key and signing request (csr)" in done.stdout
    assert "www: version 2 is revoked (keyCompromise)" in done.stdout
    assert "where the signing request is your own, make that anew too" in done.stdout
    assert ca_says(faulty.pebble, site, 2) == ("Revoked", 1)
    assert len(faulty.acted_on("new-order")) == 2
    signing.make(site.folder, "DNS:www.test")
    assert "www: renewed, version 3" in site.renew().stdout


@pytest.mark.parametrize(
    ("key", "reason", "number"),
    [
        pytest.param("ec-p256", "superseded", 4, id="P-256"),
        pytest.param("ec-p384", "cessationOfOperation", 5, id="P-384"),
        pytest.param("rsa-2048", "affiliationChanged", 3, id="RSA"),
    ],
)
def test_the_certificates_own_key_can_sign(
    key: str, reason: str, number: int, faulty: FaultyCA, tmp_path: Path
) -> None:
    site = Site(tmp_path / "site", faulty)
    site.certificate("www", "www.test", key=key).renew()
    done = site.certd("revoke", "www", "--reason", reason, "--with-key", "--yes")
    assert done.returncode == 0, done.stderr
    assert ca_says(faulty.pebble, site, 1) == ("Revoked", number)
    assert site.status()["www"]["version"] == 2
    [asked] = faulty.acted_on("revoke")
    assert "kid" not in asked.protected


def test_where_the_account_is_lost_the_key_is_the_way(site: Site, pebble: RunningPebble) -> None:
    shutil.rmtree(site.state)
    assert site.certd("db", "adopt").returncode == 0
    refused = site.certd("revoke", "www", "--yes")
    assert refused.returncode == 1
    assert "FAILED test does not revoke version 1 of www" in refused.stderr
    assert "--with-key" in refused.stderr
    assert ca_says(pebble, site, 1)[0] == "Valid"
    assert site.status()["www"]["version"] == 1
    assert site.certd("revoke", "www", "--with-key", "--yes").returncode == 0
    assert ca_says(pebble, site, 1)[0] == "Revoked"


def test_an_earlier_version_is_revoked_without_touching_what_is_in_place(
    site: Site, pebble: RunningPebble
) -> None:
    site.renew("--force", "www")
    done = site.certd("revoke", "www", "--version", "1", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing is got in its place" in done.stdout
    assert ca_says(pebble, site, 1)[0] == "Revoked"
    assert ca_says(pebble, site, 2)[0] == "Valid"
    assert site.status()["www"]["version"] == 2


def test_one_that_is_not_configured_any_more_can_be_revoked(
    site: Site, pebble: RunningPebble
) -> None:
    del site.tables["certificate.www"]
    site.write()
    done = site.certd("revoke", "www", "--reason", "cessationOfOperation", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert "[certificate.www] is not configured: nothing is got" in done.stdout
    assert ca_says(pebble, site, 1) == ("Revoked", 5)
    assert len(site.status()) == 0


def test_one_that_is_not_configured_any_more_is_shown_until_it_is_revoked(
    site: Site, faulty: FaultyCA
) -> None:
    faulty.on("revoke", lambda _, __: Reply(503, {}, b"busy"))
    assert site.certd("revoke", "www", "--yes").returncode == 1
    del site.tables["certificate.www"]
    site.certificate("other", "other.test")
    for _ in range(2):  # as the file says, and then as the store says too
        done = site.certd("status")
        assert done.returncode == 1
        assert "www, which is not configured any more: version 1 is not revoked yet" in done.stdout
        [left] = json.loads(site.certd("status", "--json").stdout)["revocations"]
        assert (left["name"], left["version"], left["revoked_at"]) == ("www", 1, None)
        assert site.renew().returncode == 0
    faulty.honest()
    assert site.certd("revoke", "www", "--yes").returncode == 0
    done = site.certd("status")
    assert (done.returncode, "www" in done.stdout) == (0, False)


def test_a_ca_that_is_away_is_asked_later_and_the_key_is_given_up_at_once(
    site: Site, faulty: FaultyCA
) -> None:
    pebble = faulty.pebble
    faulty.on("revoke", lambda _, __: Reply(503, {}, b"busy"))
    failed = site.certd(*COMPROMISED, "--with-key")
    assert failed.returncode == 1
    assert "FAILED" in failed.stderr
    assert "the daemon or `certd renew` asks again" in failed.stderr
    assert "renewed, version 2" in failed.stdout  # the key is not trusted any more all the same
    entry = site.status()["www"]
    assert (entry["state"], entry["version"]) == ("failing", 2)
    assert "version 1 is not revoked yet" in site.certd("status").stdout
    faulty.honest()
    done = site.certd(*COMPROMISED, "--with-key", "--version", "1")
    assert done.returncode == 0, done.stderr
    assert ca_says(pebble, site, 1) == ("Revoked", 1)
    assert site.status()["www"]["state"] == "ok"


def test_the_daemon_goes_on_with_what_was_to_be_revoked(site: Site, pebble: RunningPebble) -> None:
    killed = site.certd(*COMPROMISED, CERTD_KILL_AT="revocation: it is kept what is to be revoked")
    assert killed.returncode == -signal.SIGKILL
    assert ca_says(pebble, site, 1)[0] == "Valid"
    entry = site.status()["www"]
    assert entry["renew_reason"] == "version 1 is being revoked (keyCompromise)"
    daemon = site.start("run")
    try:
        daemon.wait_until(
            lambda: (
                ca_says(pebble, site, 1)[0] == "Revoked" and site.status()["www"]["state"] == "ok"
            )
        )
    finally:
        daemon.stop()
    assert site.status()["www"]["version"] == 2


@pytest.mark.fault(row=52)
def test_a_ca_that_keeps_silent_about_a_revocation_holds_up_nothing(
    site: Site, faulty: FaultyCA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a renewal in a program, nor the end of program or daemon."""
    monkeypatch.setattr("certd.engine.resident.STOP_SECONDS", 0.1)  # far less than the silence
    answer = threading.Event()

    def silence(_: Exchange, __: Forward) -> None:
        answer.wait(60)

    faulty.on("revoke", silence)
    killed = site.certd(
        *("revoke", "www", "--reason", "superseded", "--yes"),
        CERTD_KILL_AT="revocation: it is kept what is to be revoked",
    )
    assert killed.returncode == -signal.SIGKILL
    try:
        with Certd(site.path) as certd:
            wait_for(lambda: bool(faulty.seen("revoke")))
            certd.renew("www", force=True)
            assert certd.wait("www", 30, newer_than=1) == 2
            begun = time.monotonic()
        assert time.monotonic() - begun < SILENCE / 2
        silent, ordered = faulty.seen("revoke")[0], faulty.seen("new-order")[-1]
        assert 0 < ordered.at - silent.at < SILENCE
        asked = len(faulty.seen("revoke"))
        with site.start("run") as daemon:
            daemon.wait_until(lambda: len(faulty.seen("revoke")) > asked)
            daemon.send(signal.SIGTERM)
            assert daemon.wait(20) == 0
            assert "stopped in the middle of something" in daemon.output()
    finally:
        answer.set()


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("asked", [False, True], ids=["not yet asked", "asked in vain"])
def test_an_order_under_way_is_not_finalized_for_a_key_that_is_given_up(
    asked: bool, site: Site, faulty: FaultyCA
) -> None:
    with Driver(site) as driver:
        key, names = x509.new_key("ec-p256"), driver.spec("www").identifiers
        csr = x509.csr(key, names)
        assert driver.store.leases.claim(["www"]) == ["www"]
        driver.store.orders.begin(
            *("www", "test", faulty.directory, names, "ec-p256", key, csr, None, driver.now())
        )
        driver.store.leases.release("www", None)
        if asked:
            faulty.on("finalize", lambda _, __: Reply(503))
            assert driver.attempt("www").ordering
            faulty.honest()
        finalized = len(faulty.acted_on("finalize"))
        had = x509.facts(Authority.root().leaf(key, "www.test"))
        gone = Version(9, "test", had, "ec-p256")  # long ago: only its key is known by now
        assert (
            driver.store.revocations.intend("www", gone, "keyCompromise", "account", driver.now())
            == []
        )
        assert not (driver.retry if asked else driver.attempt)("www").ordering
        assert len(faulty.acted_on("new-order")) == 2
        assert len(faulty.acted_on("finalize")) == finalized == 1  # version 1's
        lineage = driver.force("www")
        assert lineage.current is not None
        assert lineage.current.number == 2
        assert lineage.current.certificate.spki_sha256 != had.spki_sha256


@pytest.mark.parametrize(
    ("type", "words"),
    [
        ("badRevocationReason", "leave --reason superseded out, or give another"),
        ("unauthorized", "--with-key signs with the certificate's own key instead"),
        ("malformed", "(malformed, HTTP 403)"),
    ],
)
def test_a_refusal_is_explained_and_leaves_everything_as_it_was(
    type: str, words: str, site: Site, faulty: FaultyCA
) -> None:
    faulty.on("revoke", lambda _, __: Reply.problem(403, type, "no"))
    done = site.certd("revoke", "www", "--reason", "superseded", "--yes")
    assert done.returncode == 1
    assert words in done.stderr
    entry = site.status()["www"]
    assert (entry["version"], entry["last_error"], entry["revocations"]) == (1, None, [])


def test_a_ca_that_does_not_revoke_is_told_and_not_asked_again(
    site: Site, faulty: FaultyCA
) -> None:
    def without(_: Exchange, forward: Forward) -> Reply:
        return forward().but(revokeCert=None)

    faulty.on("directory", without)
    done = site.certd(*COMPROMISED)
    assert done.returncode == 1
    assert "test does not revoke over ACME: its directory has no revokeCert; ask" in done.stderr
    assert "asks again" not in done.stderr
    entry = site.status()["www"]
    assert (entry["state"], entry["version"], entry["revocations"]) == ("ok", 2, [])


def test_already_revoked_is_as_good_as_revoked(site: Site, faulty: FaultyCA) -> None:
    faulty.on("revoke", lambda _, __: Reply.problem(400, "alreadyRevoked", "it is"))
    done = site.certd("revoke", "www", "--yes")
    assert done.returncode == 0, done.stderr
    assert site.status()["www"]["state"] == "ok"


def test_what_is_revoked_is_not_taken_back_in_from_a_target(site: Site) -> None:
    aside = site.folder / "aside"
    shutil.copytree(site.folder / "web", aside, symlinks=True)
    assert site.certd("revoke", "www", "--yes").returncode == 0
    assert site.certd(*COMPROMISED).returncode == 0  # version 2
    # Somebody puts the files of before back, and they look newer than what is known.
    shutil.rmtree(site.folder / "web")
    shutil.copytree(aside, site.folder / "web", symlinks=True)
    site.certificate("other", "www.test", targets=["web"])
    shutil.copytree(site.folder / "web/www", site.folder / "web/other", symlinks=True)
    done = site.certd("db", "adopt")
    assert done.returncode == 1
    assert "other: what web holds is not taken back in: it was revoked on your word" in done.stdout


# -- what is asked of the operator ---------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param(("nobody", "--yes"), "no version of 'nobody' was ever issued", id="name"),
        pytest.param(("www", "--version", "7", "--yes"), "www has no version 7: it has 1", id="7"),
        pytest.param(("www", "--reason", "bored", "--yes"), "keyCompromise", id="reason"),
        pytest.param(("www",), "nobody is there to be asked; say --yes if it is meant", id="yes"),
    ],
)
def test_a_wrong_command_line_revokes_nothing(
    words: tuple[str, ...], told: str, site: Site, pebble: RunningPebble
) -> None:
    done = site.certd("revoke", *words)
    assert done.returncode == 2
    assert told in done.stderr
    assert ca_says(pebble, site, 1)[0] == "Valid"


def test_no_is_no(site: Site, pebble: RunningPebble) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        site.argv("revoke", "www"), stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        os.write(ours, b"n\n")
        out, _ = process.communicate(timeout=60)
    os.close(theirs)
    os.close(ours)
    assert process.returncode == 1
    assert b"Revoking cannot be undone." in out
    assert b"nothing is revoked" in out
    assert ca_says(pebble, site, 1)[0] == "Valid"


def test_no_key_is_shown(site: Site) -> None:
    before = site.bundle("www")
    assert before is not None
    done = site.certd(*COMPROMISED, "--with-key")
    assert done.returncode == 0
    key = before.key_pem.reveal().splitlines()[1]
    assert isinstance(before.key_pem, Secret)
    assert key not in done.stdout + done.stderr
