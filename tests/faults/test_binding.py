"""External account binding (RFC 8555 section 7.3.4): a CA that makes accounts of customers only."""

from __future__ import annotations

import base64
import hmac
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from certd import due
from certd.testing.exchanges import Exchange, Reply
from certd.testing.pebble import Pebble
from certd.testing.proxy import FaultyCA
from tests.faults.driving import Driver
from tests.site import Site
from tests.warm import Warm

KID = "kid-1"
HMAC = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
WRONG = "AAAAZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"


@pytest.fixture
def customers(start_pebble: Callable[..., Pebble], tmp_path: Path) -> Site:
    """A site whose CA makes accounts for customers only; ``www`` is wanted there."""
    pebble = start_pebble(eab_keys={KID: HMAC}, retry_after=(1, 1))
    return Site(tmp_path / "site", pebble).certificate("www", "www.example.com")


def bind(site: Site, key: str, kid: str = KID) -> Path:
    """Write ``eab``; the key is in a file, which is returned."""
    path = site.folder / "hmac"
    path.write_text(f"{key}\n")
    path.chmod(0o600)
    site.tables["ca.test.eab"] = {"kid": kid}
    site.tables["ca.test.eab.hmac"] = {"file": "hmac"}
    site.write()
    return path


def test_an_account_is_bound_and_its_key_fetched_once(customers: Site, warm: Warm) -> None:
    path = bind(customers, HMAC)
    assert f"{customers.path}: good" in warm.certd(customers, "check").stdout
    with Driver(customers) as driver:
        assert driver.attempt("www").failure is None
        path.unlink()  # of no use any more
        assert driver.force("www").failure is None
    assert "valid" in warm.certd(customers, "account", "show", "test").stdout
    exported = customers.folder / "key.pem"
    assert warm.certd(customers, "account", "export", "test", str(exported)).returncode == 0
    done = warm.certd(
        customers, "account", "import", "test", str(exported)
    )  # found without a binding
    assert done.returncode == 0, done.stderr


@pytest.mark.fault(row=23)
@pytest.mark.parametrize(
    ("kid", "key"), [(KID, WRONG), ("kid-2", HMAC)], ids=["another key", "another key id"]
)
def test_a_wrong_binding_stops_the_ca_and_shows_no_key(
    kid: str, key: str, customers: Site, warm: Warm, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    bind(customers, key, kid)
    with Driver(customers) as driver:
        lineage = driver.attempt("www")
        assert lineage.failure is not None
        assert lineage.failure.next.startswith("check eab in [ca.test]: kid and hmac as the CA")
        assert lineage.parks["test"].everyone
        assert due.issuance(driver.spec("www"), lineage, driver.now()).at == due.NEVER
    for words in (("status",), ("account", "register", "test"), ("renew", "www", "--debug")):
        done = warm.certd(customers, *words)
        assert done.returncode == 1
        assert "check eab in [ca.test]" in done.stdout + done.stderr
        assert key not in done.stdout + done.stderr
    assert key not in caplog.text
    assert key.encode() not in (customers.state / "certd.db").read_bytes()
    bind(customers, HMAC)
    assert warm.certd(customers, "account", "register", "test").returncode == 0
    assert "issued, version 1" in warm.certd(customers, "renew").stdout  # nothing is stopped now


def test_without_a_binding_it_is_told_what_to_write(customers: Site) -> None:
    with Driver(customers) as driver:
        lineage = driver.attempt("www")
    assert lineage.failure is not None
    assert "(externalAccountRequired" in lineage.failure.why
    assert 'write eab = { kid = "…", hmac = { file = "…" } } in [ca.test]' in lineage.failure.next
    assert lineage.parks["test"].until is None


@pytest.mark.parametrize(
    ("place", "said"),
    [
        pytest.param("absent", "the secret", id="not there"),
        pytest.param(
            "no key!", "eab.hmac of [ca.test] cannot be used: the key is not", id="no key"
        ),
    ],
)
def test_a_key_that_cannot_be_had_is_told_before_the_ca_is_asked(
    place: str, said: str, site: Site, faulty: FaultyCA
) -> None:
    path = bind(site, place)
    with Driver(site) as driver:
        if place == "absent":
            path.unlink()
        failure = driver.attempt("www").failure
    assert failure is not None
    assert said in failure.what
    assert place not in failure.why + failure.next or place == "absent"
    assert faulty.seen("new-account") == []


def test_what_is_signed_is_what_the_rfc_says(site: Site, faulty: FaultyCA) -> None:
    """The account's public key, under the URL of newAccount, as the customer's word."""
    seen: list[Exchange] = []

    def note(exchange: Exchange, forward: Callable[[], Reply]) -> Reply:
        seen.append(exchange)
        return forward()

    faulty.on("new-account", note)
    bind(site, HMAC)
    with Driver(site) as driver:
        driver.attempt("www")
    inner = seen[-1].payload["externalAccountBinding"]
    header, payload = (json.loads(_decoded(inner[part])) for part in ("protected", "payload"))
    assert header == {"alg": "HS256", "kid": KID, "url": faulty.origin + seen[-1].path}
    assert payload == seen[-1].protected["jwk"]
    signed = f"{inner['protected']}.{inner['payload']}".encode()
    assert _decoded(inner["signature"]) == hmac.digest(_decoded(HMAC), signed, "sha256")


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
