"""Certificates from a real CA: Pebble, strict, asked by ``certd`` as its operator runs it."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509 as pyca
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certd import x509
from certd.model import Bundle
from certd.store import Store
from certd.testing.pebble import Pebble, RunningPebble
from certd.testing.proxy import FaultyCA
from tests.site import Site

Start = Callable[..., Pebble]


@pytest.fixture
def site(pebble: RunningPebble, tmp_path: Path) -> Site:
    return Site(tmp_path / "site", pebble)


@pytest.fixture
def watched(pebble: RunningPebble, tmp_path: Path) -> Iterator[FaultyCA]:
    """The same Pebble with an honest ear in between."""
    with FaultyCA(pebble, tmp_path / "proxy") as ca:
        yield ca


def _bundle(site: Site, name: str = "www") -> Bundle:
    bundle = site.bundle(name)
    assert bundle is not None
    assert x509.pair_matches(bundle.fullchain_pem, bundle.key_pem)
    return bundle


def _names(bundle: Bundle) -> set[str]:
    return {str(name) for name in bundle.certificate.identifiers}


# What is asked for


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["www.example.com"], id="one name"),
        pytest.param(["example.com", *(f"n{n}.example.com" for n in range(9))], id="ten names"),
        pytest.param(["127.0.0.1"], id="an IP address"),
        pytest.param(["www.example.com", "127.0.0.1", "::1"], id="a name and both families"),
        pytest.param(["Bücher.example."], id="a name to be made an A-label"),
    ],
)
def test_the_names_that_were_asked_for(names: list[str], site: Site) -> None:
    if "::1" in names:
        host, port = site.tables["http"]["listen"][0].rsplit(":", 1)
        site.tables["http"]["listen"] = [f"{host}:{port}", f"[::1]:{port}"]
    done = site.certificate("www", *names).renew()
    assert re.match(r"www: issued, version 1, valid until \d{4}-.*; at no target", done.stdout)
    wanted = {"xn--bcher-kva.example"} if names[0].startswith("B") else set(names)
    assert _names(_bundle(site)) == wanted
    status = site.status()["www"]
    assert status["state"] == "ok"
    assert status["last_error"] is None


def test_a_wildcard_is_refused_before_any_ca_is_asked(site: Site, watched: FaultyCA) -> None:
    site.certificate("www", "*.example.com")
    done = site.certd("renew")
    assert done.returncode == 2
    assert "[certificate.www] names: *.example.com is a wildcard" in done.stderr
    assert not watched.exchanges
    assert not site.state.exists()


@pytest.mark.parametrize("key", ["ec-p256", "ec-p384", "rsa-2048", "rsa-3072", "rsa-4096"])
def test_every_kind_of_key(key: str, site: Site) -> None:
    site.certificate("www", "www.example.com", key=key).renew()
    public = pyca.load_pem_x509_certificate(_bundle(site).leaf_pem.encode()).public_key()
    if isinstance(public, rsa.RSAPublicKey):
        assert f"rsa-{public.key_size}" == key
    else:
        assert isinstance(public, ec.EllipticCurvePublicKey)
        assert f"ec-p{public.key_size}" == key


def test_another_key_type_or_name_is_another_version(site: Site) -> None:
    site.certificate("www", "www.example.com").renew()
    for changes in ({"names": ["www.example.com"], "key": "ec-p384"}, {"names": ["example.com"]}):
        before = _bundle(site)
        site.tables["certificate.www"].update(changes)
        site.write()
        assert f"renewed, version {before.version + 1}" in site.renew().stdout
        after = _bundle(site)
        assert after.certificate.spki_sha256 != before.certificate.spki_sha256
        assert _names(after) == set(changes["names"])
    assert "not due before" in site.renew().stdout


# What CAs are like


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"alternate_roots": 2}, id="alternate roots"),
        pytest.param({"chain_length": 3, "alternate_roots": 1}, id="three intermediates"),
        pytest.param({"nonce_reject": 0}, id="no nonce is refused"),
        pytest.param({"nonce_reject": 50}, id="every second nonce is refused"),
        pytest.param({"authz_reuse": 0}, id="no authorization is used again"),
        pytest.param({"profiles": {"short": 160 * 3600}}, id="six days"),
    ],
)
def test_two_certificates_from_a_ca(
    settings: dict[str, object], start_pebble: Start, tmp_path: Path
) -> None:
    pebble = start_pebble(**{"retry_after": (1, 1), **settings})
    site = Site(tmp_path / "site", pebble)
    site.certificate("www", "www.example.com").certificate("both", "a.example.com", "b.example.com")
    site.renew()
    for name in ("www", "both"):
        bundle = _bundle(site, name)
        chain = pyca.load_pem_x509_certificates(bundle.fullchain_pem.encode())
        chain.append(pyca.load_pem_x509_certificate(pebble.root_pem().encode()))
        for lower, upper in itertools.pairwise(chain):
            lower.verify_directly_issued_by(upper)
        assert len(chain) == 2 + int(str(settings.get("chain_length", 1)))
    assert len(pebble.ledger()) == 2


@pytest.mark.fault(row=13)
def test_a_valid_authorization_is_not_asked_for_again(start_pebble: Start, tmp_path: Path) -> None:
    pebble = start_pebble(authz_reuse=100, nonce_reject=0, retry_after=(1, 1))
    with FaultyCA(pebble, tmp_path / "proxy") as ca:
        site = Site(tmp_path / "site", ca).certificate("www", "www.example.com")
        site.renew()
        assert len(ca.seen("challenge")) == 1
        site.renew("--force", "www")
        assert len(ca.seen("challenge")) == 1
    assert len(pebble.ledger()) == 2


def test_an_account_is_made_once(watched: FaultyCA, tmp_path: Path) -> None:
    site = Site(tmp_path / "site", watched)
    for number in range(3):
        site.certificate(f"n{number}", f"n{number}.example.com").renew()
    made = watched.acted_on("new-account")
    assert [item.upstream.status for item in made if item.upstream].count(201) == 1
    accounts = {item.protected["kid"] for item in watched.exchanges if "kid" in item.protected}
    assert len(accounts) == 1


# Renewal


def test_a_renewal_tells_what_it_replaces(watched: FaultyCA, tmp_path: Path) -> None:
    site = Site(tmp_path / "site", watched).certificate("www", "www.example.com")
    site.renew()
    first = _bundle(site)
    assert all("replaces" not in item.payload for item in watched.seen("new-order"))
    seen = len(watched.seen("new-order"))
    assert "renewed, version 2" in site.renew("--force", "www").stdout
    replaced = {item.payload["replaces"] for item in watched.seen("new-order")[seen:]}
    assert replaced == {first.certificate.ari_id}
    assert _bundle(site).certificate.serial != first.certificate.serial


@pytest.mark.fault(row=25)
def test_a_window_in_the_past_means_now(site: Site, pebble: RunningPebble) -> None:
    site.certificate("www", "www.example.com").renew()
    first = _bundle(site)
    status = site.status()["www"]
    assert status["renew_reason"] == "the CA's renewal window"
    now = datetime.now(UTC)
    pebble.set_renewal_info(
        first.leaf_pem, now - timedelta(days=2), now - timedelta(days=1), "https://why.example/"
    )
    # The CA said when to ask again, and until then nobody does.
    assert "not due before" in site.renew().stdout
    store = Store.open(site.state)
    store.lineages.ask_all(now)
    store.close()
    assert "renewed, version 2" in site.renew().stdout
    assert _bundle(site).certificate.serial != first.certificate.serial
    assert site.status()["www"]["renew_at"] > f"{now:%Y-%m-%dT%H:%M:%SZ}"


@pytest.mark.fault(row=24)
@pytest.mark.parametrize(
    "answer",
    ["<html>", "[]", "{}", '{"suggestedWindow": 7}', '{"suggestedWindow": {"start": 1}}'],
)
def test_a_window_that_is_none_is_done_without(
    answer: str, site: Site, pebble: RunningPebble
) -> None:
    site.certificate("www", "www.example.com").renew()
    pebble.set_renewal_info_raw(_bundle(site).leaf_pem, answer)
    store = Store.open(site.state)
    store.lineages.ask_all(datetime.now(UTC))
    store.close()
    assert "not due before" in site.renew().stdout
    status = site.status()["www"]
    assert status["renew_reason"] == "2/3 of the lifetime"
    assert status["state"] == "ok"


# Side by side, and for show


@pytest.mark.fault(row=43)
def test_two_renewals_at_once_issue_each_certificate_once(
    site: Site, pebble: RunningPebble
) -> None:
    for number in range(6):
        site.certificate(f"n{number}", f"n{number}.example.com", targets=["web"])
    site.disk()
    issued = len(pebble.ledger())
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: site.renew(), range(2)))
    assert [text.stdout.count("\n") for text in done] == [6, 6]
    serials = sorted(item.serial for item in pebble.ledger()[issued:])
    assert serials == sorted(_bundle(site, f"n{n}").certificate.serial for n in range(6))
    assert {entry["state"] for entry in site.status().values()} == {"ok"}


def test_a_rehearsal_goes_to_staging_and_keeps_nothing(
    site: Site, pebble: RunningPebble, start_pebble: Start, tmp_path: Path
) -> None:
    staging = start_pebble(http_port=pebble.http_port, retry_after=(1, 1))
    both = tmp_path / "both.pem"
    both.write_text(pebble.ca_bundle.read_text() + staging.ca_bundle.read_text())
    site.tables["ca.test"].update(ca_bundle=str(both), staging=staging.directory)
    site.certificate("www", "www.example.com", targets=["web"]).disk()
    issued = len(pebble.ledger())
    done = site.renew("--dry-run")
    assert done.stdout == "www: dry run: the staging CA issued it; nothing was kept\n"
    assert len(staging.ledger()) == 1
    assert len(pebble.ledger()) == issued
    assert site.status()["www"]["state"] == "new"
    assert not (site.folder / "web").exists()
    with site.store() as store:
        assert store.accounts.account(pebble.directory) is None
        assert store.accounts.account(staging.directory) is None
    assert "issued, version 1" in site.renew().stdout


def test_a_rehearsal_without_staging_says_so(site: Site) -> None:
    site.certificate("www", "www.example.com")
    done = site.certd("renew", "--dry-run")
    assert done.returncode == 1
    assert "www: FAILED test has no staging directory to rehearse at" in done.stdout


def test_status_is_json_that_anybody_can_read(site: Site) -> None:
    site.certificate("www", "www.example.com", targets=["web"]).disk().renew()
    entry = json.loads(site.certd("status", "--json").stdout)["certificates"][0]
    assert entry["names"] == ["www.example.com"]
    assert entry["targets"][0]["state"] == "verified"
    assert entry["serial"] == _bundle(site).certificate.serial
