"""By hand: somebody who reads what is printed, and does it at a real name server."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import dns.query
import dns.rcode
import dns.rdata
import dns.tsig
import dns.update
import pytest
from certd_providers import manual
from certd_providers.manual import Manual

from certd import contract
from certd.api import TxtRecord
from certd.contract import FIRST, Trial
from certd.testing.bind import HOST, Bind
from certd.testing.dns import Account, DNSProviderContract

ZONE = "example.test"
LINE = re.compile(r"(publish|remove) +(\S+)\. (\d+) IN TXT (\".*\")\n")


class Somebody:
    """At the terminal: does each line as it is printed, and knows which zones are theirs."""

    def __init__(self, bind: Bind) -> None:
        self.bind = bind
        self.read: list[str] = []
        self._lock = threading.Lock()

    def write(self, text: str) -> None:
        asked = LINE.fullmatch(text)
        assert asked, text
        what, name, ttl, data = asked.groups()
        with self._lock:
            self.read.append(text)
        key = dns.tsig.Key(self.bind.key, self.bind.secret, self.bind.algorithm)
        update = dns.update.UpdateMessage(ZONE, keyring=key)
        rdata = dns.rdata.from_text("IN", "TXT", data)
        if what == "publish":
            update.add(f"{name}.", int(ttl), rdata)
        else:
            update.delete(f"{name}.", rdata)
        assert dns.query.tcp(update, HOST, 5, self.bind.port).rcode() == dns.rcode.NOERROR

    def flush(self) -> None: ...


@pytest.fixture(scope="module")
def bind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bind]:
    with Bind({ZONE: []}, tmp_path_factory.mktemp("bind")) as running:
        yield running


@pytest.fixture
def somebody(bind: Bind, monkeypatch: pytest.MonkeyPatch) -> Somebody:
    reader = Somebody(bind)
    monkeypatch.setattr(manual, "sys", SimpleNamespace(stderr=reader))
    return reader


class TestManual(DNSProviderContract):
    @pytest.fixture
    def account(self, somebody: Somebody) -> Account:
        return Account(Manual(), ZONE, somebody.bind.values)


def test_only_the_check_of_whose_a_zone_is_is_left_to_them(somebody: Somebody) -> None:
    """It is true that this cannot be checked: whatever is asked for is printed."""
    left_out = [check for check in contract.CHECKS if contract.left_out(Manual(), check)]
    assert left_out == [contract.unknown_zone]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(FIRST, id="a challenge's"),
        pytest.param('say "yes"; \\ and no', id="what has a meaning in zone files"),
        pytest.param("ä" * 200, id="two strings"),
    ],
)
def test_what_is_printed_can_be_copied_into_a_zone_file(somebody: Somebody, value: str) -> None:
    record = TxtRecord(ZONE, f"_acme-challenge.own.{ZONE}", value, 60)
    Manual().add_txt(record)
    assert somebody.bind.values(record.name) == [value]
    Manual().remove_txt(record)
    assert somebody.bind.values(record.name) == []


def test_lines_of_several_threads_are_not_mixed(somebody: Somebody) -> None:
    contract.at_once(Trial(Manual(), ZONE, f"_acme-challenge.own.{ZONE}", somebody.bind.values))
    assert len(somebody.read) == 2 * contract.THREADS
    assert all(LINE.fullmatch(line) for line in somebody.read)


def test_nobody_is_there_to_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under a service manager that closes it."""
    monkeypatch.setattr(manual, "sys", SimpleNamespace(stderr=None))
    Manual().add_txt(TxtRecord(ZONE, ZONE, FIRST, 60))
