"""desec against a server that behaves as https://desec.readthedocs.io/ says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from certd_providers.desec import DeSEC

from certd.api import ProviderBusy, ProviderDenied, ProviderError
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
    relative,
    secret,
)
from tests.http_contract import WholeSetContract

DOMAINS = [*(f"{number}.example" for number in range(4)), ZONE]
PER_PAGE = 2
LABEL = relative(NAME)


class FakeDeSEC(FakeAPI):
    prefix = "/api/v1"

    def __init__(self) -> None:
        super().__init__()
        self.sets: dict[str, dict[str, Any]] = {}  # of the one zone, by subname
        self.minimum_ttl = 3600

    def published(self, name: str) -> list[str]:
        found = self.sets.get(relative(name).replace("@", ""), {"records": []})
        return [characters(text) for text in found["records"]]

    def ttl(self, name: str) -> int:
        return int(self.sets[relative(name)]["ttl"])

    def answer(self, request: Request) -> Response:
        token = request.headers.get("Authorization", "").removeprefix("Token ")
        if token not in (TOKEN, READER):
            return Response(401, {"detail": f"Invalid token {token}."})
        if token == READER and request.method != "GET":
            return Response(403, {"detail": "Insufficient token permissions."})
        match request.method, request.steps:
            case "GET", ("domains", ""):
                return self._listing(request)
            case "GET", ("domains", zone, "") if zone in DOMAINS:
                return Response(200, {"name": zone, "minimum_ttl": self.minimum_ttl, "keys": []})
            case "GET", ("domains", "example.com", "rrsets", subname, "TXT", ""):
                found = self.sets.get("" if subname == "@" else subname)
                if subname and found:
                    return Response(200, {"subname": subname, "type": "TXT", **found})
            case "PATCH", ("domains", "example.com", "rrsets", ""):
                return self._bulk(request.json)
        return Response(404, {"detail": "Not found."})

    def _listing(self, request: Request) -> Response:
        if "cursor" not in request.query:
            return Response(400, {"detail": "Pagination required."})
        number = int(request.query["cursor"].removeprefix("p") or 1)
        links = [f'<{self.url}/domains/?cursor=>; rel="first"']
        if number > 1:
            links.append(f'<{self.url}/domains/?cursor=p{number - 1}>; rel="prev"')
        if number * PER_PAGE < len(DOMAINS):
            links.append(f'<{self.url}/domains/?cursor=p{number + 1}>; rel="next"')
        domains = [{"name": name} for name in page(DOMAINS, number, PER_PAGE)]
        return Response(200, domains, {"Link": ", ".join(links)})

    def _bulk(self, body: list[dict[str, Any]]) -> Response:
        [change] = body
        assert change["type"] == "TXT"
        subname, present = change.get("subname", ""), self.sets.get(change.get("subname", ""))
        if subname == "@":
            return Response(400, [{"subname": ["This is no alias here."]}])
        if change["records"] == []:
            self.sets.pop(subname, None)
            return Response(200, [])
        if "ttl" not in change and not present:
            return Response(400, [{"ttl": ["This field is required."]}])
        ttl = change.get("ttl") or (present or {})["ttl"]
        if not self.minimum_ttl <= ttl <= 604800:
            words = f"Ensure this value is greater than or equal to {self.minimum_ttl}."
            return Response(400, [{"ttl": [words]}])
        try:
            values = [characters(text) for text in change["records"]]
        except ValueError:
            return Response(400, [{"records": ["Cannot parse record contents."]}])
        if len(set(values)) < len(values):
            return Response(400, [{"records": ["Duplicate record contents."]}])
        self.sets[subname] = {"ttl": ttl, "records": change["records"]}
        return Response(200, [{"subname": subname, "type": "TXT", **self.sets[subname]}])


@pytest.fixture
def fake() -> Iterator[FakeDeSEC]:
    fake = FakeDeSEC()
    with fake.running():
        yield fake


@pytest.fixture
def provider(fake: FakeDeSEC) -> Callable[[str], DeSEC]:
    return lambda token: DeSEC(secret(token), fake.url)


class TestDeSEC(WholeSetContract):
    minimum_ttl = 3600
    account_zones = frozenset(DOMAINS)


def test_the_least_ttl_is_what_the_domain_says(
    fake: FakeDeSEC, provider: Callable[[str], DeSEC]
) -> None:
    fake.minimum_ttl = 900
    provider(TOKEN).add_txt(challenge(ttl=60))
    assert fake.ttl(NAME) == 900


def test_a_day_that_is_used_up_is_told_with_the_hours_to_wait(
    fake: FakeDeSEC, provider: Callable[[str], DeSEC]
) -> None:
    words = "Request was throttled. Expected available in 79200 seconds."
    fake.fault(Response(429, {"detail": words}, {"Retry-After": "79200"}), writing=True)
    with pytest.raises(ProviderBusy, match="79200 seconds") as busy:
        provider(TOKEN).add_txt(challenge())
    assert busy.value.retry_after == 79200


def test_the_values_of_others_stay_as_they_wrote_them(
    fake: FakeDeSEC, provider: Callable[[str], DeSEC]
) -> None:
    theirs = ['"v=spf1 -all"', f'"{SECOND[:9]}" "{SECOND[9:]}"']
    fake.sets[LABEL] = {"ttl": 86400, "records": theirs}
    provider(TOKEN).add_txt(challenge(FIRST))
    assert fake.sets[LABEL] == {"ttl": 86400, "records": [*theirs, f'"{FIRST}"']}
    provider(TOKEN).remove_txt(challenge(FIRST))
    assert fake.sets[LABEL] == {"ttl": 86400, "records": theirs}


def test_a_set_that_was_made_when_shorter_ttls_were_allowed(
    fake: FakeDeSEC, provider: Callable[[str], DeSEC]
) -> None:
    """Its TTL is sent back only where a value is added, and is raised then."""
    fake.sets[LABEL] = {"ttl": 60, "records": ['"theirs"']}
    provider(TOKEN).add_txt(challenge(FIRST))
    assert fake.sets[LABEL] == {"ttl": 3600, "records": ['"theirs"', f'"{FIRST}"']}


def test_a_policy_that_does_not_allow_the_name_is_told(
    fake: FakeDeSEC, provider: Callable[[str], DeSEC]
) -> None:
    fake.fault(Response(403, {"detail": "Insufficient token permissions."}), writing=True)
    with pytest.raises(ProviderDenied, match="Insufficient token permissions") as denied:
        provider(TOKEN).add_txt(challenge())
    assert "policy" in denied.value.next
    assert denied.value.zone == ZONE


def test_what_it_finds_malformed_is_told_in_its_words(
    fake: FakeDeSEC, provider: Callable[[str], DeSEC]
) -> None:
    fake.fault(Response(400, [{"subname": ["This name is not allowed."]}]), writing=True)
    with pytest.raises(ProviderError, match="This name is not allowed"):
        provider(TOKEN).add_txt(challenge())
