"""acme-dns, against a server that does what joohoi/acme-dns does (its api.go, auth.go, db.go)."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator

import pytest
from certd_providers.acme_dns import AcmeDNS

from certd.api import ProviderDenied, ProviderError, Secret, SecretReference, TxtRecord
from certd.contract import FIRST, SECOND, Broken, Trial, two_values
from certd.testing.dns import Account
from tests.fake_api import FakeAPI, Request, Response, text
from tests.http_contract import HTTPProviderContract

ZONE = "auth.example.org"
PASSWORD = "htB9mR9DYgcu9bX_afHF62erXaH2TS7bg9KW3F{}"
THIRD = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"


class Server(FakeAPI):
    def __init__(self) -> None:
        super().__init__()
        self.accounts: list[dict[str, str]] = []
        self.values: dict[str, list[tuple[int, str]]] = {}  # two slots, with when they were written
        for number in range(10, 14):
            subdomain = str(uuid.UUID(int=number))
            self.values[subdomain] = [(0, ""), (0, "")]
            self.accounts.append(
                {
                    "username": str(uuid.UUID(int=100 + number)),
                    "password": PASSWORD.format(number),
                    "fulldomain": f"{subdomain}.{ZONE}",
                    "subdomain": subdomain,
                }
            )

    def published(self, name: str) -> list[str]:
        return sorted({value for _, value in self.values[name.partition(".")[0]] if value})

    def answer(self, request: Request) -> Response:
        if (request.method, request.path) != ("POST", "/update"):
            return text(404, "404 page not found\n", "text/plain")
        given = (request.headers["X-Api-User"], request.headers["X-Api-Key"])
        body = request.json
        user = [one for one in self.accounts if (one["username"], one["password"]) == given]
        if not user or body["subdomain"] != user[0]["subdomain"]:
            return Response(401, {"error": "forbidden"})
        if not re.fullmatch(r"[A-Za-z0-9_-]{43}", body["txt"]):
            return Response(400, {"error": "bad_txt"})
        slots = self.values[body["subdomain"]]
        oldest = min((0, 1), key=lambda slot: slots[slot][0])
        slots[oldest] = (len(self.requests), body["txt"])
        return Response(200, {"txt": body["txt"]})


def accounts(content: object) -> SecretReference:
    return SecretReference("plain", Secret(json.dumps(content)))


@pytest.fixture
def fake() -> Iterator[Server]:
    server = Server()
    with server.running():
        yield server


@pytest.fixture
def account(fake: Server) -> Account:
    denied = {**fake.accounts[0], "password": "x" * 40}
    return Account(
        AcmeDNS(fake.url, accounts(fake.accounts)),
        ZONE,
        fake.published,
        AcmeDNS(fake.url, accounts(denied)),
        ("x" * 40, *(one["password"] for one in fake.accounts)),
    )


class TestAcmeDNS(HTTPProviderContract):
    refused = ProviderError  # one of several accounts: it says nothing of the others


def test_only_the_newest_two_values_are_there(account: Account, fake: Server) -> None:
    name = account.name("_acme-challenge")
    for value in (FIRST, SECOND, THIRD):
        account.provider.add_txt(TxtRecord(ZONE, name, value, 60))
        account.provider.remove_txt(TxtRecord(ZONE, name, value, 60))
    assert fake.published(name) == sorted([SECOND, THIRD])


def test_each_name_has_its_own_account(fake: Server) -> None:
    provider = AcmeDNS(fake.url, accounts(fake.accounts))
    for one in fake.accounts:
        provider.add_txt(TxtRecord(ZONE, one["fulldomain"], FIRST, 60))
    assert [fake.published(one["fulldomain"]) for one in fake.accounts] == [[FIRST]] * 4


def test_a_name_without_an_account_is_told_what_to_do(account: Account, fake: Server) -> None:
    with pytest.raises(ProviderError, match=r"no account for www.example.org.*register one"):
        account.provider.add_txt(TxtRecord("example.org", "www.example.org", FIRST, 60))
    assert not fake.requests


def test_one_account_that_is_refused_says_nothing_of_the_others(fake: Server) -> None:
    wrong = {**fake.accounts[0], "password": "x" * 40}
    provider = AcmeDNS(fake.url, accounts([wrong, *fake.accounts[1:]]))
    with pytest.raises(ProviderError, match=r"forbidden.*allowfrom") as refused:
        provider.add_txt(TxtRecord(ZONE, wrong["fulldomain"], FIRST, 60))
    assert not isinstance(refused.value, ProviderDenied), "the other names are well"
    assert "x" * 40 not in str(refused.value)
    provider.add_txt(TxtRecord(ZONE, fake.accounts[1]["fulldomain"], FIRST, 60))


def test_an_account_of_another_name_is_refused(fake: Server) -> None:
    swapped = {**fake.accounts[0], "subdomain": fake.accounts[1]["subdomain"]}
    provider = AcmeDNS(fake.url, accounts(swapped))
    with pytest.raises(ProviderDenied, match=r"forbidden.*allowfrom"):
        provider.add_txt(TxtRecord(ZONE, swapped["fulldomain"], FIRST, 60))


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(lambda one: one, id="the answer of /register"),
        pytest.param(lambda one: [one], id="several"),
        pytest.param(lambda one: {"example.com": one}, id="lego's storage"),
        pytest.param(
            lambda one: {**one, "fulldomain": one["fulldomain"].upper() + ".", "allowfrom": []},
            id="a name in another form",
        ),
    ],
)
def test_accounts_come_in_several_forms(form, fake: Server) -> None:  # type: ignore[no-untyped-def]
    one = fake.accounts[0]
    provider = AcmeDNS(fake.url, accounts(form(one)))
    assert set(provider.names()) == {one["fulldomain"]}
    assert provider.zones() == {ZONE}
    provider.add_txt(TxtRecord(ZONE, one["fulldomain"], FIRST, 60))


@pytest.mark.parametrize("text", ["secret", "{}", "[]", '{"password": "secret"}', "[" * 50_000])
def test_what_is_no_account_is_said_without_repeating_it(text: str) -> None:
    provider = AcmeDNS("https://auth.example.org", SecretReference("plain", Secret(text)))
    with pytest.raises(ProviderError, match="answer of /register") as refused:
        provider.names()
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("key", ["line\nX-Api-User: another", "\u2026"])
def test_a_key_that_no_header_can_have_is_refused(fake: Server, key: str) -> None:
    one = {**fake.accounts[0], "password": key}
    with pytest.raises(ProviderDenied, match="no header can have") as refused:
        AcmeDNS(fake.url, accounts(one)).add_txt(TxtRecord(ZONE, one["fulldomain"], FIRST, 60))
    assert key not in str(refused.value)
    assert not fake.requests


def test_the_contract_still_sees_a_value_that_is_lost(account: Account, fake: Server) -> None:
    """What cannot be removed may stay, but what was written last must be there."""
    name = account.name("_acme-challenge")

    def one_of_them(name: str) -> list[str]:
        return fake.published(name)[:1]

    with pytest.raises(Broken, match="two were added"):
        two_values(Trial(account.provider, ZONE, name, one_of_them))
