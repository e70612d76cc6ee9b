"""Porkbun, against a server that answers as its documentation and its users' reports say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from certd_providers.porkbun import Porkbun

from certd.api import (
    ProviderBusy,
    ProviderDenied,
    ProviderError,
    Secret,
    SecretReference,
    TxtRecord,
)
from certd.contract import FIRST
from certd.testing.dns import Account
from tests.fake_api import FakeAPI, Request, Response, text
from tests.http_contract import HTTPProviderContract

ZONE = "example.com"
NAME = f"_acme-challenge.{ZONE}"
KEY, SECRET = "pk1_5299b57125c8f3cdf347d2fe0e713311", "sk1_7d119e3f656b00ae042980302e1425a0"
PAGE = 3


class Server(FakeAPI):
    def __init__(self) -> None:
        super().__init__()
        self.domains = [f"domain{number}.example" for number in range(2 * PAGE)]
        self.domains += [ZONE, "no-access.example"]
        self.records: dict[str, dict[str, str]] = {}
        self.last = 106926651
        self.put("www", "A", "192.0.2.1")
        self.put("", "TXT", "v=spf1 -all")

    def put(self, label: str, kind: str, content: str, ttl: str = "600") -> str:
        self.last += 1
        self.records[str(self.last)] = {
            "id": str(self.last),
            "name": f"{label}.{ZONE}".lstrip("."),
            "type": kind,
            "content": content,
            "ttl": ttl,
            "prio": "0",
            "notes": "",
        }
        return str(self.last)

    def is_write(self, request: Request) -> bool:
        return "/create/" in request.path or "/delete/" in request.path

    def published(self, name: str) -> list[str]:
        return [
            one["content"]
            for one in self.records.values()
            if (one["name"], one["type"]) == (name, "TXT")
        ]

    def answer(self, request: Request) -> Response:
        path = request.path.removeprefix("/api/json/v3/")
        body = request.json
        keys = (body.pop("apikey", ""), body.pop("secretapikey", ""))
        if request.method != "POST" or keys != (KEY, SECRET):
            return _error("Invalid API key. (002)")
        if path == "domain/listAll":
            start = int(body.get("start", "0"))
            domains = [
                {"domain": domain, "status": "ACTIVE", "tld": domain.rpartition(".")[2]}
                for domain in self.domains[start : start + PAGE]
            ]
            return Response(200, {"status": "SUCCESS", "domains": domains})
        match = re.fullmatch(r"dns/(create|delete|retrieveByNameType)/([^/]+)(?:/(.*))?", path)
        if not match:
            return text(404, "<html>404</html>", "text/html")
        what, domain, rest = match.groups()
        if domain == "no-access.example":
            return _error("Domain is not opted in to API access.")
        if domain != ZONE:
            return _error("Invalid domain.")
        return getattr(self, what)(rest or "", body)  # type: ignore[no-any-return]

    def retrieveByNameType(self, rest: str, body: dict[str, str]) -> Response:  # noqa: N802
        kind, _, label = rest.partition("/")
        name = f"{label}.{ZONE}".lstrip(".")
        found = [one for one in self.records.values() if (one["name"], one["type"]) == (name, kind)]
        return Response(200, {"status": "SUCCESS", "cloudflare": "enabled", "records": found})

    def create(self, rest: str, body: dict[str, str]) -> Response:
        if body.keys() - {"name", "type", "content", "ttl", "prio"} or int(body["ttl"]) < 600:
            return _error("Create error: invalid parameter.")
        if body["content"] in self.published(f"{body['name']}.{ZONE}".lstrip(".")):
            return _error("Create error: We were unable to create the DNS record.")
        number = self.put(body["name"], body["type"], body["content"], body["ttl"])
        return Response(200, {"status": "SUCCESS", "id": number})

    def delete(self, rest: str, body: dict[str, str]) -> Response:
        if not self.records.pop(rest, None):
            return _error("Invalid record ID.")
        return Response(200, {"status": "SUCCESS"})


def _error(message: str) -> Response:
    return Response(400, {"status": "ERROR", "message": message})


def reference(text: str) -> SecretReference:
    return SecretReference("plain", Secret(text))


@pytest.fixture
def fake() -> Iterator[Server]:
    server = Server()
    with server.running():
        yield server


@pytest.fixture
def provider(fake: Server) -> Porkbun:
    return Porkbun(reference(KEY), reference(SECRET), f"{fake.url}/api/json/v3")


@pytest.fixture
def account(fake: Server, provider: Porkbun) -> Account:
    denied = replace(provider, secret_api_key=reference("sk1_another"))
    return Account(provider, ZONE, fake.published, denied, (KEY, SECRET, "sk1_another"))


class TestPorkbun(HTTPProviderContract): ...


def test_all_pages_of_the_domains_are_read(fake: Server, provider: Porkbun) -> None:
    assert set(provider.zones()) == set(fake.domains)


def test_a_server_that_ignores_the_page_ends_it(fake: Server, provider: Porkbun) -> None:
    page = {"status": "SUCCESS", "domains": [{"domain": "Example.com"}]}
    for _ in range(3):
        fake.fault(Response(200, page))
    assert set(provider.zones()) == {ZONE}


def test_a_domain_without_api_access_is_told_where_to_switch_it_on(provider: Porkbun) -> None:
    with pytest.raises(ProviderError, match=r"not opted in.*details of each domain") as refused:
        provider.add_txt(TxtRecord("no-access.example", "x.no-access.example", FIRST, 60))
    assert not isinstance(refused.value, ProviderDenied), "the keys are good for other domains"


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Response(202, ""), id="202"),
        pytest.param(_error("Create error: We were unable to create the DNS record."), id="400"),
    ],
)
def test_what_comes_too_fast_is_tried_again(
    fake: Server, provider: Porkbun, reply: Response
) -> None:
    nothing = Response(200, {"status": "SUCCESS", "records": []})
    fake.fault(nothing)
    fake.fault(reply)
    with pytest.raises(ProviderBusy, match="too many requests"):
        provider.add_txt(TxtRecord(ZONE, NAME, FIRST, 60))


def test_the_apex_and_records_of_others_stay(fake: Server, provider: Porkbun) -> None:
    before = dict(fake.records)
    provider.add_txt(TxtRecord(ZONE, ZONE, FIRST, 60))
    assert fake.published(ZONE) == ["v=spf1 -all", FIRST]
    provider.remove_txt(TxtRecord(ZONE, ZONE, FIRST, 60))
    assert fake.records == before


@pytest.mark.parametrize(("asked", "got"), [(60, "600"), (600, "600"), (900, "900")])
def test_the_ttl_is_the_shortest_that_it_takes(
    fake: Server, provider: Porkbun, asked: int, got: str
) -> None:
    provider.add_txt(TxtRecord(ZONE, NAME, FIRST, asked))
    assert fake.records[str(fake.last)]["ttl"] == got


def test_an_unknown_zone_is_told_in_its_words(provider: Porkbun) -> None:
    with pytest.raises(ProviderError, match="Invalid domain"):
        provider.add_txt(TxtRecord("sub.example.com", "x.sub.example.com", FIRST, 60))
