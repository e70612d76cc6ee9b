"""godaddy against a server that behaves as its specification of version 3 says."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from certd_providers.godaddy import GoDaddy

from certd.api import ProviderDenied, ProviderError
from certd.contract import FIRST, SECOND
from tests.fake_api import (
    NAME,
    READER,
    TOKEN,
    ZONE,
    FakeAPI,
    Request,
    Response,
    challenge,
    page,
    relative,
    secret,
)
from tests.http_contract import TokenProviderContract

DOMAINS = [*(f"{number}.example" for number in range(4)), ZONE]
MOST_PER_PAGE = 2
RECORDS = ("zones", ZONE, "dns-records")


class FakeGoDaddy(FakeAPI):
    prefix = "/v3/domains"

    def __init__(self) -> None:
        super().__init__()
        self.records: list[dict[str, Any]] = []
        self._ids = itertools.count(1)

    def published(self, name: str) -> list[str]:
        return [each["data"] for each in self.records if each["name"] == relative(name)]

    def ttl(self, name: str) -> int:
        return next(int(each["ttl"]) for each in self.records if each["name"] == relative(name))

    def seed(self, data: str, kind: str = "TXT") -> None:
        record = {"type": kind, "name": relative(NAME), "data": data, "ttl": 3600}
        self.records.append({**record, "recordId": f"Aad7oq_{next(self._ids)}"})

    def answer(self, request: Request) -> Response:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in (TOKEN, READER):
            return refusal(401, "UNABLE_TO_AUTHENTICATE", f"Could not authenticate {token}")
        if token == READER and request.method != "GET":
            return refusal(403, "ACCESS_DENIED", "The token lacks the scope")
        match request.method, request.steps:
            case "GET", ("domain-names",):
                return self._domains(request)
            case "GET", path if path == RECORDS:
                return self._listing(request)
            case "POST", path if path == RECORDS:
                return self._create(request.json)
            case "DELETE", (*path, key) if tuple(path) == RECORDS:
                kept = [each for each in self.records if each["recordId"] != key]
                gone, self.records = kept != self.records, kept
                if gone:
                    return Response(204)
        return refusal(404, "NOT_FOUND", "The requested resource was not found.")

    def _domains(self, request: Request) -> Response:
        start = int(request.query.get("pageToken", "t0").removeprefix("t"))
        found = [{"domain": name.upper(), "status": "ACTIVE"} for name in DOMAINS]
        links = [{"rel": "self", "href": "/v3/domains/domain-names"}]
        if start + MOST_PER_PAGE < len(found):
            href = f"/v3/domains/domain-names?pageToken=t{start + MOST_PER_PAGE}"
            links.append({"rel": "next", "href": href})
        return Response(200, {"items": found[start : start + MOST_PER_PAGE], "links": links})

    def _listing(self, request: Request) -> Response:
        query = request.query
        if not set(query) <= {"type", "name", "page", "pageSize"} or int(query["pageSize"]) > 100:
            return refusal(400, "INVALID_QUERY", "unknown, or out of range")
        wanted = query["type"], query["name"]
        found = [each for each in self.records if (each["type"], each["name"]) == wanted]
        number = int(query.get("page", "1"))
        links = []
        if number * MOST_PER_PAGE < len(found):
            following = urlencode({**query, "page": number + 1})
            links.append({"rel": "next", "href": f"/v3/domains/{'/'.join(RECORDS)}?{following}"})
        return Response(200, {"items": page(found, number, MOST_PER_PAGE), "links": links})

    def _create(self, body: dict[str, Any]) -> Response:
        if not 600 <= body["ttl"] <= 86400 or not 1 <= len(body["data"]) <= 512:
            return refusal(400, "INVALID_BODY", "ttl or data is out of range")
        same = ("name", "type", "data")
        if any(all(each[key] == body[key] for key in same) for each in self.records):
            return refusal(409, "DUPLICATE_RECORD", "Another record with the same attributes")
        self.records.append({**body, "recordId": f"Aad7oq_{next(self._ids)}"})
        return Response(201, self.records[-1])


def refusal(status: int, code: str, words: str) -> Response:
    return Response(status, {"code": code, "message": words, "correlationId": "9f1c2e7a"})


@pytest.fixture
def fake() -> Iterator[FakeGoDaddy]:
    fake = FakeGoDaddy()
    with fake.running():
        yield fake


@pytest.fixture
def provider(fake: FakeGoDaddy) -> Callable[[str], GoDaddy]:
    return lambda token: GoDaddy(secret(token), fake.url)


class TestGoDaddy(TokenProviderContract):
    minimum_ttl = 600
    account_zones = frozenset(DOMAINS)


def test_a_record_on_a_later_page_is_found(
    fake: FakeGoDaddy, provider: Callable[[str], GoDaddy]
) -> None:
    others = [f"other {number}" for number in range(5)]
    for data in [*others, FIRST]:
        fake.seed(data)
    godaddy = provider(TOKEN)
    godaddy.add_txt(challenge(FIRST))
    assert fake.writes == []
    godaddy.remove_txt(challenge(FIRST))
    assert fake.published(NAME) == others


def test_a_conflict_with_our_own_record_is_success(
    fake: FakeGoDaddy, provider: Callable[[str], GoDaddy]
) -> None:
    """Somebody else made it between the look and the write: here the fault makes it."""
    fake.fault(refusal(409, "DUPLICATE_RECORD", "Another record"), writing=True, after=True)
    provider(TOKEN).add_txt(challenge())
    assert fake.published(NAME) == [FIRST]


@pytest.mark.parametrize("status", [409, 422])
def test_another_conflict_is_not(
    fake: FakeGoDaddy, provider: Callable[[str], GoDaddy], status: int
) -> None:
    fake.fault(refusal(status, "INVALID_STATUS", "the domain is locked"), writing=True)
    with pytest.raises(ProviderError, match="the domain is locked"):
        provider(TOKEN).add_txt(challenge())


def test_only_txt_records_are_ours(fake: FakeGoDaddy, provider: Callable[[str], GoDaddy]) -> None:
    fake.seed(FIRST, kind="CNAME")
    fake.seed(SECOND)
    provider(TOKEN).remove_txt(challenge(FIRST))
    assert fake.published(NAME) == [FIRST, SECOND]


def test_an_account_that_may_not_use_the_api_is_told_as_such(
    fake: FakeGoDaddy, provider: Callable[[str], GoDaddy]
) -> None:
    fake.fault(refusal(403, "ACCOUNT_NOT_ELIGIBLE", "Account is not eligible"))
    with pytest.raises(ProviderDenied, match="ACCOUNT_NOT_ELIGIBLE") as denied:
        provider(TOKEN).add_txt(challenge())
    assert "in an account that may use the API" in denied.value.next
