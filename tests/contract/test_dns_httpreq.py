"""lego's HTTP protocol, against a service as its documentation describes one."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from certd_providers.httpreq import HTTPReq

from certd.api import (
    ConfigError,
    DNSChallenge,
    ProviderDenied,
    ProviderError,
    Secret,
    SecretReference,
    TxtRecord,
)
from certd.contract import FIRST, SECOND
from certd.testing.dns import Account, DNSProviderContract
from tests.dnsd_fake import Asked, Fake, Mishaps, Reply, direct, running

__all__ = ["direct"]

ZONE = "example.com"
NAME = f"_acme-challenge.{ZONE}"
USER, PASSWORD = "certd", "pässwörd"
TOKEN, THUMBPRINT = (
    "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0",
    "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M",
)


def value_of(key_authorization: str) -> str:
    digest = hashlib.sha256(key_authorization.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class Server(Fake):
    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, list[str]] = defaultdict(list)

    def answer(self, asked: Asked) -> Reply:
        expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if asked.headers.get("Authorization") != f"Basic {expected}":
            return Reply(401, "Unauthorized\n", "text/plain")
        if asked.headers.get("Content-Type") != "application/json" or asked.method != "POST":
            return Reply(400, "bad request\n", "text/plain")
        body = json.loads(asked.body)
        match body:
            case {"fqdn": str(fqdn), "value": str(value), **rest} if (
                fqdn.endswith(".") and not rest
            ):
                name = fqdn.removesuffix(".")
            case {"domain": str(domain), "token": str(token), "keyAuth": str(key), **rest} if (
                not rest
            ):
                assert key.startswith(f"{token}.")
                name, value = f"_acme-challenge.{domain}", value_of(key)
            case _:
                return Reply(400, "unknown message\n", "text/plain")
        if not f".{name}".endswith(f".{ZONE}"):
            return Reply(404, f"no zone for {name}\n", "text/plain")
        there = self.values[name]
        match asked.path:
            case "/acme/present" if value not in there:
                there.append(value)
            case "/acme/cleanup" if value in there:
                there.remove(value)
            case "/acme/present" | "/acme/cleanup":
                pass
            case _:
                return Reply(404, "404 page not found\n", "text/plain")
        return Reply(200)


def reference(text: str) -> SecretReference:
    return SecretReference("plain", Secret(text))


@pytest.fixture
def fake() -> Iterator[Server]:
    server = Server()
    with running(server):
        yield server


@pytest.fixture
def provider(fake: Server) -> HTTPReq:
    return HTTPReq(f"{fake.url}/acme/", USER, reference(PASSWORD))


@pytest.fixture
def account(fake: Server, provider: HTTPReq) -> Account:
    denied = replace(provider, password=reference("wrong password"))
    basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    secrets = (PASSWORD, basic, "wrong password")
    return Account(provider, ZONE, lambda name: fake.values[name], denied, secrets)


class TestHTTPReq(Mishaps, DNSProviderContract):
    lenient = True  # its documentation says nothing of what is in an answer


def test_in_raw_mode_the_service_makes_name_and_value(fake: Server, provider: HTTPReq) -> None:
    raw = replace(provider, mode="RAW")
    keys = [f"{TOKEN}.{THUMBPRINT}{number}" for number in range(2)]
    records = [
        TxtRecord(ZONE, NAME, value_of(key), 60, DNSChallenge(ZONE, TOKEN, Secret(key)))
        for key in keys
    ]
    for record in (*records, records[0]):
        raw.add_txt(record)
    assert fake.values[NAME] == [record.value for record in records]
    raw.remove_txt(records[0])
    raw.remove_txt(records[0])
    assert fake.values[NAME] == [records[1].value]
    assert THUMBPRINT not in repr(records)


def test_in_raw_mode_a_key_authorization_is_in_no_error(fake: Server, provider: HTTPReq) -> None:
    key = f"{TOKEN}.{THUMBPRINT}"
    record = TxtRecord(ZONE, NAME, value_of(key), 60, DNSChallenge(ZONE, TOKEN, Secret(key)))
    fake.instead = [Reply(400, f"cannot take {key}")]
    with pytest.raises(ProviderError, match="cannot take") as refused:
        replace(provider, mode="RAW").add_txt(record)
    assert key not in str(refused.value)


def test_in_raw_mode_a_record_without_a_challenge_is_refused(
    fake: Server, provider: HTTPReq
) -> None:
    raw = replace(provider, mode="RAW")
    for change in (raw.add_txt, raw.remove_txt):
        with pytest.raises(ProviderError, match="of a CA's challenge"):
            change(TxtRecord(ZONE, NAME, FIRST, 60))
    assert not fake.asked


@pytest.mark.parametrize(
    ("form", "sent"),
    [
        pytest.param(lambda url: HTTPReq(url), None, id="none"),
        pytest.param(lambda url: HTTPReq(url, "u", reference("p")), "Basic dTpw", id="both"),
        pytest.param(lambda url: HTTPReq(url, "u"), "Basic dTo=", id="no password"),
    ],
)
def test_authentication_is_sent_where_it_is_set(
    fake: Server, form: Callable[[str], HTTPReq], sent: str | None
) -> None:
    with pytest.raises(ProviderDenied, match="401"):
        form(f"{fake.url}/acme").add_txt(TxtRecord(ZONE, NAME, SECOND, 60))
    assert fake.asked[0].headers.get("Authorization") == sent


def test_a_redirection_is_not_followed(fake: Server, provider: HTTPReq) -> None:
    fake.instead = [Reply(307, headers={"Location": f"{fake.url}/elsewhere"})]
    with pytest.raises(ProviderError, match="HTTP 307"):
        provider.add_txt(TxtRecord(ZONE, NAME, FIRST, 60))
    assert len(fake.asked) == 1


def test_there_is_one_other_mode() -> None:
    check = HTTPReq.__dataclass_fields__["mode"].metadata["check"]
    check("")
    check("RAW")
    with pytest.raises(ConfigError, match="no mode"):
        check("raw")


@pytest.mark.parametrize(
    "url",
    [
        "dns.example.com",
        "ftp://dns.example.com",
        "https://",
        "https://u:p@dns.example.com",
        "http://[",
        "https://dns.example.com/?a=b",
        "https://dns.example.com:0",
        "https://dns.example.com:99999",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="url is no address"):
        HTTPReq.__dataclass_fields__["url"].metadata["check"](url)
