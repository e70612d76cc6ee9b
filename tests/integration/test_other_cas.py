"""certd at CAs whose servers somebody else wrote, each with its own reading of RFC 8555."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import requests
from cryptography import x509

from certd.store import Store
from certd.testing.caddy import Caddy
from certd.testing.openbao import OpenBao
from certd.testing.pebble_binary import Binaries
from tests.site import Site
from tests.warm import Warm

NAMES = ("www.example.com", "example.com")


@pytest.fixture
def caddy(tmp_path: Path) -> Iterator[Caddy]:
    with Caddy(NAMES, tmp_path / "caddy") as ca:
        yield ca


@pytest.fixture
def openbao(tmp_path: Path, _pebble_binaries: Binaries) -> Iterator[OpenBao]:
    with OpenBao(tmp_path / "openbao", _pebble_binaries) as ca:
        yield ca


@pytest.fixture
def customers(tmp_path: Path, _pebble_binaries: Binaries) -> Iterator[OpenBao]:
    """It makes accounts of its customers only."""
    with OpenBao(tmp_path / "openbao", _pebble_binaries, "always-required") as ca:
        yield ca


def site_of(ca: Caddy | OpenBao, folder: Path, **wishes: str) -> Site:
    site = Site(folder, ca)
    site.tables["http"]["listen"] = [f"{ca.address}:80"]
    return site.disk().certificate("www", *NAMES, targets=["web"], **wishes)


def issue_and_renew(site: Site, fraction: float, words: str) -> timedelta:
    """From nothing to a second version; returns the lifetime of the certificate."""
    assert "issued, version 1" in site.renew().stdout
    first = site.status()["www"]
    assert "not due before" in site.renew().stdout  # nothing is begun, or gone on with
    assert site.status()["www"] == first
    assert (first["state"], first["renew_reason"]) == ("ok", words)

    leaf = x509.load_pem_x509_certificate((site.folder / "web/www/current/cert.pem").read_bytes())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == set(NAMES)
    begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    renew_at = datetime.fromisoformat(first["renew_at"])
    assert abs(renew_at - (begin + (end - begin) * fraction)) <= timedelta(seconds=1)

    assert "renewed, version 2" in site.renew("--force", "www").stdout
    second = site.status()["www"]
    assert (second["state"], second["failures"]) == ("ok", 0)
    assert second["serial"] != first["serial"]
    assert [target["serving"] for target in second["targets"]] == [2]
    with site.store() as store:
        assert store.orders.live("www") is None
    return end - begin


def test_caddy_without_renewal_information_issues_for_half_a_day(
    caddy: Caddy, tmp_path: Path
) -> None:
    """Of its own accord; it takes a lifetime that it is asked for (`notAfter`)."""
    site = site_of(caddy, tmp_path / "site")
    lifetime = issue_and_renew(site, 1 / 2, "1/2 of the lifetime")
    assert timedelta(hours=11) < lifetime < timedelta(hours=13)
    site.certificate("www", *NAMES, targets=["web"], lifetime="3h").renew()
    leaf = x509.load_pem_x509_certificate((site.folder / "web/www/current/cert.pem").read_bytes())
    lifetime = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    assert abs(lifetime - timedelta(hours=3)) < timedelta(minutes=5)


def test_caddy_that_looked_in_vain_is_not_asked_again_for_ever(
    caddy: Caddy, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """It leaves the challenge pending, with an error, to be answered again."""
    site = site_of(caddy, tmp_path / "site")
    site.tables["http"]["listen"] = [f"127.0.0.1:{free_port()}"]
    site.write()
    began = time.monotonic()
    done = site.certd("renew")
    assert done.returncode == 1
    assert "FAILED the CA could not validate" in done.stdout
    assert "connection" in done.stdout  # in the CA's own words
    assert time.monotonic() - began < 15
    # The order is not lost: it is gone on with once the questions are answered.
    with site.store() as store:
        order = store.orders.live("www")
    assert order is not None
    site.tables["http"]["listen"] = [f"{caddy.address}:80"]
    site.write()
    assert "issued, version 1" in site.renew("www").stdout


def look_now(site: Site, openbao: OpenBao) -> CompletedProcess[str]:
    """``certd renew``, when the list is due."""
    site.write()
    store = Store.open(site.state)
    store.crls.keep(openbao.crl, datetime.now(UTC))
    store.close()
    return site.renew()


def test_what_openbao_has_revoked_by_itself_is_replaced(openbao: OpenBao, tmp_path: Path) -> None:
    """By the list that its leaves name, which is asked for only when it is due."""
    site = site_of(openbao, tmp_path / "site")
    site.renew()
    site.renew()
    shown = site.certd("show", "www").stdout
    assert "who signs it is not known here" in shown  # and without it, no list is believed
    assert "name that root by roots in [ca.test]" in shown
    root = tmp_path / "root.pem"
    root.write_text(openbao.root_pem())
    site.tables["ca.test"]["roots"] = str(root)
    look_now(site, openbao)
    first = site.status()["www"]
    assert f"CRL          {openbao.crl}, good, next look" in site.certd("show", "www").stdout
    openbao.revoke(first["serial"])
    assert "not due before" in site.renew().stdout  # the list that was read is still good
    done = look_now(site, openbao)
    assert "renewed, version 2" in done.stdout
    second = site.status()["www"]
    assert (second["state"], second["version"]) == ("ok", 2)
    [told] = second["revocations"]
    assert (told["version"], told["by_ca"], told["reason"]) == (1, True, "unspecified")
    shown = site.certd("show", "www").stdout
    assert "version 1 was revoked by its CA (unspecified)" in shown
    # Its files put back are not taken for newer ones, and the list is not asked for again.
    assert "not due before" in site.renew().stdout


def test_openbao_revokes_for_the_account_and_for_the_key(openbao: OpenBao, tmp_path: Path) -> None:
    site = site_of(openbao, tmp_path / "site")
    site.renew()
    done = site.certd("revoke", "www", "--yes")
    assert done.returncode == 0, done.stderr
    assert "renewed, version 2" in done.stdout
    # It takes no reasons at all, which it says when it is given one.
    done = site.certd("revoke", "www", "--reason", "superseded", "--yes")
    assert done.returncode == 1
    assert "(badRevocationReason" in done.stderr
    assert "leave --reason superseded out" in done.stderr
    done = site.certd("revoke", "www", "--reason", "keyCompromise", "--with-key", "--yes")
    assert done.returncode == 0, done.stderr
    assert "is revoked (unspecified: the CA takes no keyCompromise)" in done.stdout
    listed = x509.load_der_x509_crl(requests.get(openbao.crl, timeout=5).content)
    with site.store() as store:
        gone = [store.lineages.bundle("www", number).certificate.serial for number in (1, 2)]
    assert {f"{entry.serial_number:x}".zfill(40) for entry in listed} >= {
        serial.zfill(40) for serial in gone
    }
    assert site.status()["www"]["version"] == 3


def test_openbao_issues_and_renews(openbao: OpenBao, tmp_path: Path) -> None:
    """It refuses a lifetime as Let's Encrypt does, and has no profiles: it is asked without."""
    site = site_of(openbao, tmp_path / "site", lifetime="7d", profile="shortlived")
    lifetime = issue_and_renew(site, 2 / 3, "2/3 of the lifetime")
    assert timedelta(days=10) < lifetime


@pytest.mark.parametrize("ca", ["caddy", "openbao"])
def test_an_account_at_another_ca(
    ca: str, request: pytest.FixtureRequest, warm: Warm, tmp_path: Path
) -> None:
    """Neither rolls keys over, though Caddy's directory and OpenBao's have keyChange."""
    site = site_of(request.getfixturevalue(ca), tmp_path / "site")
    site.tables["certd"]["contact"] = ["mailto:ops@example.com"]
    site.write()
    key = tmp_path / "key.pem"

    def account(*words: str) -> tuple[int, str]:
        done = warm.certd(site, "account", *words)
        return done.returncode, done.stdout + done.stderr

    assert account("register", "test")[0] == 0
    assert "told the contacts: mailto:ops@example.com" in account("update", "test")[1]
    status, said = account("rollover", "test")
    assert (status, "test does not roll keys over" in said) == (2, True)
    assert "rolling over" not in account("list")[1]
    assert "valid" in account("show", "test")[1]
    assert account("export", "test", str(key))[0] == 0
    assert account("deactivate", "test", "--yes")[0] == 0
    status, said = account("import", "test", str(key))
    assert (status, "`certd account register test` makes one" in said) == (1, True)
    assert account("register", "test", "--new")[0] == 0


def test_openbao_makes_accounts_of_its_customers(
    customers: OpenBao, warm: Warm, tmp_path: Path
) -> None:
    """Without a binding, with a wrong one, with a right one; and with the same a second time."""
    site = site_of(customers, tmp_path / "site")
    done = warm.certd(site, "renew")
    assert done.returncode == 1
    assert "(externalAccountRequired" in done.stdout
    assert "write eab = {" in done.stdout
    kid, key = customers.new_eab()
    for name, mac, status in (("wrong", key[:-4] + "AAAA", 1), ("right", key, 0)):
        (site.folder / name).write_text(mac)
        (site.folder / name).chmod(0o600)
        site.tables["ca.test.eab"] = {"kid": kid}
        site.tables["ca.test.eab.hmac"] = {"file": name}
        site.write()
        done = warm.certd(site, "renew")
        assert done.returncode == status, done.stdout
        assert mac not in done.stdout + done.stderr
    assert "issued, version 1" in done.stdout
    assert "renewed, version 2" in warm.certd(site, "renew", "--force", "www").stdout
    # Its keys are for one account each.
    warm.certd(site, "account", "deactivate", "test", "--yes")
    done = warm.certd(site, "account", "register", "test", "--new")
    assert done.returncode == 1
    assert "neither expired nor used before" in done.stderr
