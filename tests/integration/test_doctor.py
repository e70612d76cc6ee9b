"""Before an order: what real name servers and a validating resolver say of the names' zones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dns.dnssec
import dns.dnssectypes
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.update
import dns.zone
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from certd import doctor
from certd.challenges import delegation, zonestate
from certd.challenges.view import Vantage
from certd.doctor import Asked, Findings, examine, lines
from certd.due import BACKOFF
from certd.model import CertificateSpec, Identifier
from certd.testing import pebble as pebbles
from certd.testing.bind import _HEAD, HOST, SECONDARY, Bind
from certd.testing.exchanges import Act, Reply
from certd.testing.pebble import Pebble
from certd.testing.proxy import FaultyCA
from certd.testing.unbound import Unbound
from tests.faults.driving import Driver, invalid
from tests.site import Site

ACCOUNT = "https://ca.example/acct/1"
DAY = timedelta(days=1)
PLAIN = [
    "www A 127.0.0.1",
    "_acme-challenge.alias CNAME keys.late.test.",
    "_acme-challenge.nobodys CNAME x.nobody.co.uk.",
    "nobodys CNAME x.nobody.co.uk.",
    "_acme-challenge.hosted CNAME mine.duckdns.org.",
    "_acme-challenge.nowhere CNAME x.nowhere.zzz.",
    "_acme-challenge.wrong CNAME x.wrong.test.",
    "_acme-challenge.round CNAME _acme-challenge.about",
    "_acme-challenge.about CNAME _acme-challenge.round",
    "caa A 127.0.0.1",
    'caa CAA 0 issue "other.example"',
    'wild CAA 0 issue "ca.example"',
    'wild CAA 0 issuewild "other.example"',
    f'account CAA 0 issue "ca.example; accounturi={ACCOUNT}"',
    "method A 127.0.0.1",
    'method CAA 0 issue "ca.example; validationmethods=http-01"',
]


def signed(zone: str, lines: list[str], since: timedelta) -> tuple[list[str], str]:
    """The lines of a signed zone, whose signatures are good for ten days, and its trust anchor."""
    text = _HEAD.format(host=HOST, secondary=SECONDARY) + "\n".join(lines) + "\n"
    made = dns.zone.from_text(text, f"{zone}.", relativize=False)
    key = ec.generate_private_key(ec.SECP256R1())
    algorithm = dns.dnssectypes.Algorithm.ECDSAP256SHA256
    public = dns.dnssec.make_dnskey(key.public_key(), algorithm, flags=257)
    begin = datetime.now(UTC) - since
    with made.writer() as writer:
        dns.dnssec.sign_zone(
            made, writer, [(key, public)], inception=begin, expiration=begin + 10 * DAY
        )
    new = ("DNSKEY", "RRSIG", "NSEC")
    more = [
        f"{name} {ttl} IN {data.rdtype.name} {data}"
        for name, ttl, data in made.iterate_rdatas()
        if data.rdtype.name in new
    ]
    return [*lines, *more], f"{zone}. DNSKEY {public}"


@pytest.fixture(scope="module")
def _servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bind, Unbound]]:
    good, anchor = signed("good.test", ["www A 127.0.0.1"], DAY)
    wrong, expired = signed("wrong.test", ["www A 127.0.0.1"], 20 * DAY)
    zones: dict[str, list[str]] = {
        "good.test": good,
        "wrong.test": wrong,
        "plain.test": PLAIN,
        "late.test": [],
        "lame.test": [],
        "co.uk": [],
        "duckdns.org": ["other A 127.0.0.1"],
    }
    with Bind(zones, tmp_path_factory.mktemp("bind"), notify=False, lame=["lame.test"]) as bind:
        servers = {zone: [bind.primary] for zone in bind.zones}
        anchors = [anchor, expired]
        with Unbound(servers, tmp_path_factory.mktemp("unbound"), anchors=anchors) as unbound:
            yield bind, unbound


@pytest.fixture
def bind(_servers: tuple[Bind, Unbound]) -> Bind:
    return _servers[0]


@pytest.fixture
def unbound(_servers: tuple[Bind, Unbound]) -> Unbound:
    return _servers[1]


@pytest.fixture
def look(bind: Bind, unbound: Unbound) -> Callable[..., Findings]:
    """``look("www.good.test")``: what is found of a certificate for these names."""

    def look(
        *names: str, challenge: str = "dns-01", account: str | None = "mine", resolver: str = ""
    ) -> Findings:
        host, _, port = (resolver or unbound.dns).partition(":")
        spec = CertificateSpec("x", tuple(Identifier("dns", name) for name in names), ("ca",))
        asked = Asked("ca", ("ca.example",), account, challenge)
        vantage = Vantage(((host, int(port)),), bind.port)
        return examine(spec, asked, dict.fromkeys(names, vantage))

    return look


# -- the state of zones ---------------------------------------------------------------------


def test_a_zone_that_is_signed_and_served(look: Callable[..., Findings]) -> None:
    found = look("www.good.test", "*.good.test")
    assert list(lines(found)) == [
        "CAA allows ca (no records)",
        "good.test is signed (DNSSEC), and validates",
        "2 name servers of good.test agree",
    ]


@pytest.mark.parametrize("challenge", ["dns-01", "http-01"])
def test_a_zone_that_is_not_signed(look: Callable[..., Findings], challenge: str) -> None:
    found = look("www.plain.test", challenge=challenge)
    assert found.error is None
    assert found.doubts == []
    assert "plain.test is not signed, or the resolver does not validate" in found.state


@pytest.mark.parametrize("challenge", ["dns-01", "http-01"])
@pytest.mark.parametrize("name", ["www.wrong.test", "new.wrong.test"])
def test_wrong_signatures(look: Callable[..., Findings], name: str, challenge: str) -> None:
    found = look("www.good.test", name, challenge=challenge)
    assert "DNSSEC signatures are wrong" in str(found.error)
    assert name in str(found.error)
    assert "good.test is signed (DNSSEC), and validates" in found.state


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("nobodys", "a domain that nobody has", id="a domain that nobody has"),
        pytest.param("nowhere", "leads nowhere", id="not even the TLD"),
        pytest.param("round", "its aliases go round", id="a loop"),
        pytest.param("wrong", "DNSSEC signatures are wrong", id="into a bogus zone"),
    ],
)
def test_an_alias_into_nothing(look: Callable[..., Findings], name: str, said: str) -> None:
    found = look(f"{name}.plain.test")
    error = found.error
    assert error is not None, found
    assert said in str(error)
    assert error.next
    assert f"_acme-challenge.{name}.plain.test" in str(error)


def test_who_has_a_name_at_a_hoster_has_it(look: Callable[..., Findings]) -> None:
    """Though everybody may have one there."""
    assert look("hosted.plain.test").error is None


def test_by_http_a_dangling_alias_is_no_better(look: Callable[..., Findings]) -> None:
    found = look("nobodys.plain.test", challenge="http-01")
    assert "certificates for nobodys.plain.test" in str(found.error)
    assert look("round.plain.test", challenge="http-01").error is None


def test_name_servers_with_different_versions_are_a_doubt(
    look: Callable[..., Findings], bind: Bind
) -> None:
    key = dns.tsig.Key(bind.key, bind.secret, bind.algorithm)
    update = dns.update.UpdateMessage("late.test", keyring=key)
    update.add("other", 0, "TXT", "x")
    assert dns.query.tcp(update, HOST, 5, bind.port).rcode() == dns.rcode.NOERROR
    found = look("alias.plain.test")
    assert found.error is None
    assert found.doubts == [
        "the name servers of late.test have different versions: "
        "ns1.late.test has version 2, ns2.late.test has version 1"
    ]


def test_a_name_server_that_does_not_serve_the_zone_is_a_doubt(
    look: Callable[..., Findings],
) -> None:
    found = look("www.lame.test")
    assert found.error is None
    [doubt] = found.doubts
    assert "of the name servers of lame.test, ns2.lame.test" in doubt


def test_one_that_is_silent_is_a_doubt_and_not_waited_for_long(
    look: Callable[..., Findings], bind: Bind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zonestate, "SECONDS", 3.0)
    bind.pause_secondary()
    begun = time.monotonic()
    try:
        found = look("www.plain.test", "www.good.test", "hosted.plain.test")
    finally:
        bind.resume_secondary()
    assert found.error is None
    assert len(found.doubts) == 3
    assert time.monotonic() - begun < 8.9  # one zone after the other: 9


def test_of_a_resolver_that_is_not_there_nothing_is_refused(
    look: Callable[..., Findings],
    free_port: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module, name, seconds in (
        (doctor, "SECONDS", 0.4),
        (doctor, "ALL", 0.8),
        (doctor, "LOOK", 2.0),
        (delegation, "SECONDS", 0.4),
        (zonestate, "SECONDS", 0.4),
    ):
        monkeypatch.setattr(module, name, seconds)
    begun = time.monotonic()
    names = [f"n{number}.plain.test" for number in range(40)]
    found = look(*names, challenge="http-01", resolver=f"127.0.0.1:{free_port()}")
    assert found.error is None
    assert found.doubts
    assert found.state == []
    assert time.monotonic() - begun < 15  # 40 names by turns: 16


# -- CAA ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "challenge", "account", "remedy"),
    [
        pytest.param("caa", "http-01", "mine", 'caa.plain.test. CAA 0 issue "ca.example"', id="CA"),
        pytest.param(
            "*.wild", "dns-01", "mine", 'wild.plain.test. CAA 0 issuewild "ca.example"', id="wild"
        ),
        pytest.param("wild", "dns-01", "mine", None, id="not wild"),
        pytest.param("account", "dns-01", ACCOUNT, None, id="our account"),
        pytest.param(
            "account",
            "dns-01",
            "mine",
            'account.plain.test. CAA 0 issue "ca.example; accounturi=mine"',
            id="another's account",
        ),
        pytest.param("method", "http-01", "mine", None, id="by http-01"),
        pytest.param(
            "method",
            "dns-01",
            "mine",
            'method.plain.test. CAA 0 issue "ca.example; validationmethods=dns-01"',
            id="by http-01 only",
        ),
    ],
)
def test_caa(
    look: Callable[..., Findings], name: str, challenge: str, account: str, remedy: str | None
) -> None:
    found = look("www.plain.test", f"{name}.plain.test", challenge=challenge, account=account)
    assert (found.error is None) == (remedy is None)
    if found.error and remedy:
        assert remedy in found.error.next
        assert f"{name}.plain.test" in found.error.what


def test_caa_of_an_account_when_ours_is_not_made_yet(look: Callable[..., Findings]) -> None:
    found = look("account.plain.test", account=None)
    assert found.error is None
    assert any(ACCOUNT in doubt and "not made yet" in doubt for doubt in found.doubts)


# -- orders ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def _pebble(
    _servers: tuple[Bind, Unbound], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pebble]:
    folder = tmp_path_factory.mktemp("pebble")
    with pebbles.start(folder, dns_server=_servers[1].dns, retry_after=(1, 1)) as ca:
        yield ca


@pytest.fixture
def ca(_pebble: Pebble, tmp_path: Path) -> Iterator[FaultyCA]:
    with FaultyCA(_pebble, tmp_path / "proxy") as ca:
        ca.on("directory", known_as("ca.example"))
        yield ca


@pytest.fixture
def second(_pebble: Pebble, tmp_path: Path) -> Iterator[FaultyCA]:
    with FaultyCA(_pebble, tmp_path / "second") as ca:
        ca.on("directory", known_as("other.example"))
        yield ca


@pytest.fixture
def site(ca: FaultyCA, bind: Bind, unbound: Unbound, tmp_path: Path) -> Site:
    site = Site(tmp_path / "site", ca)
    site.tables["certd"] |= {"resolver": unbound.dns, "name_server_port": bind.port}
    site.tables["dns.main"] = {
        "provider": "rfc2136",
        "server": bind.primary,
        "key": bind.key,
        "secret": bind.secret,
        "settle": 0,
    }
    return site


def known_as(*identities: str) -> Act:
    return lambda _, forward: forward().but(meta={"caaIdentities": list(identities)})


@pytest.mark.parametrize(
    ("name", "challenge", "said"),
    [
        ("www.wrong.test", "http-01", "DNSSEC signatures are wrong"),
        ("www.wrong.test", "dns-01", "DNSSEC signatures are wrong"),
        ("nobodys.plain.test", "dns-01", "remove this CNAME record"),
        ("round.plain.test", "dns-01", "its aliases go round"),
        ("caa.plain.test", "http-01", 'caa.plain.test. CAA 0 issue "ca.example"'),
        ("method.plain.test", "dns-01", '"ca.example; validationmethods=dns-01"'),
    ],
)
def test_nothing_is_ordered_in_vain(
    site: Site, ca: FaultyCA, name: str, challenge: str, said: str
) -> None:
    site.certificate("www", name, challenge=challenge)
    with Driver(site) as driver:
        failure = driver.attempt("www").failure
    assert failure is not None
    text = f"{failure.what}: {failure.why}; {failure.next}"
    assert said in text
    assert text.count("CAA of ") <= 1
    assert not ca.seen("new-order")


def test_an_account_that_caa_does_not_name_orders_nothing(site: Site, ca: FaultyCA) -> None:
    site.certificate("first", "www.plain.test").certificate("www", "account.plain.test")
    with Driver(site) as driver:
        assert driver.attempt("first").current is not None
        account = driver.store.accounts.uri(ca.directory)
        failure = driver.attempt("www").failure
    assert failure is not None
    assert ACCOUNT in failure.why
    assert account is not None
    assert f"our account there is {account}" in failure.why
    assert f'"ca.example; accounturi={account}"' in failure.next
    assert len(ca.acted_on("new-order")) == 1


@pytest.mark.parametrize(
    ("challenges", "by"),
    [
        pytest.param(["dns-01", "http-01"], "http-01", id="the second is permitted"),
        pytest.param(["dns-01", "tls-alpn-01", "http-01"], "http-01", id="the third is"),
        pytest.param(["http-01", "dns-01"], None, id="the first is"),
        pytest.param(["dns-01", "tls-alpn-01"], "", id="none is"),
    ],
)
def test_a_challenge_that_caa_permits_is_used_in_place_of_the_first(
    challenges: list[str],
    by: str | None,
    site: Site,
    ca: FaultyCA,
    caplog: pytest.LogCaptureFixture,
) -> None:
    site.certificate("www", "method.plain.test", challenge=challenges, self_check=True)
    planned = site.certd("plan").stdout
    with Driver(site) as driver:
        lineage = driver.attempt("www")
    if by == "":
        assert lineage.failure is not None
        assert "CAA does not let test certify method.plain.test" in lineage.failure.what
        assert not ca.seen("new-order")
        assert "in vain: CAA" in planned
        return
    assert lineage.current is not None
    assert (lineage.failures, lineage.challenge) == (0, None)
    assert len(ca.acted_on("new-order")) == 1
    said = f"CAA lets test certify method.plain.test by {by}, not by dns-01"
    assert (said in caplog.text) == (said in planned) == (by is not None)
    assert "in vain" not in planned


def test_where_caa_permits_only_what_has_just_failed_that_is_tried_again_soon(
    site: Site, ca: FaultyCA
) -> None:
    site.certificate("www", "method.plain.test", challenge=["http-01", "dns-01"], self_check=True)
    ca.on("authorization", invalid("connection"))
    with Driver(site) as driver:
        lineage = driver.attempt("www")
        assert lineage.failure is not None
        assert "by http-01 only, not by dns-01" in lineage.failure.what
        assert "the CA could not validate method.plain.test" in lineage.failure.why
        assert lineage.retry_at is not None
        assert lineage.retry_at - driver.now() < 2 * BACKOFF[1]
        ca.honest()
        ca.on("directory", known_as("ca.example"))
        assert driver.retry("www").current is not None
    assert len(ca.acted_on("new-order")) == 2


def test_the_next_ca_is_gone_on_to_if_caa_allows_it(
    site: Site, ca: FaultyCA, second: FaultyCA
) -> None:
    site.tables["ca.second"] = {**site.tables["ca.test"], "directory": second.directory}
    site.tables["ca.second"]["ca_bundle"] = str(second.ca_bundle)
    site.certificate("www", "caa.plain.test", ca=["test", "second"])
    site.certificate("not", "method.plain.test", ca=["test", "second"], challenge="dns-01")
    with Driver(site) as driver:
        current = driver.attempt("www").current
        assert current is not None
        assert current.ca == "second"
        asked = len(second.seen("new-order"))
        assert driver.attempt("not").failure is not None
    assert not ca.seen("new-order")
    assert len(second.seen("new-order")) == asked


def test_what_is_in_doubt_is_issued(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.tables["dns.main"]["propagation"] = "quorum"
    site.certificate("www", "www.lame.test", challenge="dns-01")
    with Driver(site) as driver:
        assert driver.attempt("www").current is not None
    assert "of the name servers of lame.test, ns2.lame.test cannot be asked" in caplog.text


# -- certd plan -----------------------------------------------------------------------------


def test_the_plan_says_it_and_offline_it_does_not(
    site: Site, ca: FaultyCA, second: FaultyCA
) -> None:
    site.tables["ca.second"] = {**site.tables["ca.test"], "directory": second.directory}
    site.tables["ca.second"]["ca_bundle"] = str(second.ca_bundle)
    site.tables["ca.own"] = {"type": "local"}
    site.certificate("good", "www.good.test", "*.good.test", challenge="dns-01")
    site.certificate("wrong", "www.wrong.test")
    site.certificate("other", "www.plain.test", self_check=False)
    site.certificate("second", "caa.plain.test", ca=["second"])
    site.certificate("lame", "www.lame.test", challenge="dns-01")
    site.certificate("own", "round.plain.test", ca=["own", "test"], challenge="dns-01")
    done = site.certd("plan")
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if ": DNS" in line]
    assert said[:3] == [
        "good: DNS: CAA allows test (no records)",
        "good: DNS: good.test is signed (DNSSEC), and validates",
        "good: DNS: 2 name servers of good.test agree",
    ]
    assert any(
        line.startswith("wrong: DNS: in vain: what DNS says of www.wrong.test cannot be")
        for line in said
    )
    assert "second: DNS: CAA allows second (records of caa.plain.test)" in said
    assert any(line.startswith("lame: DNS: perhaps: of the name servers of") for line in said)
    assert not any(line.startswith(("other:", "own:")) for line in said)
    assert not [*ca.seen("new-order"), *ca.seen("new-account")]
    offline = site.certd("plan", "--offline")
    assert offline.returncode == 0
    assert "DNS" not in offline.stdout
    assert [line for line in done.stdout.splitlines() if ": DNS" not in line] == (
        offline.stdout.splitlines()
    )


def test_the_plan_looks_at_so_many_only_and_at_all_of_these_at_once(site: Site, bind: Bind) -> None:
    for number in range(21):
        site.certificate(f"n{number:02}", f"n{number}.plain.test", challenge="dns-01")
    bind.pause_secondary()
    begun = time.monotonic()
    try:
        done = site.certd("plan")
    finally:
        bind.resume_secondary()
    assert time.monotonic() - begun < 30  # 3 s each: one after the other, 60
    assert "DNS was looked at for the first 20 only" in done.stdout
    assert done.stdout.count("perhaps: of the name servers of plain.test, ns2") == 20


def test_a_ca_that_is_away_is_said(site: Site, ca: FaultyCA) -> None:
    site.certificate("www", "www.plain.test", challenge="dns-01")
    ca.honest()
    ca.on("directory", lambda _, __: Reply(500))
    done = site.certd("plan")
    assert done.returncode == 0, done.stderr
    assert "www: DNS was not looked at: " in done.stdout
