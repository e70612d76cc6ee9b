"""OVHcloud, against a server that checks signatures and rights, and serves what was refreshed."""

from __future__ import annotations

import fnmatch
import hashlib
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from certd_providers import ovh
from certd_providers.ovh import OVH

from certd.api import (
    ConfigError,
    ProviderBusy,
    ProviderDenied,
    ProviderError,
    Secret,
    SecretReference,
    TxtRecord,
)
from certd.contract import FIRST, SECOND
from certd.testing.dns import Account
from tests.fake_api import FakeAPI, Request, Response
from tests.http_contract import HTTPProviderContract

ZONE = "example.com"
KEY, SECRET, CONSUMER = (
    "7kbG7Bk7S9Nt7ZSV",
    "EXEgWIz07P0HYwtQDs7cNIqCiQaWSuHF",
    "MtSwSrPpNjqfVSmJhLbPyr",
)
NAME = f"_acme-challenge.{ZONE}"
RIGHTS = [
    ("GET", "/domain/zone"),
    ("GET", "/domain/zone/*"),
    ("POST", "/domain/zone/*"),
    ("DELETE", "/domain/zone/*/record/*"),
]


class Server(FakeAPI):
    ahead = 7200  # seconds of its clock before ours

    def __init__(self) -> None:
        super().__init__()
        self.rights = list(RIGHTS)
        self.records: dict[int, dict[str, Any]] = {}
        self.served: list[dict[str, Any]] = []
        self.put("www", "A", "192.0.2.1")
        self.put("", "TXT", '"v=spf1 -all"')
        self.number = 5_000_000_000

    def put(self, label: str, kind: str, target: str, ttl: int = 3600) -> dict[str, Any]:
        self.number = getattr(self, "number", 1) + 1
        one = {"id": self.number, "zone": ZONE, "ttl": ttl, "fieldType": kind}
        self.records[self.number] = {**one, "subDomain": label, "target": target}
        return self.records[self.number]

    def published(self, name: str) -> list[str]:
        label = name.removesuffix(ZONE).rstrip(".")
        found = [
            one for one in self.served if (one["fieldType"], one["subDomain"]) == ("TXT", label)
        ]
        return [one["target"].strip('"') for one in found]

    def refused(self, status: int, code: str, message: str) -> Response:
        names = {400: "400 Bad Request", 403: "403 Forbidden", 404: "404 Not Found"}
        return Response(status, {"errorCode": code, "httpCode": names[status], "message": message})

    def answer(self, request: Request) -> Response:
        now = int(time.time()) + self.ahead
        if request.target == "/1.0/auth/time":
            return Response(200, now)
        headers = request.headers
        if headers.get("X-Ovh-Application") != KEY:
            return self.refused(403, "INVALID_KEY", "This application key is invalid")
        if headers.get("X-Ovh-Consumer") != CONSUMER:
            return self.refused(403, "NOT_CREDENTIAL", "This credential does not exist")
        if abs(int(headers["X-Ovh-Timestamp"]) - now) > 30:
            return self.refused(400, "QUERY_TIME_OUT", "Query out of time")
        url = self.url + request.target
        body, stamp = request.body.decode(), headers["X-Ovh-Timestamp"]
        signed = "+".join((SECRET, CONSUMER, request.method, url, body, stamp))
        if headers["X-Ovh-Signature"] != "$1$" + hashlib.sha1(signed.encode()).hexdigest():
            return self.refused(400, "INVALID_SIGNATURE", "Invalid signature")
        path = request.path.removeprefix("/1.0")
        if not any(
            method == request.method and fnmatch.fnmatchcase(path, right)
            for method, right in self.rights
        ):
            return self.refused(403, "NOT_GRANTED_CALL", "This call has not been granted")
        return self.obey(request, path)

    def obey(self, request: Request, path: str) -> Response:
        if (request.method, path) == ("GET", "/domain/zone"):
            return Response(200, [ZONE, "example.net"])
        match = re.fullmatch(r"/domain/zone/([^/]+)/(record|refresh)(?:/(\d+))?", path)
        if not match or match[1] != ZONE:
            return Response(
                404, {"class": "Client::NotFound", "message": "This service does not exist"}
            )
        if match[2] == "refresh":
            self.served = [dict(one) for one in self.records.values()]
            return Response(200, None)
        if match[3]:
            number = int(match[3])
            if number not in self.records:
                return Response(404, {"message": "The requested object (id = …) does not exist"})
            one = self.records[number]
            if request.method == "DELETE":
                del self.records[number]
                return Response(200, None)
            return Response(200, one)
        if request.method == "GET":
            wanted = {key: value for key, value in request.query.items() if value}
            assert wanted.keys() <= {"fieldType", "subDomain"}
            return Response(
                200,
                [
                    number
                    for number, one in self.records.items()
                    if all(one[key] == value for key, value in wanted.items())
                ],
            )
        body = request.json
        if body.keys() - {"fieldType", "subDomain", "target", "ttl"} or body["ttl"] < 60:
            return Response(400, {"class": "Client::BadRequest", "message": "Invalid ttl"})
        if len(body["target"]) > 255:
            return Response(400, {"message": "Invalid target"})
        return Response(200, self.put(body["subDomain"], "TXT", body["target"], body["ttl"]))


def reference(text: str) -> SecretReference:
    return SecretReference("plain", Secret(text))


@pytest.fixture
def fake() -> Iterator[Server]:
    server = Server()
    with server.running():
        yield server


@pytest.fixture
def provider(fake: Server) -> OVH:
    return OVH(KEY, reference(SECRET), reference(CONSUMER), url=f"{fake.url}/1.0/")


@pytest.fixture
def account(fake: Server, provider: OVH) -> Account:
    denied = replace(provider, consumer_key=reference("x" * 32))
    return Account(provider, ZONE, fake.published, denied, (SECRET, CONSUMER, "x" * 32))


class TestOVH(HTTPProviderContract): ...


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"application_key": "another"}, "application key is invalid", id="AK"),
        pytest.param({"application_secret": reference("another")}, "INVALID_SIGNATURE", id="AS"),
        pytest.param({"consumer_key": reference("another")}, "does not exist", id="CK"),
    ],
)
def test_each_key_is_told_to_be_wrong(provider: OVH, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ProviderDenied, match=f"{words}.*createToken"):
        replace(provider, **change).add_txt(TxtRecord(ZONE, NAME, FIRST, 60))


@pytest.mark.parametrize("right", RIGHTS[1:])
def test_a_right_that_is_missing_is_named(
    fake: Server, provider: OVH, right: tuple[str, str]
) -> None:
    provider.add_txt(TxtRecord(ZONE, NAME, FIRST, 60))
    fake.rights.remove(right)
    with pytest.raises(ProviderDenied, match=r"not been granted.*DELETE /domain/zone/ZONE"):
        provider.remove_txt(TxtRecord(ZONE, NAME, FIRST, 60))


def test_a_request_that_came_too_late_is_made_again(fake: Server, provider: OVH) -> None:
    fake.fault(Response(200, int(time.time())))  # not its time: our clock is behind it
    with pytest.raises(ProviderBusy, match="QUERY_TIME_OUT"):
        provider.add_txt(TxtRecord(ZONE, NAME, FIRST, 60))
    provider.add_txt(TxtRecord(ZONE, NAME, FIRST, 60))


def test_the_apex_and_records_of_others_stay(fake: Server, provider: OVH) -> None:
    before = [dict(one) for one in fake.records.values()]
    provider.add_txt(TxtRecord(ZONE, ZONE, FIRST, 60))
    assert sorted(fake.published(ZONE)) == sorted([FIRST, "v=spf1 -all"])
    provider.remove_txt(TxtRecord(ZONE, ZONE, FIRST, 60))
    assert list(fake.records.values()) == before


def test_a_value_that_somebody_has_quoted_is_the_same(fake: Server, provider: OVH) -> None:
    fake.put("_acme-challenge", "TXT", f'"{FIRST}"')
    provider.add_txt(TxtRecord(ZONE, NAME, FIRST, 60))
    assert fake.published(NAME) == [FIRST]
    provider.remove_txt(TxtRecord(ZONE, NAME, FIRST, 60))
    assert fake.published(NAME) == []


@pytest.mark.parametrize(("asked", "got"), [(1, 60), (60, 60), (300, 300)])
def test_the_ttl_is_the_shortest_that_it_takes(
    fake: Server, provider: OVH, asked: int, got: int
) -> None:
    provider.add_txt(TxtRecord(ZONE, NAME, SECOND, asked))
    assert fake.served[-1]["ttl"] == got


def test_an_unknown_zone_is_told_in_its_words(provider: OVH) -> None:
    with pytest.raises(ProviderError, match="This service does not exist"):
        provider.add_txt(TxtRecord("example.org", "_acme-challenge.example.org", FIRST, 60))


def test_an_endpoint_is_one_of_a_list() -> None:
    check = OVH.__dataclass_fields__["endpoint"].metadata["check"]
    for name in ovh.ENDPOINTS:
        check(name)
    with pytest.raises(ConfigError, match="ovh-eu, ovh-ca"):
        check("ovh-mars")
