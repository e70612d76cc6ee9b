"""The name servers and the resolver that DNS-01 is tested with do what the tests need of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.exception
import dns.query
import dns.rcode
import dns.tsig
import dns.tsigkeyring
import dns.update
import pytest

from certd.testing.bind import STRANGER, Bind
from certd.testing.nameserver import ask, txt
from certd.testing.unbound import Unbound

ZONES = {
    "example.test": [
        "www A 127.0.0.1",
        "_acme-challenge.www CNAME www.keys.other.",
        "sub NS ns1.sub",
        "sub NS ns2.sub",
        "ns1.sub A 127.0.0.1",
        "ns2.sub A 127.0.0.2",
    ],
    "sub.example.test": ["www A 127.0.0.3"],
    "keys.other": [],
}


@pytest.fixture(scope="module")
def bind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bind]:
    with Bind(ZONES, tmp_path_factory.mktemp("bind")) as running:
        yield running


@pytest.fixture(scope="module")
def unbound(bind: Bind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Unbound]:
    zones = {zone: [bind.primary, bind.secondary] for zone in bind.zones}
    with Unbound(zones, tmp_path_factory.mktemp("unbound")) as running:
        yield running


def _update(bind: Bind, zone: str, key: str = Bind.key) -> dns.update.UpdateMessage:
    secret = dns.tsig.Key(key, bind.secret, bind.algorithm)
    return dns.update.UpdateMessage(zone, keyring=secret)


def _send(bind: Bind, update: dns.update.UpdateMessage) -> dns.rcode.Rcode:
    return dns.query.tcp(update, "127.0.0.1", timeout=5, port=bind.port).rcode()


def _add(bind: Bind, zone: str, label: str, value: str) -> None:
    update = _update(bind, zone)
    update.add(label, 0, "TXT", value)
    assert _send(bind, update) == dns.rcode.NOERROR


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_change_reaches_the_secondary_by_notification(bind: Bind) -> None:
    _add(bind, "example.test", "_acme-challenge", "told")
    assert bind.values("_acme-challenge.example.test") == ["told"]
    _until(lambda: bind.values_of_secondary("_acme-challenge.example.test") == ["told"])


def test_the_key_changes_txt_records_only_and_a_stranger_none(bind: Bind) -> None:
    address = _update(bind, "example.test")
    address.add("_acme-challenge", 0, "A", "127.0.0.9")
    assert _send(bind, address) == dns.rcode.REFUSED
    stranger = _update(bind, "example.test", STRANGER)
    stranger.add("_acme-challenge", 0, "TXT", "mine")
    assert _send(bind, stranger) == dns.rcode.REFUSED
    assert _send(bind, _update(bind, "nowhere.test")) == dns.rcode.NOTAUTH


def test_a_secondary_that_is_not_told_lags_behind_until_it_is(tmp_path: Path) -> None:
    with Bind({"slow.test": []}, tmp_path, notify=False) as bind:
        _add(bind, "slow.test", "late", "value")
        assert bind.values("late.slow.test") == ["value"]
        assert bind.values_of_secondary("late.slow.test") == []
        bind.transfer("slow.test")
        _until(lambda: bind.values_of_secondary("late.slow.test") == ["value"])


def test_a_secondary_is_paused_and_goes_on_and_ends(tmp_path: Path) -> None:
    with Bind({"slow.test": [], "lame.test": []}, tmp_path, lame=["lame.test"]) as bind:
        assert ask(bind.secondary, "lame.test", "SOA").rcode() == dns.rcode.REFUSED
        bind.pause_secondary()
        with pytest.raises(dns.exception.Timeout):
            txt(bind.secondary, "x.slow.test", seconds=0.05)
        bind.resume_secondary()
        assert bind.values_of_secondary("x.slow.test") == []
        bind.kill_secondary()
        with pytest.raises((dns.exception.Timeout, OSError)):
            txt(bind.secondary, "x.slow.test", seconds=0.05)


def test_the_resolver_follows_delegations_and_aliases_and_keeps_nothing(
    bind: Bind, unbound: Unbound
) -> None:
    assert ask(unbound.dns, "www.sub.example.test", "A").answer[0][0].to_text() == "127.0.0.3"
    assert txt(unbound.dns, "_acme-challenge.www.example.test") == []
    _add(bind, "keys.other", "www", "by-an-alias")
    _until(lambda: bind.values_of_secondary("www.keys.other") != [])
    assert txt(unbound.dns, "_acme-challenge.www.example.test") == ["by-an-alias"]
    assert ask(unbound.dns, "sub.example.test", "SOA").answer
    servers = {str(record.target) for record in ask(unbound.dns, "keys.other", "NS").answer[0]}
    assert servers == {"ns1.keys.other.", "ns2.keys.other."}
    assert ask(unbound.dns, "ns2.keys.other", "A").answer[0][0].to_text() == "127.0.0.2"


def test_the_resolver_asks_nobody_else(unbound: Unbound) -> None:
    for name in ("www.example.com", "com", "ns.invalid"):
        assert ask(unbound.dns, name, "CAA", seconds=0.5).rcode() == dns.rcode.NXDOMAIN
