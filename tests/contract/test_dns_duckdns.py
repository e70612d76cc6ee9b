"""Duck DNS, against a server that does what its specification says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from certd_providers.duckdns import DuckDNS

from certd.api import ProviderDenied, ProviderError, Secret, SecretReference, TxtRecord
from certd.contract import FIRST, SECOND
from certd.testing.dns import Account
from tests.fake_api import FakeAPI, Request, Response, text
from tests.http_contract import HTTPProviderContract

ZONE = "certd-example.duckdns.org"
NAME = f"_acme-challenge.{ZONE}"
TOKEN = "a7c4d0ad-114e-40ef-ba1d-d217904a50f2"


class Server(FakeAPI):
    def __init__(self) -> None:
        super().__init__()
        self.txt = {"certd-example": "", "another": "of another"}
        self.addresses = {"certd-example": "192.0.2.1", "another": "192.0.2.2"}

    def is_write(self, request: Request) -> bool:
        return True

    def published(self, name: str) -> list[str]:
        value = self.txt.get(name.removesuffix(".duckdns.org").rpartition(".")[2])
        return [value] if value else []

    def answer(self, request: Request) -> Response:
        query = request.query
        if request.method != "GET" or request.path != "/update":
            return text(404, "not found", "text/html")
        domains = query.get("domains", "").split(",")
        if query.get("token") != TOKEN or not set(domains) <= self.txt.keys():
            return text(200, "KO", "text/html")
        for domain in domains:
            clear = query.get("clear") == "true"
            if "txt" in query:
                self.txt[domain] = "" if clear else query["txt"]
            else:
                self.addresses[domain] = "" if clear else query.get("ip", "203.0.113.1")
        return text(200, "OK", "text/html")


def reference(text: str) -> SecretReference:
    return SecretReference("plain", Secret(text))


@pytest.fixture
def fake() -> Iterator[Server]:
    server = Server()
    with server.running():
        yield server


@pytest.fixture
def provider(fake: Server) -> DuckDNS:
    return DuckDNS(reference(TOKEN), fake.url)


@pytest.fixture
def account(fake: Server, provider: DuckDNS) -> Account:
    wrong = "00000000-114e-40ef-ba1d-d217904a50f2"
    denied = replace(provider, token=reference(wrong))
    return Account(provider, ZONE, fake.published, denied, (TOKEN, wrong))


class TestDuckDNS(HTTPProviderContract): ...


def test_the_newest_value_is_that_of_all_names_of_the_domain(
    fake: Server, provider: DuckDNS
) -> None:
    provider.add_txt(TxtRecord(ZONE, NAME, FIRST, 60))
    provider.add_txt(TxtRecord(ZONE, f"_acme-challenge.www.{ZONE}", SECOND, 60))
    assert fake.published(NAME) == fake.published(ZONE) == [SECOND]


def test_addresses_and_other_domains_stay(fake: Server, provider: DuckDNS) -> None:
    before = dict(fake.addresses)
    for change in (provider.add_txt, provider.remove_txt):
        change(TxtRecord("duckdns.org", NAME, FIRST, 60))
    assert fake.addresses == before
    assert fake.txt == {"certd-example": "", "another": "of another"}


def test_a_domain_of_somebody_else_is_refused(provider: DuckDNS) -> None:
    with pytest.raises(ProviderDenied, match="stranger is not of its account") as refused:
        provider.add_txt(
            TxtRecord("duckdns.org", "_acme-challenge.stranger.duckdns.org", FIRST, 60)
        )
    assert refused.value.zone == "stranger.duckdns.org"


@pytest.mark.parametrize("name", ["duckdns.org", "example.com", "notduckdns.org"])
def test_what_is_not_below_duckdns_is_never_asked_for(
    fake: Server, provider: DuckDNS, name: str
) -> None:
    with pytest.raises(ProviderError, match="choose another provider"):
        provider.add_txt(TxtRecord(name, name, FIRST, 60))
    assert not fake.requests
