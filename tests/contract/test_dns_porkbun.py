"""Porkbun, against a server that answers as its documentation and its users' reports say."""

from __future__ import annotations

import json
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
from certd.testing.dns import Account, DNSProviderContract
from tests.mishaps import Asked, Fake, Mishaps, Reply, as_json, direct, running

__all__ = ["direct"]

ZONE = "example.com"
NAME = f"_acme-challenge.{ZONE}"
KEY, SECRET = "pk1_5299b57125c8f3cdf347d2fe0e713311", "sk1_7d119e3f656b00ae042980302e1425a0"
PAGE = 3


class Server(Fake):
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

    def published(self, name: str) -> list[str]:
        return [
            one["content"]
            for one in self.records.values()
            if (one["name"], one["type"]) == (name, "TXT")
        ]

    def answer(self, asked: Asked) -> Reply:
        path = asked.path.removeprefix("/api/json/v3/")
        body = json.loads(asked.body)
        keys = (body.pop("apikey", ""), body.pop("secretapikey", ""))
        if asked.method != "POST" or keys != (KEY, SECRET):
            return _error("Invalid API key. (002)")
        if path == "domain/listAll":
            start = int(body.get("start", "0"))
            domains = [
                {"domain": domain, "status": "ACTIVE", "tld": domain.rpartition(".")[2]}
                for domain in self.domains[start : start + PAGE]
            ]
            return as_json(200, {"status": "SUCCESS", "domains": domains})
        match = re.fullmatch(r"dns/(create|delete|retrieveByNameType)/([^/]+)(?:/(.*))?", path)
        if not match:
            return Reply(404, "<html>404</html>", "text/html")
        what, domain, rest = match.groups()
        if domain == "no-access.example":
            return _error("Domain is not opted in to API access.")
        if domain != ZONE:
            return _error("Invalid domain.")
        return getattr(self, what)(rest or "", body)  # type: ignore[no-any-return]

    def retrieveByNameType(self, rest: str, body: dict[str, str]) -> Reply:  # noqa: N802
        kind, _, label = rest.partition("/")
        name = f"{label}.{ZONE}".lstrip(".")
        found = [one for one in self.records.values() if (one["name"], one["type"]) == (name, kind)]
        return as_json(200, {"status": "SUCCESS", "cloudflare": "enabled", "records": found})

    def create(self, rest: str, body: dict[str, str]) -> Reply:
        if body.keys() - {"name", "type", "content", "ttl", "prio"} or int(body["ttl"]) < 600:
            return _error("Create error: invalid parameter.")
        if body["content"] in self.published(f"{body['name']}.{ZONE}".lstrip(".")):
            return _error("Create error: We were unable to create the DNS record.")
        number = self.put(body["name"], body["type"], body["content"], body["ttl"])
        return as_json(200, {"status": "SUCCESS", "id": number})

    def delete(self, rest: str, body: dict[str, str]) -> Reply:
        if not self.records.pop(rest, None):
            return _error("Invalid record ID.")
        return as_json(200, {"status": "SUCCESS"})


def _error(message: str) -> Reply:
    return as_json(400, {"status": "ERROR", "message": message})


def reference(text: str) -> SecretReference:
    return SecretReference("plain", Secret(text))


@pytest.fixture
def fake() -> Iterator[Server]:
    server = Server()
    with running(server):
        yield server


@pytest.fixture
def provider(fake: Server) -> Porkbun:
    return Porkbun(reference(KEY), reference(SECRET), f"{fake.url}/api/json/v3")


@pytest.fixture
def account(fake: Server, provider: Porkbun) -> Account:
    denied = replace(provider, secret_api_key=reference("sk1_another"))
    return Account(provider, ZONE, fake.published, denied, (KEY, SECRET, "sk1_another"))


class TestPorkbun(Mishaps, DNSProviderContract): ...


def test_all_pages_of_the_domains_are_read(fake: Server, provider: Porkbun) -> None:
    assert set(provider.zones()) == set(fake.domains)


def test_a_server_that_ignores_the_page_ends_it(fake: Server, provider: Porkbun) -> None:
    page = {"status": "SUCCESS", "domains": [{"domain": "Example.com"}]}
    fake.instead = [as_json(200, page)] * 3
    assert set(provider.zones()) == {ZONE}


def test_a_domain_without_api_access_is_told_where_to_switch_it_on(provider: Porkbun) -> None:
    with pytest.raises(ProviderError, match=r"not opted in.*details of each domain") as refused:
        provider.add_txt(TxtRecord("no-access.example", "x.no-access.example", FIRST, 60))
    assert not isinstance(refused.value, ProviderDenied), "the keys are good for other domains"


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(202, ""), id="202"),
        pytest.param(_error("Create error: We were unable to create the DNS record."), id="400"),
    ],
)
def test_what_comes_too_fast_is_tried_again(fake: Server, provider: Porkbun, reply: Reply) -> None:
    nothing = as_json(200, {"status": "SUCCESS", "records": []})
    fake.instead = [nothing, reply]
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
