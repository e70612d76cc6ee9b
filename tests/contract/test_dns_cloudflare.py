"""cloudflare against a server that behaves as https://developers.cloudflare.com/api/ says."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from certd_providers.cloudflare import Cloudflare

from certd.api import ProviderDenied, ProviderError, TxtRecord
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
    characters,
    page,
    secret,
)
from tests.http_contract import TokenProviderContract

ZONES = {f"id-of-{name}": name for name in ("0.example", "1.example", "2.example", ZONE)}
MOST_PER_PAGE = 3
RECORDS = ("zones", f"id-of-{ZONE}", "dns_records")


class FakeCloudflare(FakeAPI):
    prefix = "/client/v4"

    def __init__(self) -> None:
        super().__init__()
        self.records: list[dict[str, Any]] = []
        self.others: list[dict[str, str]] = []  # zones that are listed first
        self._ids = itertools.count(372)

    def published(self, name: str) -> list[str]:
        return [shown(record) for record in self.records if record["name"] == name]

    def ttl(self, name: str) -> int:
        return next(int(record["ttl"]) for record in self.records if record["name"] == name)

    def seed(self, content: str, name: str = NAME) -> None:
        record = {"type": "TXT", "name": name, "content": content, "ttl": 300}
        self.records.append({**record, "id": f"{next(self._ids):032x}"})

    def answer(self, request: Request) -> Response:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in (TOKEN, READER):
            return refusal(401, 1000, f"Invalid API Token {token}")
        if token == READER and request.method != "GET":
            return refusal(403, 10000, "Authentication error")
        match request.method, request.steps:
            case "GET", ("zones",):
                named = request.query.get("name")
                found = [
                    {"id": key, "name": name, "status": "active"}
                    for key, name in ZONES.items()
                    if named in (None, name)
                ]
                found[:0] = self.others
                return listing(request, found)
            case "GET", path if path == RECORDS:
                assert set(request.query) == {"type", "name.exact", "page", "per_page"}
                name = request.query["name.exact"]
                return listing(request, [each for each in self.records if each["name"] == name])
            case "POST", path if path == RECORDS:
                return self._create(request.json)
            case "DELETE", (*path, key) if tuple(path) == RECORDS:
                kept = [record for record in self.records if record["id"] != key]
                if kept == self.records:
                    return refusal(404, 81044, "Record does not exist.")
                self.records = kept
                return success({"id": key})
        return refusal(404, 7003, "Could not route, perhaps your object identifier is invalid?")

    def _create(self, body: dict[str, Any]) -> Response:
        if body["ttl"] != 1 and not 60 <= body["ttl"] <= 86400:
            return refusal(400, 9021, "Invalid TTL. Must be between 60 and 86400 seconds, or 1.")
        if not body["name"].endswith(ZONE):  # a name is taken for one within the zone
            body = {**body, "name": f"{body['name']}.{ZONE}"}
        try:
            characters(body["content"])
        except ValueError:
            return refusal(400, 9005, "Content for TXT record is invalid.")
        if any(
            shown(each) == shown(body) and each["name"] == body["name"] for each in self.records
        ):
            return refusal(400, 81058, "An identical record already exists.")
        self.records.append({**body, "id": f"{next(self._ids):032x}"})
        return success(self.records[-1])


def shown(record: dict[str, Any]) -> str:
    content: str = record["content"]
    return characters(content) if content.startswith('"') else content


def success(result: Any, **more: Any) -> Response:
    body = {"result": result, "success": True, "errors": [], "messages": [], **more}
    return Response(200, body)


def listing(request: Request, found: list[Any]) -> Response:
    size = min(int(request.query["per_page"]), MOST_PER_PAGE)
    number = int(request.query["page"])
    info = {
        "page": number,
        "per_page": size,
        "count": len(page(found, number, size)),
        "total_count": len(found),
        "total_pages": -(-len(found) // size),
    }
    return success(page(found, number, size), result_info=info)


def refusal(status: int, code: int, words: str) -> Response:
    errors = [{"code": code, "message": words}]
    return Response(status, {"result": None, "success": False, "errors": errors, "messages": []})


@pytest.fixture
def fake() -> Iterator[FakeCloudflare]:
    fake = FakeCloudflare()
    with fake.running():
        yield fake


@pytest.fixture
def provider(fake: FakeCloudflare) -> Callable[[str], Cloudflare]:
    return lambda token: Cloudflare(secret(token), fake.url)


class TestCloudflare(TokenProviderContract):
    minimum_ttl = 60
    account_zones = frozenset(ZONES.values())


@pytest.mark.parametrize("code", [81057, 81058])
def test_an_identical_record_that_somebody_made_meanwhile_is_success(
    fake: FakeCloudflare, provider: Callable[[str], Cloudflare], code: int
) -> None:
    fake.fault(refusal(400, code, "An identical record already exists."), writing=True)
    provider(TOKEN).add_txt(challenge())


def test_a_record_that_somebody_removed_meanwhile_is_success(
    fake: FakeCloudflare, provider: Callable[[str], Cloudflare]
) -> None:
    cloudflare = provider(TOKEN)
    cloudflare.add_txt(challenge())
    fake.fault(refusal(404, 81044, "Record does not exist."), writing=True)
    cloudflare.remove_txt(challenge())


def test_a_header_that_cloudflare_cannot_read_is_a_credential_that_it_refuses(
    fake: FakeCloudflare, provider: Callable[[str], Cloudflare]
) -> None:
    fake.fault(refusal(400, 6003, "Invalid request headers"))
    with pytest.raises(ProviderDenied, match="Invalid request headers"):
        provider(TOKEN).add_txt(challenge())


def test_records_without_quotes_and_on_later_pages_are_found(
    fake: FakeCloudflare, provider: Callable[[str], Cloudflare]
) -> None:
    """As the dashboard made them; a name may have more than one page of them."""
    others = [f"other {number}" for number in range(7)]
    for other in others:
        fake.seed(other)
    fake.seed(SECOND)
    cloudflare = provider(TOKEN)
    cloudflare.add_txt(challenge(SECOND))
    assert fake.writes == []
    cloudflare.add_txt(challenge(FIRST))
    cloudflare.remove_txt(challenge(SECOND))
    cloudflare.remove_txt(challenge(FIRST))
    assert fake.published(NAME) == others


@pytest.mark.parametrize("status", ["pending", "moved", "deactivated"])
def test_of_two_zones_of_one_name_the_one_at_work_is_written(
    fake: FakeCloudflare, provider: Callable[[str], Cloudflare], status: str
) -> None:
    """Anybody may have added the domain to an account once."""
    fake.others = [{"id": "left-over", "name": ZONE, "status": status}]
    provider(TOKEN).add_txt(challenge())
    assert fake.published(NAME) == [FIRST]


def test_of_two_zones_at_work_none_is_guessed(
    fake: FakeCloudflare, provider: Callable[[str], Cloudflare]
) -> None:
    fake.others = [{"id": "of-another-account", "name": ZONE, "status": "active"}]
    with pytest.raises(ProviderError, match="of-another-account"):
        provider(TOKEN).add_txt(challenge())


def test_only_what_is_refused_in_a_zone_is_about_that_zone(
    provider: Callable[[str], Cloudflare],
) -> None:
    record = TxtRecord(ZONE, NAME, FIRST, 60)
    for token, zone in ((READER, ZONE), ("unknown", "")):
        with pytest.raises(ProviderDenied) as refused:
            provider(token).add_txt(record)
        assert refused.value.zone == zone
