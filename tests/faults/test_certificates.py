"""The CA sends something that is not the certificate asked for (faults 6 to 9).

It is refused or put right; the old pair stays; nothing loops; and when the CA has come to
its senses the same order is downloaded again, so that nothing is issued twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509 as pyca

from certd import x509
from certd.authorize import TRIES
from certd.ca.net import NONCE_TRIES
from certd.known import Lineage
from certd.secrets import Secret
from certd.testing.chains import DAY, HOUR, Authority, pem
from certd.testing.exchanges import Exchange, Forward, Reply
from certd.testing.pebble import Pebble, RunningPebble
from certd.testing.proxy import FaultyCA
from tests.faults.driving import Driver
from tests.site import Site

NAMES = ("www.example.com", "example.com")
HTML = b"<!DOCTYPE html><html><body><h1>It works!</h1></body></html>"

# From what the CA really issued and the key that certd made, to what the CA sends.
Bend = Callable[[bytes, Secret], bytes]


@dataclass
class Scene:
    """A site with version 1 deployed, in front of a CA that can be made to misbehave."""

    site: Site
    driver: Driver
    ca: FaultyCA
    pebble: RunningPebble

    def bend(self, bend: Bend) -> None:
        def act(exchange: Exchange, forward: Forward) -> Reply | None:
            order = self.driver.store.orders.live("www")
            assert order is not None
            reply = forward()
            if reply.status != 200:  # a rejected nonce
                return reply
            return replace(reply, body=bend(reply.body, order.key_pem))

        self.ca.on("certificate", act)

    def on_disk(self) -> tuple[str, Secret]:
        current = self.site.folder / "web" / "www" / "current"
        key = Secret((current / "privkey.pem").read_text())
        return (current / "fullchain.pem").read_text(), key


@pytest.fixture
def scene(site: Site, faulty: FaultyCA, pebble: RunningPebble) -> Iterator[Scene]:
    site.disk().certificate("www", *NAMES, targets=["web"])
    with Driver(site) as driver:
        lineage = driver.attempt("www")
        assert lineage.failure is None
        assert lineage.current is not None
        yield Scene(site, driver, faulty, pebble)


NOW = datetime.now(UTC)


def _signed(
    key: Secret,
    *names: str,
    not_before: datetime = NOW - HOUR,
    not_after: datetime = NOW + 90 * DAY,
) -> bytes:
    """By a CA of our own, with its intermediate."""
    middle = Authority.root().authority("Intermediate", not_after=NOW + 1000 * DAY)
    leaf = middle.leaf(key, *names, not_before=not_before, not_after=not_after)
    return pem(leaf, middle.certificate).encode()


def _first(chain: bytes) -> bytes:
    return chain[: chain.index(b"-----END CERTIFICATE-----") + 26]


REFUSED = [
    pytest.param(lambda chain, _: chain[: len(chain) // 3], "cut off", id="6 truncated"),
    pytest.param(lambda chain, _: b"", "found nothing", id="6 empty"),
    pytest.param(lambda chain, _: HTML, "HTML page", id="6 HTML page"),
    pytest.param(
        lambda chain, _: _signed(x509.new_key("ec-p256"), *NAMES), "public key", id="7 wrong key"
    ),
    pytest.param(
        lambda chain, key: _signed(key, "www.example.com", "evil.example.net"),
        "lacks example.com",
        id="8 wrong names",
    ),
    pytest.param(
        lambda chain, key: _signed(key, *NAMES, "more.example.com"),
        "more.example.com",
        id="8 a name too many",
    ),
    pytest.param(
        lambda chain, key: _signed(key, *NAMES, not_before=NOW - 9 * DAY, not_after=NOW - DAY),
        "expired",
        id="8 expired",
    ),
    pytest.param(
        lambda chain, key: _signed(key, *NAMES, not_before=NOW + 9 * DAY),
        "not yet valid",
        id="8 not yet valid",
    ),
    pytest.param(lambda chain, _: _first(chain), "chain is missing", id="9 chain missing"),
    pytest.param(
        lambda chain, _: _first(chain) + pem(Authority.root().certificate).encode(),
        "chain is missing",
        id="9 somebody else's chain",
    ),
]


@pytest.mark.fault(row=6)
@pytest.mark.fault(row=7)
@pytest.mark.fault(row=8)
@pytest.mark.fault(row=9)
@pytest.mark.parametrize(("bend", "reason"), REFUSED)
def test_it_is_refused_and_the_same_order_downloaded_later(
    bend: Bend, reason: str, scene: Scene
) -> None:
    driver, ca = scene.driver, scene.ca
    issued, seen, old = len(scene.pebble.ledger()), len(ca.exchanges), scene.on_disk()
    scene.bend(bend)
    lineage = driver.force("www")

    _check_refused(lineage, reason, driver.now())
    assert scene.on_disk() == old
    assert x509.pair_matches(*old)
    shown = scene.site.status()["www"]
    assert shown["state"] == "failing"
    assert reason in shown["last_error"]["why"]
    assert shown["version"] == 1
    assert shown["next_attempt"] is not None
    # No tight loop: a few tries some seconds apart, then the back-off.
    assert _tries(ca.exchanges[seen:]) == TRIES + 1
    assert len([item for item in ca.exchanges[seen:] if not _refused(item)]) <= 40

    ca.honest()
    seen = len(ca.exchanges)
    lineage = driver.retry("www")
    assert lineage.failure is None
    assert lineage.current is not None
    assert lineage.current.number == 2
    assert not [item for item in ca.exchanges[seen:] if item.kind in ("new-order", "finalize")]
    assert [item.serial for item in scene.pebble.ledger()[issued:]] == [
        lineage.current.certificate.serial
    ]
    assert scene.on_disk() != old
    assert x509.pair_matches(*scene.on_disk())


def _refused(item: Exchange) -> bool:
    """For its nonce, by Pebble."""
    return item.upstream is not None and item.upstream.status == 400


def _tries(sent: list[Exchange]) -> int:
    """Downloads in a row: a request refused as often as it may be is another trouble between."""
    tries = refused = 0
    for item in sent:
        refused = refused + 1 if _refused(item) else 0
        tries += item.kind == "certificate" and not refused
        if refused == NONCE_TRIES:
            tries = 0
    return tries


def _check_refused(lineage: Lineage, reason: str, now: datetime) -> None:
    assert lineage.failure is not None
    assert reason in lineage.failure.why
    assert lineage.current is not None
    assert lineage.current.number == 1
    assert lineage.ordering
    assert lineage.retry_at is not None
    assert lineage.retry_at > now + timedelta(seconds=30)


@pytest.mark.fault(row=7)
def test_a_ca_that_never_comes_to_its_senses_is_asked_ever_more_seldom(scene: Scene) -> None:
    driver, ca = scene.driver, scene.ca
    bundle = scene.site.bundle("www")
    assert bundle is not None
    scene.pebble.set_renewal_info(bundle.leaf_pem, NOW - 2 * DAY, NOW - DAY)
    driver.store.lineages.ask_all(driver.now())
    seen, issued, begun = len(ca.exchanges), len(scene.pebble.ledger()), driver.now()
    scene.bend(lambda chain, _: HTML)
    lineage = driver.attempt("www")
    for _ in range(7):
        lineage = driver.retry("www")
    assert lineage.failures == 8
    assert lineage.current is not None
    assert lineage.current.number == 1
    assert x509.pair_matches(*scene.on_disk())
    days = (driver.now() - begun).total_seconds() / 86400
    assert days > 4
    # The first order is given up in the end; from then on it is one a day.
    assert len(scene.pebble.ledger()) - issued <= 1 + days
    assert len(ca.exchanges) - seen < 300


RIGHTED = [
    pytest.param(lambda parts, root: [*parts, root], id="9 with the root"),
    pytest.param(lambda parts, root: [parts[0], *parts[:0:-1]], id="9 misordered"),
    pytest.param(lambda parts, root: [*parts[::-1]], id="9 leaf last"),
    pytest.param(lambda parts, root: [root, *parts[::-1], *parts], id="9 root first, all twice"),
]


@pytest.mark.fault(row=9)
@pytest.mark.parametrize("bend", RIGHTED)
def test_a_whole_chain_in_disorder_is_put_right(
    bend: Callable[[list[str], str], list[str]],
    start_pebble: Callable[..., Pebble],
    tmp_path: Path,
) -> None:
    pebble = start_pebble(chain_length=3, retry_after=(1, 1))
    root = pebble.root_pem()

    def act(exchange: Exchange, forward: Forward) -> Reply | None:
        reply = forward()
        if reply.status != 200:
            return reply
        parts = [f"{part}-----END CERTIFICATE-----\n" for part in _split(reply.body.decode())]
        assert len(parts) == 4
        return replace(reply, body="".join(bend(parts, root)).encode())

    with FaultyCA(pebble, tmp_path / "proxy") as ca:
        ca.on("certificate", act)
        site = Site(tmp_path / "site", ca).certificate("www", *NAMES)
        with Driver(site) as driver:
            assert driver.attempt("www").failure is None
    bundle = site.bundle("www")
    assert bundle is not None
    chain = pyca.load_pem_x509_certificates(bundle.fullchain_pem.encode())
    assert len(chain) == 4
    for lower, upper in itertools.pairwise(chain):
        lower.verify_directly_issued_by(upper)
    chain[-1].verify_directly_issued_by(pyca.load_pem_x509_certificate(root.encode()))
    assert len(pebble.ledger()) == 1


def _split(text: str) -> list[str]:
    return [part.lstrip() for part in text.split("-----END CERTIFICATE-----")[:-1]]
