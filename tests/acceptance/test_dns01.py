"""Certificates by DNS-01: a real CA, a resolver, a primary and its secondary, and zones as people
have them: delegated, with aliases into others, and with other accounts.
"""

from __future__ import annotations

import collections
import re
import secrets
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import dns.name
import dns.query
import dns.rcode
import dns.tsig
import dns.update
import pytest

from certd.testing import pebble as pebbles
from certd.testing.bind import STRANGER, Bind, Changed
from certd.testing.pebble import Pebble
from certd.testing.unbound import Unbound
from tests.acceptance.test_daemon import running, version, wait_for_version
from tests.site import Site

DELEGATED = ["ns1.{0} A 127.0.0.1", "ns2.{0} A 127.0.0.2", "{0} NS ns1.{0}", "{0} NS ns2.{0}"]
ZONES = {
    "example.test": [
        "_acme-challenge.www CNAME www.keys.test.",
        "_acme-challenge.out CNAME out.keys.test.",
        "_acme-challenge.far CNAME far.hop.test.",
        *(line.format("sub") for line in DELEGATED),
    ],
    "sub.example.test": [],
    "hop.test": ["far CNAME far.keys.test."],
    "keys.test": [],
    "strange.test": [],
}
FOR = {"challenge": "dns-01", "dns": "main"}


@pytest.fixture(scope="module")
def bind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bind]:
    with Bind(ZONES, tmp_path_factory.mktemp("bind"), strange=["strange.test"]) as running:
        yield running


@pytest.fixture(scope="module")
def ca(bind: Bind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    """It validates each name each time, as the internet sees it."""
    zones = {zone: [bind.primary, bind.secondary] for zone in bind.zones}
    with (
        Unbound(zones, tmp_path_factory.mktemp("unbound")) as unbound,
        pebbles.start(
            tmp_path_factory.mktemp("pebble"),
            dns_server=unbound.dns,
            authz_reuse=0,
            retry_after=(1, 1),
        ) as ca,
    ):
        yield ca


@pytest.fixture
def site(bind: Bind, ca: Pebble, tmp_path: Path) -> Site:
    """With two accounts: ``main`` may write in all zones but one, ``other`` only in that."""
    site = Site(tmp_path / "site", ca)
    del site.tables["http"], site.tables["tls_alpn"]
    site.tables["certd"]["name_server_port"] = bind.port
    (site.folder / "tsig").write_text(bind.secret)
    usual = {"provider": "rfc2136", "server": bind.primary, "secret": {"file": "tsig"}, "settle": 0}
    site.tables["dns.main"] = {**usual, "key": bind.key}
    site.tables["dns.other"] = {**usual, "key": STRANGER, "ttl": 300}
    return site


@pytest.fixture
def name() -> str:
    """A name that no other test has."""
    return f"{secrets.token_hex(4)}.example.test"


class Watched:
    """What has been written in the zones since, and whether anything of it is there still."""

    def __init__(self, bind: Bind) -> None:
        self._bind = bind
        self._since = {zone: bind.serial(zone) for zone in bind.zones}

    def written(self) -> Mapping[str, list[Changed]]:
        """By zone; each record that was added must have been removed again."""
        found: dict[str, list[Changed]] = {}
        for zone, since in self._since.items():
            changes = self._bind.history(zone, since)
            left = collections.Counter(one[1:] for one in changes if one.sign == "+")
            left.subtract(one[1:] for one in changes if one.sign == "-")
            assert not +left, f"left over in {zone}"
            assert not -left, f"removed in {zone}, but never added"
            if changes:
                found[zone] = [one for one in changes if one.sign == "+"]
        return found

    def names(self) -> list[str]:
        return sorted(one.name for changes in self.written().values() for one in changes)


@pytest.fixture
def watched(bind: Bind) -> Watched:
    return Watched(bind)


def issued(site: Site, name: str = "www") -> set[str]:
    bundle = site.bundle(name)
    assert bundle is not None
    return {str(identifier) for identifier in bundle.certificate.identifiers}


def journal(site: Site) -> list[str]:
    """The names of records that are, or may be, in zones."""
    with site.store() as store:
        return sorted(kept.record.name for kept in store.records.all())


def test_apex_wildcard_delegation_and_aliases_in_one_certificate(
    site: Site, watched: Watched
) -> None:
    names = {
        "example.test",
        "*.example.test",
        "www.example.test",
        "far.example.test",
        "*.deep.sub.example.test",
    }
    site.certificate("www", *sorted(names), **FOR)
    assert "issued, version 1" in site.renew().stdout
    assert issued(site) == names
    assert journal(site) == []
    written = {
        zone: sorted(one.name for one in changes) for zone, changes in watched.written().items()
    }
    assert written == {
        "example.test": ["_acme-challenge.example.test"] * 2,
        "sub.example.test": ["_acme-challenge.deep.sub.example.test"],
        "keys.test": ["far.keys.test", "www.keys.test"],
    }


def test_what_is_written_is_one_txt_record_a_name(site: Site, name: str, watched: Watched) -> None:
    site.certificate("www", name, **FOR).renew()
    [record] = watched.written()["example.test"]
    assert record[1:4] == (f"_acme-challenge.{name}", 60, "TXT")
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", record.value)


def test_values_of_others_at_the_same_name_stay(site: Site, bind: Bind, name: str) -> None:
    """Two certificates at the same time, of the same names."""
    site.certificate("a", name, f"*.{name}", **FOR)
    site.certificate("b", name, **FOR, key="rsa-2048")
    assert site.renew().stdout.count("issued, version 1") == 2
    assert bind.values(f"_acme-challenge.{name}") == []


def test_an_account_for_each_part_of_dns(site: Site, name: str, watched: Watched) -> None:
    """Each is let write in its own zones only, by BIND itself."""
    strange = f"{secrets.token_hex(4)}.strange.test"
    site.tables["dns.main"]["zones"] = ["example.test"]
    site.tables["dns.other"]["zones"] = ["strange.test"]
    choice = {"strange.test": "other", "*": "main"}
    site.certificate("www", name, strange, f"*.{strange}", challenge="dns-01", dns=choice)
    site.renew()
    assert issued(site) == {name, strange, f"*.{strange}"}
    written = watched.written()
    assert [one.ttl for one in written["example.test"]] == [60]
    assert [one.ttl for one in written["strange.test"]] == [300, 300]


def test_many_names_of_two_accounts_are_written_at_once_and_all_removed(
    site: Site, watched: Watched
) -> None:
    tag = secrets.token_hex(4)
    zones = {"example.test": "main", "strange.test": "other"}
    names = [f"{tag}-{number}.{zone}" for zone in zones for number in range(20)]
    site.certificate("www", *names, challenge="dns-01", dns=zones)
    site.renew()
    assert issued(site) == set(names)
    assert watched.names() == sorted(f"_acme-challenge.{name}" for name in names)
    assert journal(site) == []


def test_an_account_is_refused_for_zones_that_are_not_its_own(
    site: Site, name: str, watched: Watched
) -> None:
    """Also where an alias leads out of them; and nothing is left of the other names."""
    site.tables["dns.main"]["zones"] = ["example.test"]
    site.certificate("www", name, "out.example.test", **FOR)
    done = site.certd("renew", "www")
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "[dns.main] must not write out.keys.test: its zones are example.test" in said
    assert "name another table for out.example.test by dns, or add the zone there" in said
    assert journal(site) == []
    assert "out.keys.test" not in watched.names()

    site.tables["dns.main"]["zones"] = ["example.test", "keys.test"]
    site.write()
    site.renew("www")
    assert "out.keys.test" in watched.names()


def test_a_key_that_the_server_refuses_leaves_nothing_and_others_go_on(
    site: Site, name: str, watched: Watched
) -> None:
    site.tables["dns.other"]["secret"] = "bm90IHRoZSBzZWNyZXQgb2YgdGhlIGtleSBhdCBhbGw="
    site.certificate("good", name, **FOR)
    site.certificate("bad", f"bad.{name}", challenge="dns-01", dns="other")
    done = site.certd("renew")
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "good: issued, version 1" in said
    assert "its secret of the key stranger is another one" in said
    assert "bm90IHRoZSB" not in said
    assert watched.names() == [f"_acme-challenge.{name}"]


def test_a_dry_run_leaves_nothing_behind(
    site: Site, name: str, ca: Pebble, watched: Watched
) -> None:
    site.tables["ca.test"]["staging"] = ca.directory
    site.certificate("www", name, f"*.{name}", **FOR)
    assert "the staging CA issued it" in site.renew("--dry-run").stdout
    assert watched.names() == [f"_acme-challenge.{name}"] * 2
    assert journal(site) == []
    assert site.status()["www"]["state"] == "new"
    assert version(site) == 0


def test_the_name_of_an_account_label_is_used_where_it_is_asked_for(
    site: Site, name: str, watched: Watched
) -> None:
    """draft-ietf-acme-dns-account-label: the name is our account's only."""
    site.certificate("www", name, f"*.{name}", challenge="dns-account-01", dns="main")
    site.renew()
    assert issued(site) == {name, f"*.{name}"}
    first, second = watched.names()
    assert first == second
    assert re.fullmatch(rf"_[a-z2-7]{{16}}\._acme-challenge\.{re.escape(name)}", first)
    assert journal(site) == []


def test_a_daemon_publishes_and_removes(site: Site, name: str, bind: Bind, ca: Pebble) -> None:
    watched = Watched(bind)
    site.certificate("www", name, f"*.{name}", **FOR)
    with running(site) as daemon:
        wait_for_version(daemon, site, 1)
        daemon.wait_until(lambda: journal(site) == [])
        assert watched.names() == [f"_acme-challenge.{name}"] * 2
        assert "renewed, version 2" in site.renew("www", "--force").stdout
        daemon.wait_until(lambda: journal(site) == [])
    # Or less than four times: at times Pebble takes an earlier authorization for enough.
    assert set(watched.names()) == {f"_acme-challenge.{name}"}


def test_a_daemon_that_is_killed_while_it_waits_leaves_what_the_next_command_removes(
    site: Site, name: str, bind: Bind, watched: Watched
) -> None:
    """Its order is gone on with: the value is the same, and is neither lost nor there twice."""
    site.certificate("www", name, f"*.{name}", **FOR)
    bind.pause_secondary()
    try:
        with site.start("run") as daemon:
            daemon.wait_until(lambda: len(bind.values(f"_acme-challenge.{name}")) == 2)
            daemon.send(signal.SIGKILL)
            daemon.wait(10)
    finally:
        bind.resume_secondary()
    assert journal(site) == [f"_acme-challenge.{name}"] * 2
    assert "issued, version 1" in site.renew("www").stdout
    assert journal(site) == []
    assert watched.names() == [f"_acme-challenge.{name}"] * 2


def publish_lasting(bind: Bind, printed: str) -> None:
    """By hand, as the operator does: ``NAME. IN TXT "VALUE"``."""
    found = re.fullmatch(r'(\S+)\. IN TXT "(.+)"', printed)
    assert found
    key = dns.tsig.Key(bind.key, bind.secret, bind.algorithm)
    update = dns.update.UpdateMessage("example.test", keyring=key)
    update.add(dns.name.from_text(found[1]), 60, "TXT", f'"{found[2]}"')
    answer = dns.query.tcp(update, "127.0.0.1", timeout=5, port=bind.port)
    assert answer.rcode() == dns.rcode.NOERROR


def test_a_record_that_stays_is_told_looked_for_and_then_enough(
    site: Site, name: str, bind: Bind, ca: Pebble
) -> None:
    site.certificate("www", name, f"*.{name}", challenge="dns-persist-01")
    told = site.certd("dns", "persist", "www")
    assert told.returncode == 1, told.stderr
    record, state, todo = told.stdout.splitlines()
    assert record.startswith(f'_validation-persist.{name}. IN TXT "pebble.letsencrypt.org; account')
    assert record.endswith('; policy=wildcard"')
    assert state.startswith("  not published: 0 of 2 name servers of example.test have it")
    assert todo == "publish 1 record, and call this again"

    begun = time.monotonic()
    refused = site.certd("renew", "www")
    assert time.monotonic() - begun < 15, "nobody is waited for"
    assert refused.returncode == 1
    assert f"no record at _validation-persist.{name} allows this account" in refused.stdout
    assert "publish what `certd dns persist www` prints" in refused.stdout

    publish_lasting(bind, record)
    watched = Watched(bind)
    told = site.certd("dns", "persist", "www")
    assert (told.returncode, told.stdout.splitlines()) == (0, [record, "  published"])
    site.renew("www")
    assert issued(site) == {name, f"*.{name}"}
    assert "version 2" in site.renew("www", "--force").stdout
    assert watched.names() == []
    assert journal(site) == []


def test_a_record_that_stays_is_for_what_it_says(site: Site, name: str, bind: Bind) -> None:
    """Not for the wildcard, where the operator has published that of the name only."""
    site.certificate("www", name, challenge="dns-persist-01")
    publish_lasting(bind, site.certd("dns", "persist", "www").stdout.splitlines()[0])
    site.renew("www")
    site.certificate("www", name, f"*.{name}", challenge="dns-persist-01")
    told = site.certd("dns", "persist", "www")
    assert told.returncode == 1
    assert "has another" in told.stdout
    assert site.certd("renew", "www").returncode == 1
    assert issued(site) == {name}


def test_an_account_is_tried_at_its_zone(site: Site, watched: Watched) -> None:
    site.write()
    done = site.certd("dns", "test", "main", "example.test")
    assert done.returncode == 0, done.stdout + done.stderr
    first, *checks, last = done.stdout.splitlines()
    assert first.startswith("trying _acme-challenge.certd-test-")
    assert len(checks) == 6
    assert all(check.startswith("good  ") for check in checks)
    assert last == "[dns.main] can be relied on for example.test"
    assert watched.names()


def test_an_account_is_tried_at_a_name_within_its_zone(site: Site, watched: Watched) -> None:
    site.write()
    done = site.certd("dns", "test", "main", "shop.example.test")
    assert done.returncode == 0, done.stdout + done.stderr
    note = "note: DNS knows no zone shop.example.test: it is in the zone example.test"
    assert note in done.stdout
    assert all(one.endswith(".shop.example.test") for one in watched.names())


def test_a_name_server_that_lags_behind_is_named(site: Site, bind: Bind, watched: Watched) -> None:
    site.tables["dns.main"]["timeout"] = 0.5
    site.write()
    bind.pause_secondary()
    try:
        done = site.certd("dns", "test", "main", "example.test")
    finally:
        bind.resume_secondary()
    assert done.returncode == 1
    assert "ns2.example.test at 127.0.0.2 does not answer instead of" in done.stdout
    assert "[dns.main] cannot be relied on for example.test: 1 check failed" in done.stdout
    watched.names()

    site.tables["dns.main"]["propagation"] = "wait"
    site.write()
    done = site.certd("dns", "test", "main", "example.test")
    assert done.returncode == 0, done.stdout
    assert "the name servers are not asked" in done.stdout


@pytest.mark.parametrize(
    ("change", "words", "said"),
    [
        pytest.param(
            {},
            ["mian", "example.test"],
            ["there is no table [dns.mian]: configured: main, other"],
            id="a table that is not there",
        ),
        pytest.param(
            {"zones": ["keys.test"]},
            ["main", "example.test"],
            ["[dns.main] is bound to keys.test"],
            id="an account that is bound elsewhere",
        ),
        pytest.param(
            {},
            ["main", "strange.test"],
            [
                "REFUSED: the key certd-update may not change it",
                "update-policy",
                "cannot be relied",
            ],
            id="a zone that the key may not change",
        ),
        pytest.param(
            {},
            ["main", "example.nowhere"],
            ["example.nowhere is in no zone", "register the domain"],
            id="a zone that is in no DNS",
        ),
        pytest.param(
            {},
            ["main", "*.example.test"],
            ["*.example.test is no zone", "name a zone, such as example.com"],
            id="a wildcard",
        ),
        pytest.param(
            {"secret": "bm90IHRoZSBzZWNyZXQgb2YgdGhlIGtleSBhdCBhbGw="},
            ["main", "example.test"],
            ["its secret of the key certd-update is another one", "compare key, secret"],
            id="a secret that the server has otherwise",
        ),
        pytest.param(
            {"key": "nobody"},
            ["main", "example.test"],
            ["it has no key nobody", "compare key, secret"],
            id="a key that the server does not have",
        ),
        pytest.param(
            {"secret": {"file": "no-such-file"}},
            ["main", "example.test"],
            ["no-such-file"],
            id="a secret that is not there",
        ),
        pytest.param(
            {"server": "127.0.0.1:1"},
            ["main", "example.test"],
            ["127.0.0.1:1", "Connection refused", "see whether it takes TCP from here"],
            id="a server that is not there",
        ),
    ],
)
def test_an_account_that_cannot_do_it_is_explained(
    change: Mapping[str, object],
    words: list[str],
    said: list[str],
    site: Site,
    watched: Watched,
) -> None:
    site.tables["dns.main"].update({"timeout": 1.0, **change})
    site.write()
    done = site.certd("dns", "test", *words)
    text = done.stdout + done.stderr
    print(text)
    assert done.returncode in (1, 2)
    assert "Traceback" not in text
    for words_of_it in said:
        assert words_of_it in text
    assert "bm90IHRoZSB" not in text
    assert watched.names() == []
