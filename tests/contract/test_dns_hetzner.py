"""hetzner against a server that behaves as https://docs.hetzner.cloud/reference/cloud says."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from certd_providers.hetzner import Hetzner

from certd.api import ProviderBusy, ProviderError
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
from tests.http_contract import TokenProviderContract

ZONES = [*(f"{number}.example" for number in range(4)), ZONE]
MOST_PER_PAGE = 2


class FakeHetzner(FakeAPI):
    prefix = "/v1"

    def __init__(self) -> None:
        super().__init__()
        self.sets: dict[str, dict[str, Any]] = {}  # of the one zone, by label
        self._ids = itertools.count(1)
        self.slow = False  # whether a change takes until somebody calls settle()
        self.running_actions: list[Callable[[], None]] = []

    def settle(self) -> None:
        while self.running_actions:
            self.running_actions.pop(0)()

    def published(self, name: str) -> list[str]:
        found = self.sets.get(relative(name), {"records": []})
        return [characters(each["value"]) for each in found["records"]]

    def ttl(self, name: str) -> int:
        return int(self.sets[relative(name)]["ttl"])

    def answer(self, request: Request) -> Response:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in (TOKEN, READER):
            return refusal(401, "unauthorized", f"unable to authenticate {token}")
        if token == READER and request.method != "GET":
            return refusal(403, "token_readonly", "token is only allowed to perform GET requests")
        match request.method, request.steps:
            case "GET", ("zones",):
                return self._listing(request)
            case "GET", ("zones", "example.com", "actions"):
                assert request.query == {"status": "running"}
                found = [{"id": 7, "status": "running"} for _ in self.running_actions]
                return Response(200, {"actions": found, "meta": {"pagination": {}}})
            case "GET", ("zones", "example.com", "rrsets", label, "TXT") if label in self.sets:
                return Response(200, {"rrset": {"id": f"{label}/TXT", **self.sets[label]}})
            case "POST", ("zones", "example.com", "rrsets", label, "TXT", "actions", action):
                return self._act(label, action, request.json)
        return refusal(404, "not_found", "resource not found")

    def _listing(self, request: Request) -> Response:
        size = min(int(request.query["per_page"]), MOST_PER_PAGE)
        number, last = int(request.query["page"]), -(-len(ZONES) // size)
        zones = [{"id": ZONES.index(name), "name": name} for name in page(ZONES, number, size)]
        following = number + 1 if number < last else None
        pagination = {"page": number, "per_page": size, "next_page": following, "last_page": last}
        return Response(200, {"zones": zones, "meta": {"pagination": pagination}})

    def _act(self, label: str, action: str, body: dict[str, Any]) -> Response:
        present = self.sets.get(label, {"name": label, "type": "TXT", "ttl": None, "records": []})
        asked = [each["value"] for each in body["records"]]
        texts = [each["value"] for each in present["records"]]
        if action == "remove_records":
            if "ttl" in body or not set(asked) <= set(texts):
                return refusal(422, "invalid_input", "invalid input in field 'records'")
            texts = [text for text in texts if text not in asked]
        elif action == "add_records":
            try:
                assert all(characters(text) for text in asked)
            except ValueError:
                return refusal(422, "invalid_input", "TXT records must be fully quoted")
            if len({*asked, *texts}) < len(asked) + len(texts):
                return refusal(422, "uniqueness_error", "the record exists already")
            ttl = body.get("ttl", present["ttl"])
            if (ttl is not None and ttl < 60) or (present["records"] and ttl != present["ttl"]):
                return refusal(422, "invalid_input", "invalid input in field 'ttl'")
            present, texts = {**present, "ttl": ttl}, [*texts, *asked]

        def done() -> None:
            self.sets.pop(label, None)
            if texts:
                self.sets[label] = {**present, "records": [{"value": text} for text in texts]}

        self.running_actions.append(done)
        if not self.slow:
            self.settle()
        return Response(
            201, {"action": {"id": next(self._ids), "status": "running", "error": None}}
        )


def refusal(status: int, code: str, words: str) -> Response:
    return Response(status, {"error": {"code": code, "message": words, "details": {}}})


@pytest.fixture
def fake() -> Iterator[FakeHetzner]:
    fake = FakeHetzner()
    with fake.running():
        yield fake


@pytest.fixture
def provider(fake: FakeHetzner) -> Callable[[str], Hetzner]:
    return lambda token: Hetzner(secret(token), fake.url)


class TestHetzner(TokenProviderContract):
    minimum_ttl = 60
    account_zones = frozenset(ZONES)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(refusal(423, "locked", "an action is running"), id="locked"),
        pytest.param(refusal(409, "conflict", "it has changed"), id="conflict"),
        pytest.param(
            Response(
                201,
                {
                    "action": {
                        "id": 7,
                        "status": "error",
                        "error": {"code": "action_failed", "message": "it was not"},
                    }
                },
            ),
            id="the action has failed",
        ),
    ],
)
def test_what_is_in_the_way_for_a_moment_is_told_as_passing(
    fake: FakeHetzner, provider: Callable[[str], Hetzner], reply: Response
) -> None:
    fake.fault(reply, writing=True)
    with pytest.raises(ProviderBusy, match=r"an action is running|has changed|was not"):
        provider(TOKEN).add_txt(challenge())


@pytest.mark.parametrize(
    "reply",
    [
        refusal(422, "incorrect_zone_mode", "the zone is a secondary"),
        refusal(423, "protected", "the set is protected"),
    ],
    ids=["secondary", "protected"],
)
def test_what_stays_in_the_way_is_not(
    fake: FakeHetzner, provider: Callable[[str], Hetzner], reply: Response
) -> None:
    fake.fault(reply, writing=True)
    with pytest.raises(ProviderError, match=r"the (zone|set) is") as refused:
        provider(TOKEN).add_txt(challenge())
    assert not isinstance(refused.value, ProviderBusy)


def test_a_value_that_the_lost_call_has_added_is_success(
    fake: FakeHetzner, provider: Callable[[str], Hetzner]
) -> None:
    """A look just afterwards may not see it yet."""
    fake.fault(refusal(422, "uniqueness_error", "the record exists already"), writing=True)
    provider(TOKEN).add_txt(challenge())


def test_the_values_of_others_keep_their_ttl_and_ours_goes_by_its_own_text(
    fake: FakeHetzner, provider: Callable[[str], Hetzner]
) -> None:
    theirs = [{"value": '"v=spf1" " -all"'}, {"value": f'"{SECOND[:9]}" "{SECOND[9:]}"'}]
    fake.sets[relative(NAME)] = {"name": "_acme-challenge", "ttl": 86400, "records": theirs}
    hetzner = provider(TOKEN)
    hetzner.add_txt(challenge(FIRST))
    assert fake.published(NAME) == ["v=spf1 -all", SECOND, FIRST]
    assert fake.ttl(NAME) == 86400
    hetzner.remove_txt(challenge(SECOND))
    hetzner.remove_txt(challenge(FIRST))
    assert fake.published(NAME) == ["v=spf1 -all"]


def test_a_change_that_is_still_under_way_is_no_reason_to_do_nothing(
    fake: FakeHetzner, provider: Callable[[str], Hetzner]
) -> None:
    """Or what is removed just after it was added would stay for good, and the other way round."""
    hetzner = provider(TOKEN)
    fake.slow = True
    hetzner.add_txt(challenge())
    with pytest.raises(ProviderBusy, match="under way") as busy:
        hetzner.remove_txt(challenge())
    assert busy.value.retry_after
    fake.settle()
    hetzner.remove_txt(challenge())
    with pytest.raises(ProviderBusy, match="under way"):
        hetzner.add_txt(challenge())
    fake.settle()
    hetzner.add_txt(challenge())
    fake.settle()
    assert fake.published(NAME) == [FIRST]
