"""digitalocean against a server that behaves as its API's reference says."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from certd_providers.digitalocean import DigitalOcean

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
MOST_PER_PAGE = 3
LONGEST = 512  # characters of a record's data


class FakeDigitalOcean(FakeAPI):
    prefix = "/v2"

    def __init__(self) -> None:
        super().__init__()
        self.records: list[dict[str, Any]] = []
        self._ids = itertools.count(28448429)

    def published(self, name: str) -> list[str]:
        return [each["data"] for each in self.records if each["name"] == relative(name)]

    def ttl(self, name: str) -> int:
        return next(int(each["ttl"]) for each in self.records if each["name"] == relative(name))

    def seed(self, data: str) -> None:
        record = {"type": "TXT", "name": relative(NAME), "data": data, "ttl": 1800}
        self.records.append({**record, "id": next(self._ids)})

    def answer(self, request: Request) -> Response:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in (TOKEN, READER):
            return refusal(401, "Unauthorized", f"Unable to authenticate you with {token}")
        if token == READER and request.method != "GET":
            return refusal(403, "forbidden", "You are not authorized to perform this operation")
        match request.method, request.steps:
            case "GET", ("domains",):
                return self._listing(request, "domains", [{"name": name} for name in DOMAINS])
            case "GET", ("domains", "example.com", "records"):
                return self._listing(request, "domain_records", list(self._matching(request.query)))
            case "POST", ("domains", "example.com", "records"):
                return self._create(request.json)
            case "DELETE", ("domains", "example.com", "records", number):
                kept = [each for each in self.records if str(each["id"]) != number]
                gone, self.records = kept != self.records, kept
                if gone:
                    return Response(204)
        return refusal(404, "not_found", "The resource you were accessing could not be found.")

    def _matching(self, query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        # The filter wants a whole name, as does the documentation.
        for record in self.records:
            whole = ZONE if record["name"] == "@" else f"{record['name']}.{ZONE}"
            if record["type"] == query["type"] and whole == query["name"]:
                yield record

    def _listing(self, request: Request, key: str, found: list[Any]) -> Response:
        size, number = (
            min(int(request.query["per_page"]), MOST_PER_PAGE),
            int(request.query["page"]),
        )
        pages = {}
        if number * size < len(found):
            pages["next"] = f"{self.url}/{'/'.join(request.steps)}?page={number + 1}"
        links = {"pages": pages} if pages else {}
        shown = page(found, number, size)
        return Response(200, {key: shown, "links": links, "meta": {"total": len(found)}})

    def _create(self, body: dict[str, Any]) -> Response:
        if body["ttl"] < 30:
            return malformed("Ttl must be greater than or equal to 30.")
        if not body["data"] or len(body["data"]) > LONGEST:
            return malformed("Data is too long (maximum is 512 characters)")
        self.records.append({"priority": None, "tag": None, **body, "id": next(self._ids)})
        return Response(201, {"domain_record": self.records[-1]})


def refusal(status: int, key: str, words: str) -> Response:
    return Response(status, {"id": key, "message": words})


def malformed(words: str) -> Response:
    return refusal(422, "unprocessable_entity", words)


@pytest.fixture
def fake() -> Iterator[FakeDigitalOcean]:
    fake = FakeDigitalOcean()
    with fake.running():
        yield fake


@pytest.fixture
def provider(fake: FakeDigitalOcean) -> Callable[[str], DigitalOcean]:
    return lambda token: DigitalOcean(secret(token), fake.url)


class TestDigitalOcean(TokenProviderContract):
    minimum_ttl = 30
    account_zones = frozenset(DOMAINS)


def test_a_record_that_is_there_twice_goes_wholly(
    fake: FakeDigitalOcean, provider: Callable[[str], DigitalOcean]
) -> None:
    """Two writes that overtook each other leave it twice: neither may stay."""
    for data in (FIRST, SECOND, FIRST):
        fake.seed(data)
    provider(TOKEN).remove_txt(challenge(FIRST))
    assert fake.published(NAME) == [SECOND]


def test_a_record_on_a_later_page_is_found(
    fake: FakeDigitalOcean, provider: Callable[[str], DigitalOcean]
) -> None:
    others = [f"other {number}" for number in range(7)]
    for data in [*others, FIRST]:
        fake.seed(data)
    digitalocean = provider(TOKEN)
    digitalocean.add_txt(challenge(FIRST))
    assert fake.writes == []
    digitalocean.remove_txt(challenge(FIRST))
    assert fake.published(NAME) == others


def test_a_record_that_somebody_removed_meanwhile_is_success(
    fake: FakeDigitalOcean, provider: Callable[[str], DigitalOcean]
) -> None:
    fake.seed(FIRST)
    fake.fault(refusal(404, "not_found", "The resource …"), writing=True)
    provider(TOKEN).remove_txt(challenge(FIRST))


def test_data_that_is_too_long_is_refused_in_its_words(
    fake: FakeDigitalOcean, provider: Callable[[str], DigitalOcean]
) -> None:
    with pytest.raises(ProviderError, match="too long"):
        provider(TOKEN).add_txt(challenge("x" * 513))


def test_a_token_without_domain_delete_is_told_at_removal(
    fake: FakeDigitalOcean, provider: Callable[[str], DigitalOcean]
) -> None:
    fake.seed(FIRST)
    fake.fault(refusal(403, "forbidden", "You are not authorized"), writing=True)
    with pytest.raises(ProviderDenied, match="domain:delete"):
        provider(TOKEN).remove_txt(challenge(FIRST))
