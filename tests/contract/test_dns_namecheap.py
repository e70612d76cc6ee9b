"""Namecheap, against a server whose setHosts replaces whatever was there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from certd_providers.namecheap import TRIES, Namecheap

from certd.api import (
    ConfigError,
    ProviderBusy,
    ProviderDenied,
    ProviderError,
    Secret,
    SecretReference,
    TxtRecord,
)
from certd.contract import FIRST, SECOND
from certd.testing.dns import Account
from tests.fake_api import text
from tests.fake_namecheap import ADDRESS, KEY, THERE, USER, ZONE, Server
from tests.http_contract import HTTPProviderContract

NAME = f"_acme-challenge.{ZONE}"


def reference(text: str) -> SecretReference:
    return SecretReference("plain", Secret(text))


def record(value: str = FIRST, ttl: int = 60) -> TxtRecord:
    return TxtRecord(ZONE, NAME, value, ttl)


@pytest.fixture
def fake() -> Iterator[Server]:
    server = Server()
    with server.running():
        yield server


@pytest.fixture
def provider(fake: Server) -> Namecheap:
    return Namecheap(USER, reference(KEY), ADDRESS, f"{fake.url}/xml.response")


@pytest.fixture
def account(fake: Server, provider: Namecheap) -> Account:
    fake.hosts.pop()  # the contract has its own
    wrong = "0" * 32
    denied = replace(provider, api_key=reference(wrong))
    return Account(provider, ZONE, fake.published, denied, (KEY, wrong))


class TestNamecheap(HTTPProviderContract): ...


@pytest.mark.parametrize("charset", ["text/xml; charset=utf-8", "text/xml", "application/xml"])
@pytest.mark.parametrize("mail", ["MX", "OX", "GMAIL"])
def test_everything_else_is_the_same_afterwards(
    fake: Server, provider: Namecheap, charset: str, mail: str
) -> None:
    fake.type, fake.mail = charset, mail
    for value in (FIRST, SECOND):
        provider.add_txt(record(value))
    mine = [("_acme-challenge", "TXT", value, "10", "60") for value in (FIRST, SECOND)]
    assert sorted(fake.hosts) == sorted([*THERE, *mine])
    for value in (FIRST, SECOND):
        provider.remove_txt(record(value))
    assert (sorted(fake.hosts), fake.mail) == (sorted(THERE), mail)


def test_nothing_is_written_that_is_there_already(fake: Server, provider: Namecheap) -> None:
    provider.add_txt(record())
    begun = len(fake.requests)
    provider.add_txt(record())
    provider.remove_txt(record(SECOND))
    assert len(fake.requests) == begun + 2


def test_what_somebody_else_writes_meanwhile_stays(fake: Server, provider: Namecheap) -> None:
    fake.meddle = 2
    provider.add_txt(record())
    names = [row[0] for row in fake.hosts]
    assert {"other0", "other1"} <= set(names)
    assert FIRST in fake.published(NAME)


def test_a_zone_that_never_rests_is_tried_later(fake: Server, provider: Namecheap) -> None:
    fake.meddle = TRIES + 1
    with pytest.raises(ProviderBusy, match="changed by somebody else"):
        provider.add_txt(record())
    assert not fake.published(NAME)[1:]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(
            {"hosts": [("_sip._tcp", "SRV", "0 5 5060 sip.example.net", "10", "60")]},
            "the SRV record _sip._tcp",
            id="a type that it does not take",
        ),
        pytest.param({"more": {"www": {"IsActive": "false"}}}, "switched off", id="switched off"),
        pytest.param({"more": {"www": {"IsDDNSEnabled": "true"}}}, "is dynamic", id="dynamic"),
        pytest.param({"mail": None}, "its mail settings", id="no mail settings"),
    ],
)
def test_what_could_not_be_written_back_is_never_overwritten(
    fake: Server, provider: Namecheap, change: dict[str, Any], words: str
) -> None:
    for name, value in change.items():
        setattr(fake, name, value)
    before = list(fake.hosts)
    with pytest.raises(ProviderError, match=f"would not keep .*{words}.*by a CNAME"):
        provider.add_txt(record())
    assert fake.hosts == before


def test_a_domain_with_other_name_servers_is_refused(fake: Server, provider: Namecheap) -> None:
    fake.ours = "false"
    with pytest.raises(ProviderError, match="other name servers"):
        provider.add_txt(record())


def test_an_empty_zone_gets_its_first_record(fake: Server, provider: Namecheap) -> None:
    fake.hosts, fake.mail = [], "NONE"
    provider.add_txt(TxtRecord(ZONE, ZONE, FIRST, 60))
    assert fake.hosts == [("@", "TXT", FIRST, "10", "60")]


@pytest.mark.parametrize(("asked", "got"), [(1, "60"), (300, "300"), (86400, "60000")])
def test_the_ttl_is_one_that_it_takes(
    fake: Server, provider: Namecheap, asked: int, got: str
) -> None:
    provider.add_txt(record(ttl=asked))
    assert [row[4] for row in fake.hosts if row[2] == FIRST] == [got]


def test_all_pages_of_the_domains_are_read(fake: Server, provider: Namecheap) -> None:
    assert set(provider.zones()) == set(fake.domains)


@pytest.mark.parametrize(
    ("number", "error"),
    [
        ("1010101", ProviderDenied),
        ("1011150", ProviderDenied),
        ("1017150", ProviderDenied),
        ("1016103", ProviderDenied),
        ("1030408", ProviderDenied),
        ("500000", ProviderBusy),
        ("5050900", ProviderBusy),
        ("4022288", ProviderBusy),
        ("3050900", ProviderBusy),
        ("1050900", ProviderBusy),
        ("2019166", ProviderError),
        ("3013288", ProviderError),
    ],
)
def test_its_errors_are_told_by_number(
    fake: Server, provider: Namecheap, number: str, error: type[ProviderError]
) -> None:
    fake.fault(fake.error(number, "in its words"))
    with pytest.raises(ProviderError, match=f"{number}: in its words") as refused:
        provider.add_txt(record())
    assert type(refused.value) is error


def test_an_address_that_is_not_whitelisted_is_named(provider: Namecheap) -> None:
    with pytest.raises(ProviderDenied, match=r"1011150.*whitelist 192\.0\.2\.7.*apiaccess"):
        replace(provider, client_ip="192.0.2.7").add_txt(record())


def test_405_means_too_many(fake: Server, provider: Namecheap) -> None:
    fake.fault(text(405, "<html></html>", "text/html"))
    with pytest.raises(ProviderBusy, match="too many"):
        provider.add_txt(record())


@pytest.mark.parametrize(
    "body",
    [
        pytest.param('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/issue">]><a/>', id="file"),
        pytest.param('<!doctype a [<!ENTITY b "c">]><a>&b;</a>', id="entity"),
        pytest.param('<ApiResponse Status="OK"/>', id="nothing in it"),
        pytest.param('<Other Status="OK"/>', id="another answer"),
    ],
)
def test_xml_of_another_kind_is_refused(fake: Server, provider: Namecheap, body: str) -> None:
    fake.fault(text(200, body, "text/xml"))
    with pytest.raises(ProviderError):
        provider.add_txt(record())
    assert sorted(fake.hosts) == sorted(THERE)


def test_a_change_that_is_not_confirmed_failed(fake: Server, provider: Namecheap) -> None:
    fake.success = "false"
    with pytest.raises(ProviderError, match=r"setHosts of example\.co\.uk failed"):
        provider.add_txt(record())


@pytest.mark.parametrize("address", ["", "2001:db8::1", "192.0.2", "host"])
def test_the_address_is_ipv4(address: str) -> None:
    check = Namecheap.__dataclass_fields__["client_ip"].metadata["check"]
    check(ADDRESS)
    with pytest.raises(ConfigError, match="no IPv4 address"):
        check(address)
