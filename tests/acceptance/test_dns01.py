"""Certificates by DNS-01 from end to end: a real CA, a resolver, a primary and its secondary."""

from __future__ import annotations

import re
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from certd.testing.bind import Bind
from tests.acceptance.test_daemon import running, version, wait_for_version
from tests.site import Site
from tests.zones import Internet, Watched, internet, issued, journal

FOR = {"challenge": "dns-01", "dns": "main"}


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Internet]:
    with internet(tmp_path_factory.mktemp("net")) as net:
        yield net


@pytest.fixture
def site(net: Internet, tmp_path: Path) -> Site:
    return net.site(tmp_path / "site")


@pytest.fixture
def bind(net: Internet) -> Bind:
    return net.bind


@pytest.fixture
def watched(net: Internet) -> Watched:
    return Watched(net.bind)


@pytest.fixture
def name() -> str:
    """A name that no other test has."""
    return f"{secrets.token_hex(4)}.example.test"


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
    assert "name another table for it by dns, or add the zone there" in said
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
    site: Site, name: str, net: Internet, watched: Watched
) -> None:
    site.tables["ca.test"]["staging"] = net.ca.directory
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


def test_a_daemon_publishes_and_removes(site: Site, name: str, bind: Bind) -> None:
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
            daemon.wait(20)
    finally:
        bind.resume_secondary()
    assert journal(site) == [f"_acme-challenge.{name}"] * 2
    assert "issued, version 1" in site.renew("www").stdout
    assert journal(site) == []
    assert watched.names() == [f"_acme-challenge.{name}"] * 2
