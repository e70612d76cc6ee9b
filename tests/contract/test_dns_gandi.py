"""gandi against a server that behaves as https://api.gandi.net/docs/livedns/ says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from certd_providers.gandi import Gandi

from certd.contract import FIRST
from tests.fake_api import (
    NAME,
    READER,
    TOKEN,
    ZONE,
    FakeAPI,
    Request,
    Response,
    challenge,
    characters,
    page,
    relative,
    secret,
)
from tests.http_contract import WholeSetContract

DOMAINS = [ZONE, *(f"{number}.example" for number in range(5))]
MOST_PER_PAGE = 4


class FakeGandi(FakeAPI):
    prefix = "/v5/livedns"

    def __init__(self) -> None:
        super().__init__()
        self.sets: dict[str, dict[str, Any]] = {}  # of the one zone, by label

    def published(self, name: str) -> list[str]:
        return [characters(text) for text in self._set(name).get("rrset_values", [])]

    def ttl(self, name: str) -> int:
        return int(self._set(name)["rrset_ttl"])

    def _set(self, name: str) -> dict[str, Any]:
        return self.sets.get(relative(name), {})

    def answer(self, request: Request) -> Response:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in (TOKEN, READER):
            return refusal(401, "HTTPUnauthorized", f"Either you supplied the wrong {token}")
        if token == READER and request.method != "GET":
            return refusal(403, "HTTPForbidden", "Access was denied to this resource.")
        match request.method, request.steps:
            case "GET", ("domains",):
                return self._domains(request)
            case "GET", ("domains", zone) if zone in DOMAINS:
                return Response(200, {"fqdn": zone, "automatic_snapshots": True})
            case _, ("domains", "example.com", "records", label, "TXT"):
                return self._record(request, label)
        return refusal(404, "HTTPNotFound", "The resource could not be found.")

    def _domains(self, request: Request) -> Response:
        size = min(int(request.query["per_page"]), MOST_PER_PAGE)
        shown = page(DOMAINS, int(request.query["page"]), size)
        found = [{"fqdn": name, "domain_href": f"{self.url}/domains/{name}"} for name in shown]
        return Response(200, found, {"Total-Count": str(len(DOMAINS))})

    def _record(self, request: Request, label: str) -> Response:
        match request.method:
            case "GET" if label in self.sets:
                return Response(200, {"rrset_name": label, "rrset_type": "TXT", **self.sets[label]})
            case "PUT":
                try:
                    values = [characters(text) for text in request.json["rrset_values"]]
                except ValueError as error:
                    return malformed("rrset_values", str(error))
                if not values or len(set(values)) < len(values):
                    return malformed("rrset_values", "empty, or twice the same")
                if not 300 <= request.json["rrset_ttl"] <= 2592000:
                    return malformed("rrset_ttl", "is out of range")
                self.sets[label] = request.json
                return Response(201, {"message": "DNS Record Created"})
            case "DELETE" if label in self.sets:
                del self.sets[label]
                return Response(204)
        return refusal(404, "dns-record", f"Can't find the DNS record {label}/TXT in the zone")


def refusal(status: int, what: str, words: str) -> Response:
    return Response(status, {"code": status, "message": words, "object": what, "cause": "…"})


def malformed(name: str, words: str) -> Response:
    errors = [{"location": "body", "name": name, "description": words}]
    return Response(400, {"status": "error", "errors": errors})


@pytest.fixture
def fake() -> Iterator[FakeGandi]:
    fake = FakeGandi()
    with fake.running():
        yield fake


@pytest.fixture
def provider(fake: FakeGandi) -> Callable[[str], Gandi]:
    return lambda token: Gandi(secret(token), fake.url)


class TestGandi(WholeSetContract):
    minimum_ttl = 300
    account_zones = frozenset(DOMAINS)


def test_the_values_of_others_stay_as_they_wrote_them(
    fake: FakeGandi, provider: Callable[[str], Gandi]
) -> None:
    """Also what we would have written in another way; and their TTL."""
    theirs = ['"v=spf1 -all"', '"a" "b"', r'"semi\;colon \"quoted\" \065"']
    fake.sets["_acme-challenge"] = {"rrset_ttl": 10800, "rrset_values": theirs}
    gandi = provider(TOKEN)
    gandi.add_txt(challenge())
    assert fake.sets["_acme-challenge"]["rrset_values"] == [*theirs, f'"{FIRST}"']
    gandi.remove_txt(challenge())
    assert fake.sets["_acme-challenge"] == {"rrset_ttl": 10800, "rrset_values": theirs}


def test_the_last_value_takes_the_set_with_it(
    fake: FakeGandi, provider: Callable[[str], Gandi]
) -> None:
    gandi = provider(TOKEN)
    gandi.add_txt(challenge())
    gandi.remove_txt(challenge())
    assert fake.sets == {}
    assert [request.method for request in fake.writes] == ["PUT", "DELETE"]


def test_what_it_finds_malformed_is_told_in_its_words(
    fake: FakeGandi, provider: Callable[[str], Gandi]
) -> None:
    with pytest.raises(Exception, match="out of range"):
        provider(TOKEN).add_txt(challenge(name=NAME, ttl=2592001))
