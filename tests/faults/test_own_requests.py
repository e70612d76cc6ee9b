"""A signing request of the operator's own: certd never sees its key."""

from __future__ import annotations

import shutil
import signal
import ssl
from pathlib import Path

import pytest

from certd.testing.exchanges import Reply
from certd.testing.proxy import FaultyCA
from tests import signing
from tests.faults.driving import Driver
from tests.faults.test_keys import renew
from tests.site import Site

NAME = "www.example.com"


@pytest.fixture
def own(site: Site) -> Site:
    signing.make(site.folder, f"DNS:{NAME}")
    return site.certificate("www", NAME, csr="www.csr", targets=["web"]).disk()


def assert_served_with_the_key(site: Site) -> None:
    """OpenSSL takes what is in place, and the key that was never there, for a pair."""
    folder = site.folder / "web/www/current"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "fullchain.pem", site.folder / "www.key")
    assert sorted(path.name for path in folder.iterdir()) == [
        *("cert.pem", "chain.pem", "fullchain.pem", "no-privkey.txt")
    ]


def test_it_is_issued_deployed_and_renewed_without_a_key(own: Site) -> None:
    assert "www: issued, version 1" in own.renew().stdout
    assert_served_with_the_key(own)
    assert "renewed, version 2" in own.renew("--force", "www").stdout
    assert_served_with_the_key(own)
    assert own.status()["www"]["state"] == "ok"
    assert own.certd("db", "check").returncode == 0
    assert "ec-p256, which certd has never seen (csr)" in own.certd("show", "www").stdout
    done = own.certd("renew", "--new-key", "www")
    assert (done.returncode, "its signing request is yours" in done.stderr) == (2, True)
    bundle = own.bundle("www")
    assert bundle is not None
    assert bundle.keyless


def test_another_key_renews_and_another_signature_does_not(own: Site) -> None:
    renew(own)
    signing.sign(own.folder, f"DNS:{NAME}")
    renew(own)
    assert own.status()["www"]["version"] == 1
    signing.make(own.folder, f"DNS:{NAME}")
    assert "the key of the signing request (csr) has changed" in own.certd("plan").stdout
    renew(own)
    assert_served_with_the_key(own)
    assert own.status()["www"]["version"] == 2


def test_from_ones_own_to_certds_key_and_back(own: Site) -> None:
    renew(own)
    request = own.tables["certificate.www"].pop("csr")
    own.tables["certificate.www"]["reuse_key"] = True
    own.write()
    renew(own)
    assert (own.folder / "web/www/current/privkey.pem").exists()
    with own.store() as store:
        current = store.lineages.get("www").current
    assert current is not None
    assert (current.number, current.wishes) == (2, "")
    own.tables["certificate.www"].pop("reuse_key")
    own.tables["certificate.www"]["csr"] = request
    own.write()
    renew(own)
    assert_served_with_the_key(own)


def test_after_the_loss_of_the_database_it_is_taken_back_in(own: Site, faulty: FaultyCA) -> None:
    renew(own)
    shutil.rmtree(own.state)
    assert "taken back in from its targets, version 1" in own.renew().stdout
    assert len(faulty.acted_on("finalize")) == 1
    assert own.status()["www"]["state"] == "ok"


def test_a_key_that_is_missing_where_one_should_be_is_no_such_certificate(site: Site) -> None:
    site.certificate("www", NAME, targets=["web"]).disk()
    renew(site)
    (site.folder / "web/www/current/privkey.pem").unlink()
    with Driver(site) as driver:
        assert driver._node.config.targets["web"].plugin.serving("www") == ""


def test_a_request_that_the_ca_refuses_is_not_replaced_by_another(
    own: Site, faulty: FaultyCA
) -> None:
    faulty.on("finalize", lambda _, __: Reply.problem(400, "badCSR", "not like this"))
    with Driver(own) as driver:
        lineage = driver.attempt("www")
        assert lineage.failure is not None
        assert "not like this" in lineage.failure.why
    assert len(faulty.seen("finalize")) == 1


@pytest.mark.parametrize("place", ["issue: key and CSR are kept", "issue: finalized"])
def test_killed_it_goes_on(place: str, own: Site, faulty: FaultyCA) -> None:
    assert own.certd("renew", CERTD_KILL_AT=place).returncode == -signal.SIGKILL
    renew(own)
    assert_served_with_the_key(own)
    assert len(faulty.acted_on("finalize")) == 1


def test_a_version_that_has_lost_its_key_is_not_taken_for_one_without(
    site: Site, tmp_path: Path
) -> None:
    site.certificate("www", NAME, targets=["web"]).disk()
    renew(site)
    with Driver(site) as driver:
        driver.store._database.write(
            lambda connection: connection.exec_driver_sql("UPDATE version SET key_pem = ''")
        )
    done = site.certd("db", "check")
    assert done.returncode == 1
    assert "www: version 1" in done.stdout + done.stderr
