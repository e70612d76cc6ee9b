"""certd at CAs whose servers somebody else wrote, each with its own reading of RFC 8555."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from certd.testing.caddy import Caddy
from certd.testing.openbao import OpenBao
from certd.testing.pebble_binary import Binaries
from tests.site import Site

NAMES = ("www.example.com", "example.com")


@pytest.fixture
def caddy(tmp_path: Path) -> Iterator[Caddy]:
    with Caddy(NAMES, tmp_path / "caddy") as ca:
        yield ca


@pytest.fixture
def openbao(tmp_path: Path, _pebble_binaries: Binaries) -> Iterator[OpenBao]:
    with OpenBao(tmp_path / "openbao", _pebble_binaries) as ca:
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


def test_openbao_issues_and_renews(openbao: OpenBao, tmp_path: Path) -> None:
    """It refuses a lifetime as Let's Encrypt does, and has no profiles: it is asked without."""
    site = site_of(openbao, tmp_path / "site", lifetime="7d", profile="shortlived")
    lifetime = issue_and_renew(site, 2 / 3, "2/3 of the lifetime")
    assert timedelta(days=10) < lifetime
