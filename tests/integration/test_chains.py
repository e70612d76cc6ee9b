"""Which of the chains that a CA offers is taken (RFC 8555 section 7.4.2), judged by openssl."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from certd.testing.chains import Authority, pem
from certd.testing.exchanges import Exchange, Forward, Reply
from certd.testing.pebble import Pebble
from certd.testing.proxy import FaultyCA
from certd.x509 import new_key
from tests.faults.driving import Driver, acted
from tests.site import Site

ROOTS = 3


@pytest.fixture
def pebble(start_pebble: Callable[..., Pebble]) -> Pebble:
    """With two alternates, each of which leads to a root of its own."""
    return start_pebble(alternate_roots=ROOTS - 1, chain_length=2, retry_after=(1, 1))


@pytest.fixture
def faulty(pebble: Pebble, tmp_path: Path) -> Iterator[FaultyCA]:
    with FaultyCA(pebble, tmp_path / "proxy") as proxy:
        yield proxy


@pytest.fixture
def site(faulty: FaultyCA, tmp_path: Path) -> Site:
    site = Site(tmp_path / "site", faulty)
    return site.disk().certificate("www", "www.test", targets=["web"])


def root(pebble: Pebble, number: int) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pebble.root_pem(number).encode())


def common_name(pebble: Pebble, number: int) -> str:
    [name] = root(pebble, number).subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(name.value)


def judged(site: Site, pebble: Pebble, folder: Path) -> int:
    """Which of the CA's roots the chain in place leads to, and no other, by openssl."""
    place = site.folder / "web/www/current"
    good = []
    for number in range(ROOTS):
        path = folder / f"root-{number}.pem"
        path.write_text(pebble.root_pem(number))
        done = subprocess.run(
            [
                *("openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-no-CApath"),
                *("-CAfile", str(path), "-untrusted", str(place / "chain.pem")),
                str(place / "cert.pem"),
            ],
            check=False,
            capture_output=True,
        )
        good += [number] if done.returncode == 0 else []
    [only] = good
    return only


def test_without_a_wish_the_first_is_taken_and_no_other_is_asked_for(
    site: Site, pebble: Pebble, faulty: FaultyCA, tmp_path: Path
) -> None:
    site.renew()
    assert judged(site, pebble, tmp_path) == 0
    assert len(faulty.acted_on("certificate")) == 1
    assert (
        f"root         CN={common_name(pebble, 0)}, not known here"
        in site.certd("show", "www").stdout
    )


def test_the_chain_to_a_root_is_taken_by_its_name_or_fingerprint(
    site: Site, pebble: Pebble, faulty: FaultyCA, tmp_path: Path
) -> None:
    site.tables["ca.test"]["preferred_chain"] = common_name(pebble, 2).upper()
    site.write()
    site.renew()
    assert judged(site, pebble, tmp_path) == 2

    # Of the certificate's own wish the CA's knows nothing. A root's fingerprint is in no
    # chain: it is known from the file.
    roots = tmp_path / "roots.pem"
    roots.write_text("".join(pebble.root_pem(number) for number in range(ROOTS)))
    site.tables["ca.test"]["roots"] = str(roots)
    fingerprint = root(pebble, 1).fingerprint(hashes.SHA256()).hex(":").upper()
    site.certificate("www", "www.test", targets=["web"], preferred_chain=fingerprint)
    assert "nothing to do now" in site.certd("plan").stdout  # from the next renewal on
    site.renew("--force", "www")
    assert judged(site, pebble, tmp_path) == 1
    assert (
        f"root         CN={common_name(pebble, 1)}, known here" in site.certd("show", "www").stdout
    )


def test_a_chain_is_known_by_an_intermediate_too(
    site: Site, pebble: Pebble, tmp_path: Path
) -> None:
    made = pebble.intermediate_pem(2)
    fingerprint = x509.load_pem_x509_certificate(made.encode()).fingerprint(hashes.SHA256()).hex()
    site.certificate("www", "www.test", targets=["web"], preferred_chain=fingerprint)
    site.renew()
    assert judged(site, pebble, tmp_path) == 2


def test_where_no_chain_is_the_one_the_first_is_taken_and_the_others_are_named(
    site: Site, pebble: Pebble, tmp_path: Path
) -> None:
    site.certificate("www", "www.test", targets=["web"], preferred_chain="ISRG Root X9")
    with Driver(site) as driver:
        assert driver.attempt("www").current is not None
    [told] = [text for text in driver.said if "ISRG" in text]
    offered = ", ".join(f"CN={common_name(pebble, number)}" for number in range(ROOTS))
    assert told.endswith(
        f"; test offers no chain to ISRG Root X9, but to {offered}: its first is taken"
    )
    assert judged(site, pebble, tmp_path) == 0


def _another(exchange: Exchange, forward: Forward) -> Reply | None:
    ca = Authority.root().authority("Intermediate")
    leaf = ca.leaf(new_key("ec-p256"), "www.test")
    return Reply(200, {}, pem(leaf, ca.certificate).encode())


def _cut(exchange: Exchange, forward: Forward) -> Reply | None:
    reply = forward()
    return Reply(200, {}, reply.body[: len(reply.body) // 2])


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(_another, id="of another certificate"),
        pytest.param(_cut, id="cut off"),
        pytest.param(lambda _, __: Reply.problem(404, "malformed", "gone"), id="gone"),
        pytest.param(lambda _, __: Reply(503, {}, b"busy"), id="busy for long"),
        pytest.param(lambda _, __: None, id="hangs up"),
    ],
)
def test_an_alternate_that_is_not_good_costs_no_certificate(
    act: Callable[[Exchange, Forward], Reply | None],
    site: Site,
    pebble: Pebble,
    faulty: FaultyCA,
    tmp_path: Path,
) -> None:
    def alternates_only(exchange: Exchange, forward: Forward) -> Reply | None:
        alternate = "/alternate/" in exchange.path
        return act(exchange, forward) if alternate else forward()

    wish = common_name(pebble, 2)
    site.certificate("www", "www.test", targets=["web"], preferred_chain=wish)
    faulty.on("certificate", alternates_only)
    with Driver(site) as driver:
        lineage = driver.attempt("www")
        assert lineage.current is not None
        assert lineage.failure is None
    assert judged(site, pebble, tmp_path) == 0
    assert any(f"offers no chain to {wish}" in text for text in driver.said)
    assert len(pebble.ledger()) == 1


def test_an_alternate_that_comes_late_is_waited_for_a_little(
    site: Site, pebble: Pebble, faulty: FaultyCA, tmp_path: Path
) -> None:
    site.certificate("www", "www.test", targets=["web"], preferred_chain=common_name(pebble, 1))
    busy = Reply(503, {}, b"busy")
    faulty.on("certificate", acted(lambda _: busy, times=2, skip=1))
    with Driver(site) as driver:
        assert driver.attempt("www").current is not None
    assert judged(site, pebble, tmp_path) == 1


def test_a_chain_elsewhere_is_not_asked_for(
    site: Site, pebble: Pebble, faulty: FaultyCA, tmp_path: Path
) -> None:
    elsewhere = '<https://192.0.2.1/chain>; rel="alternate", </x>; rel="up", <:::>;rel=alternate'

    def link(exchange: Exchange, forward: Forward) -> Reply | None:
        reply = forward()
        return Reply(reply.status, {**reply.headers, "Link": elsewhere}, reply.body)

    site.certificate("www", "www.test", targets=["web"], preferred_chain="X")
    faulty.on("certificate", link)
    with Driver(site) as driver:
        assert driver.attempt("www").current is not None
    assert judged(site, pebble, tmp_path) == 0
